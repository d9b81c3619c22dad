"""Tracing a function at its own dtypes, arrays as arguments and everything else as it is."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcheck.program.mode import is_traced


class NativeTrace(NamedTuple):
    """A function traced at its own dtypes; `dynamic` says which flat leaves are its arguments; `mixed` that its NumPy
    data stood there in the type of another mode (see `mistyped.mixed`)."""

    closed: Any
    flat: list[Any]
    dynamic: tuple[bool, ...]
    out_tree: Any
    mixed: bool = False


def is_dynamic(leaf: Any) -> bool:
    """Whether a leaf is data: Python ints, strings and the like may decide shapes and branches."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic)) or hasattr(leaf, "__jax_array__")


def refuse_no_function(name: str, f: Any) -> None:
    """Raise TypeError where what `name` was given is no function: here, and not when the result is called."""
    if not callable(f):
        raise TypeError(f"{name} takes a function and gives one; it was given {type(f).__name__}")


def trace_native(
    f: Callable[..., Any], args: Any, kwargs: Any, dynamic: Callable[[Any], bool] = is_dynamic
) -> NativeTrace:
    """Trace `f` on the leaves for which `dynamic` holds, the others as the constants they are.

    Raises:
        Whatever tracing `f` raises.
    """
    flat, tree = jax.tree_util.tree_flatten((args, kwargs))
    moving = tuple(map(dynamic, flat))
    seen = {}

    @functools.wraps(f, assigned=("__name__", "__qualname__", "__module__", "__doc__"), updated=())
    def flat_f(*values: Any) -> list[Any]:
        left = iter(values)
        full = [next(left) if m else leaf for m, leaf in zip(moving, flat, strict=True)]
        a, k = jax.tree_util.tree_unflatten(tree, full)
        out, seen["tree"] = jax.tree_util.tree_flatten(f(*a, **k))
        return out

    del flat_f.__wrapped__
    closed = jax.make_jaxpr(flat_f)(*(x for x, m in zip(flat, moving, strict=True) if m))
    return NativeTrace(closed, flat, moving, seen["tree"])


def jaxpr_of(f: Callable, leaves: list[Any], extras: list[Any]) -> Any:
    """(jaxpr, shapes of the results). What an attempt that fails has met is let go of: JAX keeps the trace (tracers,
    equations and finalizers refer to each other), and with it what it made of the NumPy data in this mode, which
    it would then take for the data in the 64-bit mode as well."""
    begun = []

    def noted(leaves: Any, extras: Any) -> Any:
        begun.extend(x._trace for x in leaves[:1] if is_traced(x))
        return f(leaves, extras)

    def let_go() -> None:
        for made in begun:
            getattr(made, "invalidate", lambda: None)()

    with contextlib.ExitStack() as failed:
        failed.callback(let_go)
        found = jax.make_jaxpr(noted, return_shape=True)(leaves, extras)
        failed.pop_all()
    return found
