"""What is said below a field of a class: an editor shows it at the field, and `help` of the class with its own text.

Python itself keeps the first only as far as the source goes.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

Class = TypeVar("Class", bound=type)


def documented(cls: Class, file: str) -> Class:
    """The class, whose docstring names its fields with theirs; the source is read when somebody asks."""
    cls.__doc__ = _Text(cls.__doc__ or "", file)  # type: ignore[assignment]
    return cls


class _Text:
    def __init__(self, text: str, file: str):
        self._text, self._file = text, file

    def __get__(self, instance: object, owner: type) -> str:
        try:
            tree = ast.parse(Path(self._file).read_text(encoding="utf-8"))
        except (OSError, SyntaxError):  # installed without its source
            return self._text
        said = [textwrap.indent(f"{name}: {text}", "    ") for name, text in _fields(tree, owner.__name__)]
        return "\n".join([inspect.cleandoc(self._text), "", "Attributes:", *said])


def _fields(tree: ast.Module, name: str) -> Iterator[tuple[str, str]]:
    body = next((node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), [])
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield field.target.id, " ".join(text.value.split())
