"""The path that is run: the programs that the caller's own dtypes make, beside those of float64.

A function may choose by dtype, so that what was judged in float64 is not what runs. Where both traces are one
formula (`alike`) there is nothing to choose. Where they are not, the native programs are emitted again in float64:
a problem like any other, free of rounding. What rounding itself does to the native run is measured apart from that.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.bars import FINE_UNIT
from jaxcheck.evidence.differences import Ladder
from jaxcheck.evidence.sketch import typical, units
from jaxcheck.evidence.witnesses import measure
from jaxcheck.problem.at_theta import gradient_of, real_gradient
from jaxcheck.problem.parts import gradient as in_parts
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.run import Run
from jaxcheck.program.alike import alike
from jaxcheck.program.converge import iterates
from jaxcheck.program.objective import data_apart, holds_numpy_data, in_float64
from jaxcheck.program.rounding import round_off
from jaxcheck.program.run.compile import execute
from jaxcheck.there import there
from jaxcheck.theta import Leaf


@dataclasses.dataclass(frozen=True, eq=False)
class Native:
    """Numbers of the native run, (G, P) each: gradient under test and autodiff (None without), and how far each may
    be off by rounding (NaN where that is unknown)."""

    manual: np.ndarray | None
    manual_bar: np.ndarray | None
    autodiff: np.ndarray | None
    autodiff_bar: np.ndarray | None
    compiled: int = 0


def one_formula(problem: Problem, run: Run) -> bool:
    """Whether loss and gradient are, natively, what they are in float64, but for rounding, and for the tolerance at
    which a loop stops."""
    if problem.primal is None or (run.manual is None) != (problem.manual is None):
        return run.manual is None
    pairs = [(run.primal, problem.primal), (run.manual, problem.manual)]
    return all(alike(a.program.closed, b.program.closed, tolerances=True) for a, b in pairs if a is not None)


def without_rounding(problem: Problem, run: Run) -> Problem | None:
    """The problem that is run, in float64; None where it cannot be lifted."""
    values = [*run.leaves, *run.extras]
    primal = in_float64(there(run.primal), values)
    manual = None if run.manual is None else in_float64(run.manual, values)
    if primal is None or (manual is None) != (run.manual is None):
        return None
    autodiff = None if problem.is_autodiff else run.autodiff("float64")
    return dataclasses.replace(problem, primal=primal, manual=manual, autodiff=autodiff)


def at_point(problem: Problem, point: np.ndarray, ladder: Ladder, seed: int):
    """((G, P) gradient under test, autodiff or None, programs compiled) at the point alone."""
    _, m, a, compiled = measure(problem, point, np.zeros((1, point.size)), ladder, seed)
    return there(problem.numbers) if m is None else m[0], None if a is None else a[0], compiled


def autodiff_at(problem: Problem, run: Run, point: np.ndarray, native: np.ndarray) -> tuple[np.ndarray | None, int]:
    """((G, P) autodiff as the caller's dtypes run it, programs compiled); None where JAX has none.

    Args:
        native: what the gradient under test gives so.
    """
    traced = run.native_autodiff
    if traced is None:
        return None, 0
    if run.manual is not None and traced.program.is_same(run.manual.program):
        return native, 0

    def build(programs, point, extras):
        return gradient_of(problem, traced, programs[0], point, extras)

    with jax.enable_x64(True):
        given = problem.place(point), tuple(problem.extras)
        found, compiled = execute(("autodiff as run", tuple(problem.theta.leaves)), build, [traced.program], *given)
    return np.asarray(found), compiled


def measured(
    problem: Problem, run: Run, point: np.ndarray, manual: bool = True, unit: float = 0.0, held: bool = False
) -> Native:
    """What the native run gives, and how far rounding explains that it is off.

    Args:
        manual: whether the gradient under test is looked at, beside autodiff.
        unit: see `round_off`.
        held: whether rounding changes no decision.
    """
    autodiff = run.native_autodiff
    tested = run.manual if manual else None
    traced = [t for t in (tested, autodiff) if t is not None]
    if not traced:
        return Native(None, None, None, None)
    free = [not held and not iterates(run.source.closed) and not iterates(t.closed) for t in traced]
    found, compiled = _rounded(problem, traced, point, free, unit)
    m = found.pop(0) if tested is not None else (None, None)
    a = found.pop(0) if autodiff is not None else (None, None)
    return Native(*m, *a, compiled)


def of_numbers(problem: Problem, loose: str = "") -> np.ndarray | None:
    """(1, P) how far a gradient that was given as numbers may be off: what rounding in their precision does to
    autodiff's, at the point of the check. None where that cannot be measured, or they are in float64. Measured once.

    Args:
        loose: "products": their factors are rounded to what this device rounds them to. "decisions": that, and rounding
            may decide otherwise next to a threshold, which explains whatever a function does by jumping there.
    """
    run = there(problem.numbers_run)
    if loose not in run.known:
        run.known[loose] = _of_numbers(problem, run, problem.theta.ravel(), loose)
    return run.known[loose]


def _of_numbers(problem: Problem, run: Run, point: np.ndarray, loose: str) -> np.ndarray | None:
    unit = float(there(problem.numbers_unit).max(initial=0.0))
    if unit < FINE_UNIT or not point.size:
        return None
    own = max(float(jnp.finfo(leaf.native).eps) for leaf in problem.theta.leaves)
    autodiff = run.native_autodiff if own <= unit else problem.autodiff
    if autodiff is None:
        return None
    free = loose == "decisions" and not iterates(run.source.closed) and not iterates(autodiff.closed)
    found, _ = _rounded(problem, [autodiff], point, [free], unit / 2, factors=bool(loose))
    return found[0][1]


def of_constants(problem: Problem, point: np.ndarray, unit: float) -> tuple[np.ndarray, int]:
    """((G, P) how far M may be off since constants in it were rounded to `unit`, programs compiled)."""
    found, compiled = _rounded(problem, [problem.manual], point, [False], unit, constants=True)
    return found[0][1], compiled


def of_data(problem: Problem, point: np.ndarray) -> np.ndarray:
    """(1, P) what it does to autodiff that the caller's 32-bit mode rounds NumPy data of a loss: a gradient that Python
    computes sees the same data in float64. Zero where nothing is rounded so, or there is no autodiff."""
    loss = problem.primal
    if loss is None or problem.autodiff is None or not (loss.rounded or holds_numpy_data(loss)):
        return np.zeros((1, point.size))
    unit = float(np.finfo(np.float32).eps) / 2
    found, _ = _rounded(problem, [problem.autodiff], point, [False], unit, constants=True)
    bars = np.array(found[0][1])
    for leaf in problem.theta.leaves:
        where = slice(leaf.start, leaf.stop)
        bars[:, where] += typical(bars[:, where], units(point[where]))
    return bars


def of_data_apart(problem: Problem, point: np.ndarray) -> np.ndarray:
    """(1, P) what rounding to float32 of the arrays that M holds, and the loss does not, does to M: (2 / n * X).T is
    rounded another time than X. Zero where the loss holds the same: then they are no more than data."""
    nothing = np.zeros((1, point.size))
    if problem.manual is None or problem.primal is None:
        return nothing
    program = problem.manual.program.closed
    those = data_apart(program, problem.primal.program.closed)
    if not any(those):
        return nothing
    unit = float(np.finfo(np.float32).eps) / 2
    found, _ = _rounded(problem, [problem.manual], point, [False], unit, constants=those)
    return np.array(found[0][1])


def _rounded(
    problem: Problem,
    traced,
    point: np.ndarray,
    free,
    unit: float,
    constants: bool | tuple[bool, ...] = False,
    factors: bool = True,
) -> tuple[list[tuple[Any, Any]], int]:
    theta, columns = problem.theta, problem.columns

    def inputs(values):
        point, extras = values
        return [*theta.unravel(point), *extras]

    def results(found):
        if problem.layout is not None:
            return in_parts(
                [jnp.asarray(g).reshape(columns, *leaf.shape) for leaf, g in zip(theta.leaves, found, strict=True)],
                theta.leaves,
            )
        parts = [
            _real(leaf, jnp.asarray(g).reshape(columns, *leaf.shape))
            for leaf, g in zip(theta.leaves, found, strict=True)
        ]
        return jnp.concatenate([p.astype(jnp.float64) for p in parts], axis=1)

    with jax.enable_x64(True):
        given = problem.place(point), tuple(problem.extras)
    name, programs = (tuple(theta.leaves), columns), [t.program for t in traced]
    found, compiled = round_off(name, programs, inputs, results, given, free, unit, constants, factors)
    return [tuple(map(np.asarray, pair)) for pair in found], compiled


def range_of(leaf: Leaf) -> tuple[float, float]:
    """(smallest normal number, smallest of all) of the dtype in which a leaf is run."""
    info = jnp.finfo(leaf.native)
    return float(info.tiny), float(info.smallest_subnormal)


def spacing_of(leaf: Leaf) -> float:
    """The spacing of the dtype in which a leaf is run, next to 1."""
    return float(jnp.finfo(leaf.native).eps)


def _real(leaf: Leaf, g: Any) -> Any:
    """A gradient in the real view, or bars of one: these are real, and hold of both parts."""
    if leaf.is_complex and not jnp.iscomplexobj(g):
        flat = g.reshape(g.shape[0], -1)
        return jnp.concatenate([flat, flat], axis=1)
    return real_gradient(leaf, g)
