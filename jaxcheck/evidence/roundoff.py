"""How far M, A and the function's values may be off by rounding: measured at the point, by Monte Carlo arithmetic.

One evaluation with every inexact result rounded otherwise, a few times over (`program/ways/perturbed.py`; Parker
1997; Denis, de Oliveira Castro and Petit 2016). It costs a compilation, so only what is in doubt gets it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence.problem import Problem
from jaxcheck.evidence.sketch import typical, units
from jaxcheck.evidence.witnesses import real_gradient
from jaxcheck.program.by_pieces import once
from jaxcheck.program.compile import execute
from jaxcheck.program.hoisting import as_inputs
from jaxcheck.program.objective import Traced, cast
from jaxcheck.program.ways.perturbed import scatter, signs

# Draws per value. Single entries lie up to 14 bars of four draws off, so that each has its unit's typical bar beside
# it (`tests/program/test_perturbed.py` measures both).
DRAWS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class RoundOff:
    """Absolute bars: of M and A (G, P), None where there is no program to measure; of the outputs (G,)."""

    m: np.ndarray | None
    a: np.ndarray | None
    outputs: np.ndarray | None


def measure(problem: Problem, point: np.ndarray) -> tuple[RoundOff, int]:
    """The bars at `point`, and how many programs were compiled."""
    compiled, bars = 0, []
    for traced in (problem.manual, problem.autodiff):
        found = None
        if traced is not None:
            raw, new = _scattered(problem, traced, point)
            compiled += new
            found = _typically(
                problem,
                point,
                np.concatenate(
                    [
                        _real(leaf, b.reshape(problem.columns, *leaf.shape))
                        for leaf, b in zip(problem.theta.leaves, raw, strict=True)
                    ],
                    axis=1,
                ),
            )
        bars.append(found)
    outputs = None
    if problem.primal is not None:
        raw, new = _scattered(problem, problem.primal, point)
        compiled, outputs = compiled + new, raw[0].reshape(-1)
    return RoundOff(bars[0], bars[1], outputs), compiled


def _scattered(problem: Problem, traced: Traced, point: np.ndarray) -> tuple[list[np.ndarray], int]:
    program = traced.program
    closed = program.closed
    # Constants are handed in: a program that differs in its data alone is not compiled again.
    open_program = as_inputs(closed)

    def build(_: Any, consts: Any, rows: Any, vector: Any, extras: Any) -> list[Any]:
        flat = cast(closed.in_avals, [*problem.theta.unravel(vector), *extras])
        # Data that the program makes by itself is the same for M, for A and in every sample.
        moving = len(problem.theta.leaves)
        still = [True] * len(consts) + [i >= moving for i in range(len(flat))]
        return [jnp.asarray(b) for b in scatter(open_program, [*consts, *flat], rows, still=still).bars]

    with jax.enable_x64(True):
        name, given = ("round-off", tuple(problem.theta.leaves)), (problem.place(point), tuple(problem.extras))
        args = tuple(closed.consts), signs(DRAWS).astype(np.float64), *given
        found, compiled = once(name, functools.partial(build, None), args, [program], DRAWS), 0
        if found is None:
            found, compiled = execute(name, build, [program], tuple(closed.consts), signs(DRAWS), *given)
    return [np.asarray(b, np.float64) for b in found], compiled


def _real(leaf: Any, bars: np.ndarray) -> np.ndarray:
    """(G, *shape) bars to the real view; those of a complex entry hold for each of its parts."""
    flat = np.abs(real_gradient(dataclasses.replace(leaf, is_complex=False), bars, np))
    return np.concatenate([flat, flat], axis=1) if leaf.is_complex else flat


def _typically(problem: Problem, point: np.ndarray, bars: np.ndarray) -> np.ndarray:
    """Each entry's bar, at least what is typical of its unit of the leaf."""
    for leaf in problem.theta.leaves:
        where = slice(leaf.start, leaf.stop)
        part = bars[:, where]
        known = np.where(np.isfinite(part), part, 0.0)
        if part.size:
            bars[:, where] = np.where(np.isfinite(part), np.maximum(part, typical(known, units(point[where]))), part)
    return bars
