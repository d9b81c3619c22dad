"""Leaves of another kind than JAX's: those that hide numbers from a check, and what to do about each.

JAX itself refuses to differentiate a tree with such a leaf. Carried along in silence it would be worse
than refused: its numbers move the loss, and no part of a report would say that they were not looked at.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import itertools
import types
from collections.abc import Iterable, Mapping, Set
from typing import Any

import jax
import numpy as np

# How many things inside an object are looked at before it is believed to hold no number.
SEARCHED = 10_000
_NO_NUMBER = (
    str,
    bytes,
    bytearray,
    int,
    type,
    types.ModuleType,
    enum.Enum,
    np.dtype,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.NoneType,
)


def is_array(x: Any) -> bool:
    """Whether `x` is an array or a scalar of an array's kind, of any dtype."""
    return isinstance(x, (np.ndarray, np.generic, jax.Array))


def refuse(path: str, leaf: Any, *, differentiated: bool = True) -> None:
    """Raise TypeError where a leaf hides numbers.

    Args:
        path: the leaf as the caller writes it.
        differentiated: False for trees that are only handed on: there any object may stand.
    """
    if isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(
            f"`{path}` is a masked array, which JAX does not take: fill it (x.filled(0)) and pass the mask beside it"
        )
    if isinstance(leaf, getattr(jax, "Ref", ())):
        raise TypeError(
            f"`{path}` is a Ref, a mutable array of JAX's, and a check runs the function many times, and "
            "in float64: pass what it holds, ref[...]"
        )
    if isinstance(leaf, jax.Array):
        return
    if is_array(leaf):
        _refuse_width(path, leaf.dtype)
    if not differentiated:
        return
    if is_array(leaf):
        _refuse_dtype(path, leaf)
        return
    kind = type(leaf).__name__
    if not isinstance(leaf, type) and (hasattr(leaf, "__jax_array__") or hasattr(leaf, "__array__")):
        raise TypeError(
            f"`{path}` is a {kind} object, which JAX does not differentiate: make it an array with "
            "jnp.asarray(x) or np.asarray(x)"
        )
    held = "" if isinstance(leaf, (float, complex)) else first_number(leaf)
    if held:
        raise TypeError(
            f"`{path}` is a {kind} object that JAX does not know as a tree; it holds {held}, which would "
            f"be carried along unchecked. {_advice(leaf)}"
        )


def no_wider(x: Any) -> Any:
    """NumPy's long doubles as float64, which is the widest that JAX knows; anything else as it is."""
    wide = isinstance(x, (np.ndarray, np.generic)) and x.dtype.char in "gG"
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64) if wide else x


def _refuse_width(path: str, dtype: np.dtype) -> None:
    if dtype.kind in "fc" and (not dtype.isnative or dtype.itemsize > (8 if dtype.kind == "f" else 16)):
        wanted = "float64" if dtype.kind == "f" else "complex128"
        if not dtype.isnative and dtype.itemsize < np.dtype(wanted).itemsize:
            wanted = dtype.newbyteorder("=").name
        raise TypeError(
            f"`{path}` has dtype {dtype.str if not dtype.isnative else dtype}, which JAX does not have: "
            f"use x.astype(np.{wanted})"
        )


def _refuse_dtype(path: str, leaf: Any) -> None:
    dtype = leaf.dtype
    if dtype.fields or (dtype.kind == "O" and first_number(leaf)):
        what = "records" if dtype.fields else "objects that hold numbers"
        raise TypeError(
            f"`{path}` is an array of {what}, which JAX does not take: make it an array of floats, or a "
            "dict of such arrays"
        )


def _advice(leaf: Any) -> str:
    kind = type(leaf).__name__
    if isinstance(leaf, Mapping):
        return "Pass a plain dict."
    if isinstance(leaf, (Set, collections.deque, range)):
        return "Pass a list or a tuple."
    if dataclasses.is_dataclass(leaf):
        return (
            f"Register the class, jax.tree_util.register_dataclass({kind}), with meta_fields= for what is not "
            "to be differentiated."
        )
    if callable(leaf):
        return f"Register {kind} with jax.tree_util.register_pytree_node, or use jax.tree_util.Partial."
    return f"Register {kind} with jax.tree_util.register_pytree_node, or pass a dict of its arrays."


def first_number(x: Any) -> str:
    """The first float, complex or array of them inside an object, as "`.w` (float32 array)"; "" for none.

    Functions are not looked into: what they close over is theirs. The settings of a callable object (a
    slope, a rate) are not parameters either; its arrays are.
    """
    waiting, seen = collections.deque([("", x, True)]), set()
    while waiting and len(seen) < SEARCHED:
        where, value, floats = waiting.popleft()
        if id(value) in seen or isinstance(value, _NO_NUMBER) or type(value).__module__.partition(".")[0] == "jax":
            continue
        seen.add(id(value))
        if isinstance(value, (float, complex)):
            if floats:
                return f"`{where}` ({type(value).__name__})"
        elif is_array(value) and value.dtype != object:
            if jax.dtypes.issubdtype(value.dtype, np.inexact) and (floats or value.ndim):
                return f"`{where}` ({value.dtype} array)"
        else:
            floats = floats and not callable(value)
            inside = itertools.islice(_members(value), SEARCHED)
            waiting.extend((where + name, member, floats) for name, member in inside)
    return ""


def _members(x: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(x, np.ndarray):
        return ((f"[{i}]", v) for i, v in enumerate(x.flat))
    if isinstance(x, Mapping):
        return ((f"[{k!r}]", v) for k, v in x.items())
    if isinstance(x, (list, tuple, Set, collections.deque)):
        return ((f"[{i}]", v) for i, v in enumerate(x))
    slots = [s for c in type(x).__mro__ for s in getattr(c, "__slots__", ()) if isinstance(s, str) and s[:2] != "__"]
    # What functools.partial holds is in none of the two.
    named = {s: getattr(x, s, None) for s in (*slots, "func", "args", "keywords")} | getattr(x, "__dict__", {})
    return ((f".{k}", v) for k, v in named.items())
