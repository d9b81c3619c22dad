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

from jaxcheck.program import constants
from jaxcheck.program.compile import Program
from jaxcheck.program.interpret import constants as constants_of
from jaxcheck.program.interpret import walk, walk_jaxprs
from jaxcheck.program.kernels import without_kernels
from jaxcheck.program.leaks import LeakedTracer, refuse_leaks
from jaxcheck.program.mode import NOT_TRACEABLE, is_wide
from jaxcheck.program.native import jaxpr_of
from jaxcheck.program.quiet import quiet
from jaxcheck.program.rules import is_reverse_only
from jaxcheck.program.shadow import (
    Unliftable,
    islands,
    lift,
    low_precision,
    to_float64,
    trace_float64,
)
from jaxcheck.program.strip import count_rules, strip
from jaxcheck.program.widths import lifted_dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A program with how it came about: `how` is float64, lifted or native; `note` names what stayed native."""

    program: Program
    out_tree: Any
    how: str
    note: str = ""
    closed: Any = None  # as traced, rules in place, before any lifting
    unit: float = float(np.finfo(np.float64).eps)
    wide: bool = True  # whether `closed` was traced in the 64-bit mode
    rounded: bool = False  # whether float64 data in it was rounded, as the caller's 32-bit mode does
    mixed: bool = False  # whether `closed` has to be emitted again before anything is made of it
    stale: bool = False  # whether JAX gave its NumPy data the type of another mode, called in the 64-bit mode
    effects: tuple[str, ...] = ()  # what it does beside computing, prints and logs included
    source: Callable | None = None  # what was traced, of flat inputs: the last resort for its derivatives


def trace(f: Callable, leaves: Sequence[Any], extras: Sequence[Any], precision: str = "float64") -> Traced:
    """Trace `f(leaves, extras)`.

    Raises:
        NOT_TRACEABLE: when `f` needs concrete values (NumPy, Python control flow on numbers).
        LeakedTracer: when `f` keeps values of one call for a later one.
        Whatever `f` itself raises.
    """
    if precision == "native":
        closed, shape = jaxpr_of(f, list(leaves), list(extras))
        wide = is_wide()
        refuse_leaks(closed, "the function")
        said = tuple(sorted({type(e).__name__.removesuffix("Effect") for e in closed.effects}))
        closed = quiet(constants.settled(closed, wide))
        unit = coarsest(closed)
        tree = jax.tree_util.tree_structure(shape)
        mixed = wide and constants.mixed(closed)
        program = Program.of(_emitted_again(closed) if mixed else closed)
        return Traced(
            program,
            tree,
            "native",
            closed=closed,
            unit=unit,
            wide=wide,
            mixed=mixed,
            effects=said,
            source=_flat(f, len(leaves)),
        )
    traced = trace_float64(f, list(leaves), list(extras))
    rounded = traced.wide and not is_wide()
    seen, closed = traced.closed, without_kernels(traced.closed)
    refuse_leaks(seen, "the function")
    native = islands(closed)
    mixed = traced.wide and constants.mixed(closed)
    if traced.how != "float64" or native or closed.effects or mixed:
        # Re-emitted once and traced again: from here on it is an ordinary float64 program.
        run = lift(closed, native_islands=True, wide=traced.wide)
        try:
            with jax.enable_x64(True):
                closed = jax.make_jaxpr(run)(*(to_float64(x) for x in [*leaves, *extras]))
            closed = constants.settled(closed, True)
        except Unliftable as error:
            return as_it_is(seen, traced.out_tree, str(error), traced.wide, rounded)
    note = f"computed natively: {', '.join(native)}" if native else ""
    unit = coarsest(seen) if native else float(np.finfo(np.float64).eps)
    return Traced(
        Program.of(closed),
        traced.out_tree,
        traced.how,
        note,
        seen,
        unit,
        traced.wide,
        rounded,
        mixed,
        traced.mixed,
        source=_flat(f, len(leaves)),
    )


def in_float64(traced: Traced, values: Sequence[Any]) -> Traced | None:
    """A program that was traced natively, emitted again in float64: what it computes but for the rounding, with
    every choice that it made by dtype. None where parts of it cannot be lifted.

    Args:
        values: of its flat inputs.
    """
    closed = traced.program.closed
    if islands(closed):
        return None
    run = lift(closed, wide=traced.wide)
    try:
        with jax.enable_x64(True):
            out = constants.settled(jax.make_jaxpr(run)(*map(to_float64, values)), True)
    except Unliftable:
        return None
    return dataclasses.replace(
        traced, program=Program.of(out), how="lifted", closed=closed, unit=float(np.finfo(np.float64).eps)
    )


def _flat(f: Callable, count: int) -> Callable:
    return lambda *flat: jax.tree_util.tree_leaves(f(list(flat[:count]), list(flat[count:])))


def _emitted_again(closed: Any) -> Any:
    """A program of the 64-bit mode in float64 throughout, custom rules included: see `constants.mixed`."""
    with jax.enable_x64(True):
        avals = [jax.ShapeDtypeStruct(a.shape, lifted_dtype(a.dtype)) for a in closed.in_avals]
        return constants.settled(jax.make_jaxpr(lift(closed, native_islands=True, wide=True))(*avals), True)


def base(traced: Traced, stripped: bool = False) -> Any:
    """The closed jaxpr that derivatives are made of: as traced, with the user's custom rules in force or without."""
    closed = strip(without_kernels(traced.closed), "user") if stripped else traced.closed
    return _emitted_again(closed) if traced.mixed else closed


def as_it_is(closed: Any, tree: Any, why: str, wide: bool, rounded: bool) -> Traced:
    """A program that cannot be lifted, in its own precision, with error bars to match."""
    return Traced(Program.of(closed), tree, "native", why, closed, coarsest(closed), wide, rounded)


def as_function(closed: Any) -> Callable:
    """A closed jaxpr as a function of its flat inputs; custom rules stay in force."""
    return jaxpr_as_fun(closed)


def coarsest(closed: Any) -> float:
    """Largest rounding unit among the inexact inputs and outputs of a program."""
    units = [0.0]
    for aval in [*closed.in_avals, *closed.out_avals]:
        if jax.dtypes.issubdtype(getattr(aval, "dtype", np.dtype(int)), np.inexact):
            units.append(float(jnp.finfo(aval.dtype).eps))
    return max(units) or float(np.finfo(np.float64).eps)


def cast(avals: Sequence[Any], flat: Sequence[Any]) -> list[Any]:
    """Values in the dtypes that a program was traced with."""
    return [
        jnp.asarray(x).astype(a.dtype) if jax.dtypes.issubdtype(a.dtype, np.inexact) else x
        for x, a in zip(flat, avals, strict=True)
    ]


def call(program: Any, avals: Sequence[Any], flat: Sequence[Any]) -> list[Any]:
    """Call a bound program on values cast to the dtypes it was traced with."""
    return program(*cast(avals, flat))


def gradient(
    traced: Traced,
    count: int,
    *,
    stripped: bool,
    leaves: Sequence[Any],
    extras: Sequence[Any],
    precision: str = "float64",
) -> Traced:
    """Trace the gradients of a traced program, (G,) real outputs, with respect to its first `count` inputs.

    The result's outputs are one array (G, *leaf) per input.

    Args:
        stripped: without the user's custom rules (the autodiff witness) or with them.

    Raises:
        Whatever differentiating raises (reverse mode through while_loop: ValueError).
    """
    closed = base(traced, stripped)
    columns = closed.out_avals[0].shape[0]

    def make(f: Callable) -> Callable:
        def grad(inexact, rest):
            flat = [x.astype(a.dtype) for x, a in zip(inexact, closed.in_avals[:count], strict=True)]
            out, pull = jax.vjp(lambda xs: f(*xs, *rest)[0], flat)
            if columns == 1:
                return [g[None] for g in pull(jnp.ones_like(out))[0]]
            return jax.lax.map(lambda e: pull(e)[0], jnp.eye(columns, dtype=out.dtype))

        return grad

    native = own_values(closed, [*leaves, *extras])
    found = derivative(traced, make, [native[:count], native[count:]], stripped=stripped, precision=precision)
    # Nothing is differentiated after this: rules that are left over are only in the way.
    return dataclasses.replace(found, program=plain(found))


def derivative(
    traced: Traced,
    make: Callable[[Callable], Callable],
    args: Sequence[Any],
    *,
    stripped: bool = False,
    precision: str = "float64",
) -> Traced:
    """Trace `make(f)`, a derivative of the traced program `f` of flat inputs, as `derived` does.

    A rule that is defined inside the function may hold values of the trace that the program came from; then the
    function itself is differentiated, in one trace.
    """
    try:
        return derived(traced, make(jaxpr_as_fun(base(traced, stripped))), args, precision)
    except jax.errors.UnexpectedTracerError:
        if stripped or traced.source is None:
            raise
        return derived(traced, make(traced.source), args, precision)


def own_values(closed: Any, values: Sequence[Any]) -> list[Any]:
    """Values cast to the dtypes that a program was traced with."""
    return [
        np.asarray(x).astype(a.dtype) if hasattr(x, "dtype") or np.isscalar(x) else x
        for x, a in zip(values, closed.in_avals, strict=True)
    ]


def derived(traced: Traced, f: Callable, args: Sequence[Any], precision: str = "float64") -> Traced:
    """Trace a function made from `traced.closed` (its derivative, say), in the mode of that trace; lift after.

    Differentiating first and lifting after means that no custom rule has to be lifted as a rule.

    Args:
        args: pytrees of values in the program's own dtypes.
    """
    with jax.enable_x64(traced.wide):
        inner, shape = jax.make_jaxpr(f, return_shape=True)(*args)
    rounded = traced.rounded
    refuse_leaks(inner, "a custom rule")
    inner = quiet(constants.settled(inner, traced.wide, rounded))
    tree = jax.tree_util.tree_structure(shape)
    if precision == "native":
        return Traced(Program.of(inner), tree, "native", "", inner, coarsest(inner), traced.wide, rounded)
    inner = without_kernels(inner)
    narrow, native = low_precision(inner), islands(inner)
    if not narrow and not native and not inner.effects:
        return Traced(Program.of(inner), tree, "float64", closed=inner, wide=traced.wide, rounded=rounded)
    run = lift(inner, native_islands=True, wide=traced.wide)
    try:
        with jax.enable_x64(True):
            out = jax.make_jaxpr(run)(*(to_float64(x) for x in jax.tree_util.tree_leaves(args)))
        out = constants.settled(out, True)
    except Unliftable as error:
        return as_it_is(inner, tree, str(error), traced.wide, rounded)
    unit = coarsest(inner) if native else float(np.finfo(np.float64).eps)
    note = f"computed natively: {', '.join(native)}" if native else ""
    how = "native" if native else "lifted"
    return Traced(Program.of(out), tree, how, note, inner, unit, traced.wide, rounded)


def holds_numpy_data(traced: Traced) -> bool:
    """Whether NumPy data of the caller's stands, rounded to float32, in programs of the 32-bit mode: since JAX 0.10
    remembers that by object, what is called in the 64-bit mode may meet it there (see `constants`)."""
    return traced.stale or (
        not traced.wide
        and not is_wide()
        and any(
            isinstance(c, np.ndarray) and c.ndim and str(c.dtype) in ("float32", "complex64")
            for program in walk_jaxprs(traced.closed)
            for c in constants_of(program)
        )
    )


def refuse_reverse_only(traced: Traced) -> None:
    """Raise JAX's TypeError where forward mode met a custom_vjp: tracing goes through, running does not."""
    if any(is_reverse_only(eqn) for eqn, _ in walk(traced.program.closed)):
        raise TypeError("can't apply forward-mode differentiation (jvp) to a custom_vjp function.")


def plain(traced: Traced) -> Program:
    """The program without any custom rule, JAX's own included: values are the same, and no rule, a new object
    with every trace, is among what identifies it, so a second check finds the compiled form."""
    closed = traced.program.closed
    if not count_rules(closed, "all"):
        return traced.program
    try:
        return Program.of(strip(closed, "all"))
    except (NotImplementedError, TypeError, ValueError, KeyError):
        return traced.program


__all__ = [
    "NOT_TRACEABLE",
    "LeakedTracer",
    "Traced",
    "Unliftable",
    "as_function",
    "base",
    "call",
    "cast",
    "derivative",
    "derived",
    "gradient",
    "holds_numpy_data",
    "in_float64",
    "own_values",
    "plain",
    "refuse_reverse_only",
    "trace",
]
