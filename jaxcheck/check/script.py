"""A call of a door as a script that makes it again."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

# Lines of a script.
LINES = 20
# Of a call, what says how it is made and not what is checked.
UNSAID = ("budget", "progress", "where", "name", "resume", "devices")
WIDTH = 110


def of_call(door: str, given: inspect.BoundArguments, small: dict[str, Any], wrong: str) -> str:
    """The script: what it needs, the data, the call, and what it shows.

    Args:
        door: "check_grad" or "check_rule".
        small: the arguments that were made smaller.
        wrong: the leaf that fails.
    """
    head, words, positional = [], [], []
    for name, value in given.arguments.items():
        if name in small:
            value = small[name]
        if name in UNSAID or value is given.signature.parameters[name].default:
            continue
        text = name
        if callable(value) and not isinstance(value, type):
            lines, text = _function(value, name)
            head += [line for line in lines if line not in head]
        elif name in small:
            words.append((name, value))
        else:
            text = repr(value)
        kind = given.signature.parameters[name].kind
        starred = kind is inspect.Parameter.VAR_POSITIONAL
        positional.append(
            f"*{text}" if starred else text if kind is not inspect.Parameter.KEYWORD_ONLY else f"{name}={text}"
        )
    data = [line for name, value in words for line in _assigned(name, value)]
    if len(head) + len(data) + 6 > LINES:
        data = [f"{name} = {written(value)}" for name, value in words]
    shown = f"print(report)  # FAIL: {wrong}" if wrong else "print(report)"
    return (
        "\n".join(
            [
                "import jax",
                "import numpy as np",
                "import jaxcheck",
                *head,
                "",
                *data,
                f"report = jaxcheck.{door}({', '.join(positional)})",
                shown,
            ]
        )
        + "\n"
    )


def _function(f: Callable[..., Any], name: str) -> tuple[list[str], str]:
    """(lines that bring a function in, what it is called there)."""
    inner = inspect.unwrap(f)
    module, path = getattr(inner, "__module__", ""), getattr(inner, "__qualname__", "")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if found is None or "<" in path or (found is not f and found is not inner):
        code = getattr(inner, "__code__", None)
        place = f", {os.path.basename(code.co_filename)}:{code.co_firstlineno}" if code else ""
        return [f"# {name} is {path or repr(f)}{place}: run this where it is defined"], name
    first = path.split(".")[0]
    lines = [f"from {module} import {first}"]
    file = getattr(sys.modules[module], "__file__", None)
    if module == "__main__" and file:
        lines = [
            f"import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(file))!r})",
            f"from {os.path.splitext(os.path.basename(file))[0]} import {first}",
        ]
    return lines, path


def _assigned(name: str, value: Any) -> list[str]:
    """`name = value`, a dict's entries and a sequence's items on lines of their own where one is too long."""
    whole = f"{name} = {written(value)}"
    if len(whole) <= WIDTH or type(value) not in (dict, list, tuple):
        return [whole]
    if type(value) is dict:
        return [f"{name} = {{", *(f"    {k!r}: {written(v)}," for k, v in value.items()), "}"]
    opened, closed = "[]" if type(value) is list else "()"
    return [f"{name} = {opened}", *(f"    {written(v)}," for v in value), closed]


def written(value: Any) -> str:
    """A value as Python writes it; what is no container of Python's comes apart by its leaves."""
    if type(value) is dict:
        return "{" + ", ".join(f"{k!r}: {written(v)}" for k, v in value.items()) + "}"
    if type(value) in (list, tuple):
        inside = ", ".join(map(written, value)) + ("," if type(value) is tuple and len(value) == 1 else "")
        return f"[{inside}]" if type(value) is list else f"({inside})"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _array(value)
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return repr(value)
    leaves, structure = jax.tree.flatten(value)
    inside = ", ".join(map(written, leaves))
    return f"jax.tree.unflatten({structure}, [{inside}])" if len(leaves) != 1 or leaves[0] is not value else repr(value)


def _array(x: Any) -> str:
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return f"jax.random.wrap_key_data({_array(np.asarray(jax.random.key_data(x)))})"
    made = "jax.numpy" if isinstance(x, jax.Array) else "np"
    dtype = f"np.{x.dtype}" if x.dtype.kind != "V" else f"jax.numpy.{x.dtype}"
    flat = np.asarray(x)
    if flat.size != 1 and any((flat == n).all() for n in (0, 1)):
        return f"{made}.{'ones' if flat.any() else 'zeros'}({flat.shape}, {dtype})"
    return f"{made}.array({_numbers(flat)}, {dtype})"


def _numbers(x: np.ndarray) -> str:
    if x.ndim:
        return "[" + ", ".join(map(_numbers, x)) + "]"
    if x.dtype.kind in "biu":
        return repr(x.item())
    if x.dtype.kind == "c":
        return repr(complex(x))
    shortest = repr(x.item()) if x.dtype.itemsize == 8 else f"{np.float32(x)!s}"
    return {"nan": "np.nan", "inf": "np.inf", "-inf": "-np.inf"}.get(shortest, shortest.removesuffix(".0") or "0")
