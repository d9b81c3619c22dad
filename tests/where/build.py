"""From a case to a module with the mistake in it, written to a file so that its lines can be read."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from tests.where.cases import Case

NETS = Path(__file__).parent / "nets"
# Where a backward pass begins.
STARTS = ("def backward(", "def bwd(", "def rule(", "def back(", "def grad(")


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="jaxcheck_where_"))


def planted(case: Case) -> tuple[object, int]:
    """(the module, the line of the mistake). Raises ValueError where the text does not stand once in the pass."""
    source, line = _changed((NETS / f"{case.net}.py").read_text(encoding="utf-8"), case)
    return module(case.net, source), line


def planted_both(one: Case, other: Case) -> tuple[object, set[int]]:
    """A module with two mistakes in it, on different lines."""
    source, first = _changed((NETS / f"{one.net}.py").read_text(encoding="utf-8"), one)
    source, second = _changed(source, other)
    return module(one.net, source), {first, second}


def _changed(source: str, case: Case) -> tuple[str, int]:
    start = min(source.index(name) for name in STARTS if name in source)
    if source[start:].count(case.right) != 1:
        raise ValueError(f"{case.right!r} must stand once in the backward pass of {case.net}")
    at = source.index(case.right, start)
    return source[:at] + case.wrong + source[at + len(case.right) :], source[:at].count("\n") + 1


@cache
def module(net: str, source: str) -> object:
    """The module with this source."""
    name = f"where_{net}_{len(list(folder().iterdir()))}"
    file = folder() / f"{name}.py"
    file.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


def point(found: object, dtype=np.float64):
    """(parameters, further arguments) of a net."""
    rng = np.random.default_rng(7)
    return found.point(lambda *shape: np.asarray(0.7 * rng.normal(size=shape), dtype))
