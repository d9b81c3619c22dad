"""The three programs of a check, traced from the caller's functions.

`primal` computes the outputs, `manual` the gradient under test, `autodiff` the gradient of the same
program without its custom rules. All take flat leaves and flat extra inputs; all are plain jaxprs
in float64 (or in the caller's precision), so the rooms above need not know what was lifted or stripped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxcheck.program import asides, bits, constants, foreign, mistyped
from jaxcheck.program.float64.shadow import Unliftable, islands, lift, to_float64, trace_float64
from jaxcheck.program.float64.widths import lifted_dtype
from jaxcheck.program.interpret import constants as constants_of
from jaxcheck.program.interpret import walk_jaxprs
from jaxcheck.program.kernels import without_kernels
from jaxcheck.program.leaks import LeakedTracer, refuse_leaks
from jaxcheck.program.mode import NOT_TRACEABLE, is_wide
from jaxcheck.program.native import jaxpr_of
from jaxcheck.program.run.compile import Program
from jaxcheck.program.tidy import tidy


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
    unheard: frozenset[Any] = frozenset()  # host functions of branches that are not taken at the point, see `asides`
    source: Callable | None = None  # what was traced, of flat inputs: the last resort for its derivatives


def trace(f: Callable, leaves: Sequence[Any], extras: Sequence[Any], precision: str = "float64") -> Traced:
    """Trace `f(leaves, extras)`.

    Raises:
        NOT_TRACEABLE: when `f` needs concrete values (NumPy, Python control flow on numbers).
        LeakedTracer: when `f` keeps values of one call for a later one.
        Whatever `f` itself raises.
    """
    if precision == "native":
        return _natively(f, leaves, extras)
    traced = trace_float64(f, list(leaves), list(extras))
    rounded = traced.wide and not is_wide()
    seen, closed = traced.closed, without_kernels(traced.closed)
    refuse_leaks(seen, "the function")
    unheard = asides.silent(closed, [*leaves, *extras], traced.wide)
    native = (*islands(closed, unheard), *bits.narrow(closed, len(leaves)))
    mixed = traced.wide and mistyped.mixed(closed)
    if traced.how != "float64" or native or closed.effects or mixed or unheard or foreign.holds_foreign(closed):
        # Re-emitted once and traced again: from here on it is an ordinary float64 program.
        try:
            closed = lifted(closed, traced.wide, map(to_float64, [*leaves, *extras]), unheard=unheard)
        except Unliftable as error:
            return as_it_is(seen, traced.out_tree, str(error), traced.wide, rounded)
    how = "lifted" if unheard and not native else traced.how
    found = Traced(Program.of(closed), traced.out_tree, how, *said_of(native, seen), traced.wide, rounded)
    return dataclasses.replace(found, mixed=mixed, stale=traced.mixed, source=_flat(f, len(leaves)), unheard=unheard)


def _natively(f: Callable, leaves: Sequence[Any], extras: Sequence[Any]) -> Traced:
    """The program in the dtypes and the mode of the caller's."""
    closed, shape = jaxpr_of(f, list(leaves), list(extras))
    wide = is_wide()
    refuse_leaks(closed, "the function")
    effects = tuple(sorted({type(e).__name__.removesuffix("Effect") for e in closed.effects}))
    closed = tidy(closed, wide)
    mixed = wide and mistyped.mixed(closed)
    program = Program.of(emitted_again(closed) if mixed else closed)
    found = Traced(program, jax.tree_util.tree_structure(shape), "native", "", closed, coarsest(closed), wide)
    return dataclasses.replace(found, mixed=mixed, effects=effects, source=_flat(f, len(leaves)))


def lifted(
    closed: Any,
    wide: bool,
    inputs: Iterable[Any],
    native_islands: bool = True,
    unheard: frozenset[Any] = frozenset(),
) -> Any:
    """A program that was traced in the 64-bit mode (`wide`) or the other, emitted again in float64, and traced at
    `inputs` of float64; what `unheard` calls of Python give is NaN. Raises Unliftable."""
    run = lift(closed, native_islands=native_islands, wide=wide, unheard=unheard)
    with jax.enable_x64(True):
        return constants.settled(jax.make_jaxpr(run)(*inputs), True)


def said_of(native: Sequence[str], closed: Any) -> tuple[str, Any, float]:
    """(note, program, unit) of a `Traced` that was made from `closed`, and parts of which stayed `native`."""
    if native:
        return f"computed natively: {', '.join(native)}", closed, coarsest(closed)
    return "", closed, float(np.finfo(np.float64).eps)


def in_float64(traced: Traced, values: Sequence[Any]) -> Traced | None:
    """A program that was traced natively, emitted again in float64: what it computes but for the rounding, with
    every choice that it made by dtype. None where parts of it cannot be lifted.

    Args:
        values: of its flat inputs.
    """
    closed = traced.program.closed
    if islands(closed):
        return None
    try:
        out = lifted(closed, traced.wide, map(to_float64, values), native_islands=False)
    except Unliftable:
        return None
    return dataclasses.replace(
        traced, program=Program.of(out), how="lifted", closed=closed, unit=float(np.finfo(np.float64).eps)
    )


def _flat(f: Callable, count: int) -> Callable:
    return lambda *flat: jax.tree_util.tree_leaves(f(list(flat[:count]), list(flat[count:])))


def emitted_again(closed: Any) -> Any:
    """A program of the 64-bit mode in float64 throughout, custom rules included: see `mistyped.mixed`."""
    with jax.enable_x64(True):
        avals = [jax.ShapeDtypeStruct(a.shape, lifted_dtype(a.dtype)) for a in closed.in_avals]
        return lifted(closed, True, avals)


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


def data_apart(one: Any, other: Any) -> tuple[bool, ...]:
    """Of what a closed jaxpr holds, which are arrays of numbers that the other does not, where one of the two rounded
    some to float32: data that one of them multiplied out before it was rounded, or that JAX rounded for it in another
    mode. () where there are none."""
    (held, rounded), (others, too) = _data(one), _data(other)
    if held == others or not (rounded or too):
        return ()
    return tuple(key is not None and key[0] not in others for key in map(_key, one.consts))


def _data(closed: Any) -> tuple[frozenset[bytes], bool]:
    """(the numbers of each array that a program holds, but for what few bits can say, whether some are rounded)."""
    keys = [key for program in walk_jaxprs(closed) for c in constants_of(program) if (key := _key(c)) is not None]
    return frozenset(key for key, _ in keys), any(rounded for _, rounded in keys)


def _key(c: Any) -> tuple[bytes, bool] | None:
    """(the numbers of an array, whether they are rounded to float32); None where few bits say them, or it is none."""
    if not getattr(c, "ndim", 0) or not jax.dtypes.issubdtype(c.dtype, np.inexact):
        return None
    values = np.unique([np.real(c), np.imag(c)]).astype(np.float64)
    with np.errstate(over="ignore"):
        single, few = values.astype(np.float32), values.astype(jnp.bfloat16)
    if (few.astype(np.float64) == values).all():
        return None
    return values.tobytes(), bool((single == values).all())


__all__ = [
    "NOT_TRACEABLE",
    "LeakedTracer",
    "Traced",
    "as_function",
    "call",
    "cast",
    "data_apart",
    "holds_numpy_data",
    "in_float64",
    "trace",
]
