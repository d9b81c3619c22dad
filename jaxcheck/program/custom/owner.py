"""Whose rule is it: JAX's own, an installed library's, or the user's."""

from __future__ import annotations

import functools
import os
import re
import site
import sysconfig
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import source_info_util

from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.custom import rules

_JAX = os.path.dirname(os.path.abspath(jax.__file__)) + os.sep
_SITES = tuple(
    os.path.abspath(p) + os.sep
    for p in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"),
              *site.getsitepackages(), site.getusersitepackages()} if p
)  # fmt: skip
_STDLIB = os.path.abspath(sysconfig.get_path("stdlib")) + os.sep
# Code that only carries a rule from the function it was written for to JAX.
_WRAPPERS = tuple(
    name.replace("/", os.sep)
    for name in (
        "jax/_src/custom_derivatives.py", "jax/_src/linear_util.py", "jax/_src/api_util.py",
        "jax/_src/api.py", "jax/_src/util.py", "jax/_src/hijax.py", "jax/_src/ad_checkpoint.py",
        "jax/_src/core.py", "jax/_src/pjit.py", "jax/_src/tree_util.py", "jax/_src/interpreters/",
        "jax/_src/traceback_util.py", "jax/_src/custom_batching.py", "equinox/_ad.py",
        "equinox/_module/", "equinox/_module.py", "equinox/_jit.py", "flax/core/lift.py",
        "flax/linen/transforms.py", "flax/nnx/transforms/", "jax/_src/config.py",
    )
)  # fmt: skip
# What lies between a function that was called and the equation that it made.
_BINDING = tuple(
    os.path.join("jax", "_src", *name) for name in (("lax", "lax.py"), ("source_info_util.py",), ("tree.py",))
)
_SOURCE = re.compile(r"^(?P<name>.*?) at (?P<file>.+):(?P<line>\d+)$", re.DOTALL)
_ATTRIBUTES = ("f", "fun", "fn", "func", "fwd", "bwd", "jvp", "__wrapped__", "prim", "traced")
_DATA = (str, bytes, int, float, complex, type, np.ndarray, jax.Array)


class Owner(NamedTuple):
    """Where the function that a rule was written for stands."""

    name: str
    file: str
    line: int
    origin: str


def origin_of(file: str) -> str:
    """`jax`, `third_party` or `user`; what cannot be told is the user's."""
    path = os.path.abspath(file) if file and not file.startswith("<") else file
    if path.startswith(_JAX):
        return "jax"
    return "third_party" if path.startswith((*_SITES, _STDLIB)) else "user"


def _is_wrapper(file: str) -> bool:
    nowhere = (_STDLIB, "<unknown", "<frozen")
    return any(part in file for part in _WRAPPERS) or file.startswith(nowhere)


def stated_by(value: Any) -> tuple[str, str, int] | None:
    """Name, file and line out of the debug information of a jaxpr or a wrapped function."""
    info = getattr(value, "debug_info", None)
    match = _SOURCE.match(str(getattr(info, "func_src_info", "") or ""))
    return (match["name"], match["file"], int(match["line"])) if match else None


def _code(value: Any) -> tuple[str, str, int] | None:
    code = getattr(value, "__code__", None)
    return (value.__name__, code.co_filename, code.co_firstlineno) if code else None


def _class_code(value: Any) -> tuple[str, str, int] | None:
    """Where the class of a callable object, or of a hijax primitive, says what it computes."""
    for method in ("expand", "__call__"):
        place = _code(getattr(type(value), method, None))
        if place is not None and not _is_wrapper(place[1]):
            return type(value).__name__, place[1], place[2]
    return None


def _neighbours(value: Any) -> Iterator[Any]:
    if isinstance(value, functools.partial):
        yield value.func
        yield from value.args
        yield from value.keywords.values()
        return
    for name in _ATTRIBUTES:
        try:
            yield ask(_attribute, value, name)
        except Refused:
            continue
    yield getattr(value, "__self__", None)
    for cell in getattr(value, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # an empty cell
            continue
    transforms = getattr(value, "transforms", ())
    for transform in transforms if isinstance(transforms, (tuple, list)) else ():
        yield from transform[1] if isinstance(transform, tuple) and len(transform) > 1 else ()


def _attribute(value: Any, name: str) -> Any:
    inner = vars(value).get(name) if hasattr(value, "__dict__") else None
    return inner if inner is not None else getattr(value, name, None)


def _functions(roots: list[Any], limit: int = 5000) -> Iterator[tuple[str, str, int]]:
    """Every function reachable from the roots through wrappers only, nearest first."""
    queue, seen = list(roots), set()
    while queue and limit:
        value, limit = queue.pop(0), limit - 1
        if value is None or id(value) in seen or isinstance(value, _DATA):
            continue
        seen.add(id(value))
        if isinstance(value, (tuple, list)):
            queue += list(value)[:32]
            continue
        if isinstance(value, dict):
            queue += list(value.values())[:32]
            continue
        place = _code(value)
        if place is not None and not _is_wrapper(place[1]):
            yield place
            continue  # a real function's own closure leads away from the rule
        place = _class_code(value) if place is None else None
        if place is not None:
            yield place
            continue
        queue += list(_neighbours(value))


def _until_user(places: Iterator[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    found = []
    for place in places:
        found.append(place)
        if origin_of(place[1]) == "user":
            break
    return found


def _roots(eqn: Any) -> list[Any]:
    keys = ("bwd", "fwd_jaxpr_thunk", "fwd", "jvp_jaxpr_fun", "jvp_jaxpr_thunk", "jvp", "_prim")
    return [eqn.params[k] for k in keys if eqn.params.get(k) is not None]


def owner(eqn: Any) -> Owner:
    """The owner of the rule in an equation; wrappers of several libraries are looked through."""
    primal = rules.primal(eqn)
    declared = stated_by(getattr(primal, "jaxpr", primal))
    if _is_hi(eqn):
        declared = None  # traced here, through the primitive's own class
    roots = _roots(eqn)
    stated = [d for d in (declared, *map(stated_by, roots)) if d and not _is_wrapper(d[1])]
    # What is stated is enough, unless the function is JAX's and the rule may not be.
    found = stated or _until_user(_functions(roots))
    # The user's rule for a library's function is the user's.
    found.sort(key=lambda place: ("user", "third_party", "jax").index(origin_of(place[1])))
    if found:
        return Owner(*found[0], origin_of(found[0][1]))
    name = declared[0] if declared else _hi_name(eqn)
    file, line = _call_site(eqn)
    # Wrappers' own rules, with nobody's function behind them, are the library's (equinox has some).
    return Owner(name, file, line, origin_of(declared[1]) if declared else "user")


def _is_hi(eqn: Any) -> bool:
    return "_prim" in eqn.params


def _hi_name(eqn: Any) -> str:
    prim = eqn.params.get("_prim")
    return type(prim).__name__ if prim is not None else eqn.primitive.name


def _call_site(eqn: Any) -> tuple[str, int]:
    text = source_info_util.summarize(eqn.source_info)
    match = re.match(r"(.+?):(\d+)(?::\d+)?(?: .*)?$", text)
    return (match[1], int(match[2])) if match else ("<unknown>", 0)


def caller_origin(eqn: Any) -> str:
    """Whose function called the one of `jax.lax` that made this equation."""
    trace = eqn.source_info.traceback
    for frame in trace.frames if trace is not None else ():
        if not _is_wrapper(frame.file_name) and not frame.file_name.endswith(_BINDING):
            return origin_of(frame.file_name)
    return "user"


def selector(which: str | Callable[[Any], bool]) -> Callable[[Owner], bool] | None:
    """The test on owners that a word stands for, or None where `which` is a callable.

    Raises:
        ValueError: if `which` is neither a known word nor callable.
    """
    words = {"user": ("user",), "third_party": ("user", "third_party"),
             "all": ("user", "third_party", "jax")}  # fmt: skip
    if callable(which):
        return None
    if which not in words:
        raise ValueError(f"which must be one of {sorted(words)} or a callable, got {which!r}")
    return lambda owner: owner.origin in words[which]


__all__ = ["Owner", "caller_origin", "origin_of", "owner", "selector", "stated_by"]
