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

from jaxcheck.evidence import blocks, rows
from jaxcheck.evidence.sketch import typical, units
from jaxcheck.problem.at_theta import real_gradient
from jaxcheck.problem.problem import Problem
from jaxcheck.program.objective import Traced, cast
from jaxcheck.program.run.by_pieces import once
from jaxcheck.program.run.compile import execute
from jaxcheck.program.run.hoisting import as_inputs
from jaxcheck.program.ways.perturbed import scatter, signs
from jaxcheck.there import there

# Draws per value. Single entries lie up to 14 bars of four draws off, so that each has its unit's typical bar beside
# it (`tests/program/test_perturbed.py` measures both).
DRAWS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class RoundOff:
    """Absolute bars: of M and A (G, P), None where there is no program to measure; of the outputs (G,)."""

    m: np.ndarray | None
    a: np.ndarray | None
    outputs: np.ndarray | None


class Unmeasured(Exception):
    """It was to be measured without compiling anything, and cannot be."""


def measure(problem: Problem, point: np.ndarray, known: RoundOff | None = None) -> tuple[RoundOff, int]:
    """The bars at `point`, those of M and A perhaps `known`, and how many programs were compiled."""
    (m, a), compiled = gradients(problem, point) if known is None else ((known.m, known.a), 0)
    outputs = None
    if problem.primal is not None:
        raw, new = _scattered(problem, problem.primal, point)
        compiled, outputs = compiled + new, raw[0].reshape(-1)
    return RoundOff(m, a, outputs), compiled


def gradients(
    problem: Problem, point: np.ndarray, compiling: bool = True
) -> tuple[tuple[np.ndarray | None, np.ndarray | None], int]:
    """((bars of M, those of A), programs compiled) at `point`; one and the same program is measured once.

    Raises:
        Unmeasured: it takes a compiler, and none may be asked.
    """
    compiled, known = 0, []
    for traced in problem.derivatives:
        raw, new = _scattered(problem, traced, point, compiling=compiling)
        compiled += new
        bars = [
            _real(leaf, b.reshape(problem.columns, *leaf.shape))
            for leaf, b in zip(problem.theta.leaves, raw, strict=True)
        ]
        known.append(_typically(problem, point, np.concatenate(bars, axis=1)))
    return problem.of_each(known), compiled


def at_each(problem: Problem, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """((n, P) bars of M, those of A, programs compiled) at n points (n, P), of a problem that has both programs and one
    output, from calls of about a second each."""
    found, compiled = [], 0
    for traced in (there(problem.manual), there(problem.autodiff)):
        each, parts = min(len(points), max(1, int(blocks.ONE_CALL / (DRAWS * max(traced.program.effort, 1.0))))), []
        for start in range(0, len(points), each):
            # Points past the end repeat the last one, so that all calls are one program; they are cut off below.
            at = points[np.minimum(np.arange(start, start + each), len(points) - 1)]
            raw, new = _scattered(problem, traced, at, each)
            compiled += new
            parts.append(np.concatenate([_real(leaf, b) for leaf, b in zip(problem.theta.leaves, raw, strict=True)], 1))
        bars = np.concatenate(parts)[: len(points)]
        found.append(np.concatenate([_typically(problem, x, b[None]) for x, b in zip(points, bars, strict=True)]))
    return found[0], found[1], compiled


def _scattered(
    problem: Problem, traced: Traced, point: np.ndarray, many: int = 0, compiling: bool = True
) -> tuple[list[np.ndarray], int]:
    """(the bar of each result, programs compiled) at a point, or at as `many` as there are: each result has an axis
    for them in front."""
    program = traced.program
    closed = program.closed
    # Constants are handed in: a program that differs in its data alone is not compiled again.
    open_program = as_inputs(closed)

    def at(consts: Any, signed: Any, vector: Any, extras: Any) -> list[Any]:
        flat = cast(closed.in_avals, [*problem.theta.unravel(vector), *extras])
        # Data that the program makes by itself is the same for M, for A and in every sample.
        moving = len(problem.theta.leaves)
        still = [True] * len(consts) + [i >= moving for i in range(len(flat))]
        return [jnp.asarray(b) for b in scatter(open_program, [*consts, *flat], signed, still=still).bars]

    group = rows.chunk_of(program, many * DRAWS) if many else 0

    def build(_: Any, consts: Any, signed: Any, vector: Any, extras: Any) -> list[Any]:
        if not many:
            return at(consts, signed, vector, extras)
        if group >= many:
            return jax.vmap(lambda x: at(consts, signed, x, extras))(vector)
        size = {"batch_size": group} if group > 1 else {}
        return jax.lax.map(lambda x: at(consts, signed, x, extras), vector, **size)

    with jax.enable_x64(True):
        name = ("round-off", many, group, tuple(problem.theta.leaves))
        given = (point if many else problem.place(point), tuple(problem.extras))
        args = tuple(closed.consts), signs(DRAWS).astype(np.float64), *given
        found, compiled = once(name, functools.partial(build, None), args, [program], DRAWS * max(many, 1)), 0
        if found is None and not compiling:
            raise Unmeasured
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
