"""The three programs of a check, traced from the caller's functions.

`primal` computes the outputs, `manual` the gradient under test, `autodiff` the gradient of the same
program without its custom rules. All take flat leaves and flat extra inputs; all are plain jaxprs
in float64 (or in the caller's precision), so the rooms above need not know what was lifted or stripped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxcheck.program.compile import Program
from jaxcheck.program.shadow import (
    Unliftable,
    islands,
    lift,
    low_precision,
    to_float64,
    trace_float64,
)
from jaxcheck.program.strip import count_rules, strip


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A program with how it came about: `how` is float64, lifted or native; `note` names what stayed native."""

    program: Program
    out_tree: Any
    how: str
    note: str = ""
    closed: Any = None  # as traced, rules in place, before any lifting
    unit: float = float(np.finfo(np.float64).eps)


NOT_TRACEABLE = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
)


def trace(f: Callable, leaves: Sequence[Any], extras: Sequence[Any], precision: str = "float64") -> Traced:
    """Trace `f(leaves, extras)`.

    Raises:
        NOT_TRACEABLE: when `f` needs concrete values (NumPy, Python control flow on numbers).
        Whatever `f` itself raises.
    """
    if precision == "native":
        closed, shape = jax.make_jaxpr(f, return_shape=True)(list(leaves), list(extras))
        unit = coarsest(closed)
        return Traced(Program(closed), jax.tree_util.tree_structure(shape), "native", closed=closed, unit=unit)
    traced = trace_float64(f, list(leaves), list(extras))
    native = islands(traced.closed)
    closed = traced.closed
    if traced.how != "float64" or native or closed.effects:
        # Re-emitted once and traced again: from here on it is an ordinary float64 program.
        run = lift(closed, native_islands=True, wide=traced.wide)
        with jax.enable_x64(True):
            closed = jax.make_jaxpr(run)(*(to_float64(x) for x in [*leaves, *extras]))
    note = f"computed natively: {', '.join(native)}" if native else ""
    unit = coarsest(traced.closed) if native else float(np.finfo(np.float64).eps)
    return Traced(Program(closed), traced.out_tree, traced.how, note, traced.closed, unit)


def coarsest(closed: Any) -> float:
    """Largest rounding unit among the inexact inputs and outputs of a program."""
    units = [0.0]
    for aval in [*closed.in_avals, *closed.out_avals]:
        if jax.dtypes.issubdtype(getattr(aval, "dtype", np.dtype(int)), np.inexact):
            units.append(float(jnp.finfo(aval.dtype).eps))
    return max(units) or float(np.finfo(np.float64).eps)


def call(program: Any, avals: Sequence[Any], flat: Sequence[Any]) -> list[Any]:
    """Call a bound program on values cast to the dtypes it was traced with."""
    cast = []
    for x, aval in zip(flat, avals, strict=True):
        if jax.dtypes.issubdtype(aval.dtype, np.inexact):
            x = jnp.asarray(x).astype(aval.dtype)
        cast.append(x)
    return program(*cast)


def gradient(traced: Traced, count: int, *, stripped: bool, leaves: Sequence[Any], extras: Sequence[Any],
             precision: str = "float64") -> Traced:
    """Trace the gradients of a traced program, (G,) real outputs, with respect to its first `count` inputs.

    The result's outputs are one array (G, *leaf) per input.

    Args:
        stripped: without the user's custom rules (the autodiff witness) or with them.

    Raises:
        Whatever differentiating raises (reverse mode through while_loop: ValueError).
    """
    closed = strip(traced.closed, "user") if stripped else traced.closed
    f = jaxpr_as_fun(closed)

    columns = closed.out_avals[0].shape[0]

    def grad(inexact, rest):
        flat = [x.astype(a.dtype) for x, a in zip(inexact, closed.in_avals[:count], strict=True)]
        out, pull = jax.vjp(lambda xs: f(*xs, *rest)[0], flat)
        if columns == 1:
            return [g[None] for g in pull(jnp.ones_like(out))[0]]
        return jax.lax.map(lambda e: pull(e)[0], jnp.eye(columns, dtype=out.dtype))

    native = [np.asarray(x).astype(a.dtype) if hasattr(x, "dtype") or np.isscalar(x) else x
              for x, a in zip([*leaves, *extras], closed.in_avals, strict=True)]
    if precision == "native":
        return trace(grad, native[:count], native[count:], "native")
    if traced.how == "float64" and not low_precision(closed):
        with jax.enable_x64(True):
            out = jax.make_jaxpr(grad)(native[:count], native[count:])
        return Traced(Program(out), None, "float64", closed=out)
    return trace_lifted(grad, closed, count, native)


def trace_lifted(grad: Callable, closed: Any, count: int, native: Sequence[Any]) -> Traced:
    """Trace at the dtypes of `closed`, then re-emit in float64."""
    wide = any(str(a.dtype) in ("float64", "complex128", "int64", "uint64") for a in closed.in_avals)
    with jax.enable_x64(wide or bool(jax.config.jax_enable_x64)):
        inner = jax.make_jaxpr(grad)(list(native[:count]), list(native[count:]))
    with jax.enable_x64(True):
        args = [to_float64(x) for x in native]
        native_parts = islands(inner)
        out = jax.make_jaxpr(lift(inner, native_islands=bool(native_parts)))(*args)
    unit = coarsest(inner) if native_parts else float(np.finfo(np.float64).eps)
    return Traced(Program(out), None, "lifted", ", ".join(native_parts), inner, unit)


def plain(traced: Traced) -> Program:
    """The primal program without any custom rule, JAX's own included: values are the same, and its
    text does not name rules by address, so a second check finds the compiled form."""
    closed = traced.program.closed
    if not count_rules(closed, "all"):
        return traced.program
    try:
        return Program(strip(closed, "all"))
    except (NotImplementedError, TypeError, ValueError, KeyError):
        return traced.program


__all__ = ["NOT_TRACEABLE", "Traced", "Unliftable", "call", "gradient", "plain", "trace"]
