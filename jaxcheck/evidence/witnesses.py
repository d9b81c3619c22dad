"""Gathers the three witnesses at one point: M (under test), N (differences), A (autodiff).

Everything is in the real view: a leaf is a vector of n real numbers (a complex leaf gives its real
parts, then its imaginary parts), a gradient is d output / d that vector, and G outputs ("columns",
1 for a loss) are handled at once. JAX's gradient of a complex leaf is dJ/dx - i dJ/dy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck import budget
from jaxcheck.evidence import blocks, rows
from jaxcheck.evidence.differences import Ladder
from jaxcheck.problem.at_theta import gradient_of, outputs_of
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.scale import component_scale
from jaxcheck.program.objective import Traced
from jaxcheck.program.run import kept
from jaxcheck.program.run.compile import execute


def nearby(point: np.ndarray, seed: int, unit: float) -> np.ndarray:
    """(4, P): the point, the point again, and two neighbours a few rounding units away.

    A gradient's scatter over the neighbours is its round-off: inputs that differ by rounding alone
    should give results that differ by rounding alone (backward error; Higham 2002, section 1.5).
    """
    noise = signs(seed, point.size) * (4 * unit)
    with np.errstate(all="ignore"):
        return np.concatenate([point[None], point[None], point * (1 + noise)])


def beside_zeros(problem: Problem, point: np.ndarray, seed: int) -> np.ndarray:
    """(2, P): neighbours as in `nearby`, in which zeros move, too, by as much as the size of their leaf would: at a
    network's zero initialisation nothing else would."""
    size = np.concatenate([component_scale(point[leaf.start : leaf.stop], 1.0) for leaf in problem.theta.leaves])
    return point + signs(seed, point.size) * (4 * problem.unit) * np.where(point == 0, size, np.abs(point))


def measure(
    problem: Problem,
    point: np.ndarray,
    directions: np.ndarray,
    ladder: Ladder,
    seed: int,
    *,
    gradients: bool = True,
    first: int | None = None,
):
    """Run the witnesses at `point`: the ladder along every direction, M and A at the point and beside it.

    Args:
        first: directions that are needed; what follows them is left out where time is short (default: all are).

    Returns:
        (samples (T, D, G), M (4, G, P) or None, A likewise, programs compiled).

    Raises:
        Stopped: before what is needed was there; with `first`, only before the gradients were.
    """
    if problem.primal is None:
        return _measure_host(problem, point, directions, ladder, seed, gradients, first)
    traced = problem.derivatives if gradients else []
    program, count = problem.loss.program, len(directions) * len(ladder.offsets)
    points = nearby(point, seed, problem.unit) if gradients else point[None]
    with jax.enable_x64(True):
        if is_long(problem, count):
            chunk = rows.moving(point.size, blocks.chunk_of(program, count))
            grads, compiled = in_turn(problem, traced, points)
            samples, new = blocks.within_memory(
                chunk, lambda chunk: _in_blocks(problem, point, directions, ladder.offsets, chunk, first)
            )
            compiled += new
        else:
            chunk, clock = rows.moving(point.size, rows.chunk_of(program, count)), budget.current()
            before = clock.run_seconds
            (samples, grads), compiled = blocks.within_memory(
                chunk, lambda chunk: _at_once(problem, traced, points, directions, ladder.offsets, chunk)
            )
            if not traced:
                clock.row_seconds = (clock.run_seconds - before) / count
        samples, grads = np.asarray(samples), [np.asarray(g) for g in grads]
    m, a = problem.of_each(grads) if gradients else (None, None)
    if gradients and m is None and problem.host_manual is not None:
        m = on_host(problem.host_manual, points, ("gradient", problem.theta.values))
    return samples, m, a, compiled


def is_long(problem: Problem, count: int) -> bool:
    """Whether so many evaluations take several calls, between which the clock is looked at."""
    return problem.primal is None or blocks.long(problem.loss.program, count)


def _at_once(problem: Problem, traced: Sequence[Traced], points, directions, offsets, chunk: int):
    def build(programs, points, extras, directions, offsets):
        primal, *rest = programs
        samples = rows.sample(lambda x: outputs_of(problem, primal, x, extras), points[0], directions, offsets, chunk)
        grads = [
            jax.lax.map(lambda x, t=t, p=p: gradient_of(problem, t, p, x, extras), points)
            for t, p in zip(traced, rest, strict=True)
        ]
        return samples, grads

    return execute(
        ("measure", chunk, problem.columns, tuple(problem.theta.leaves)),
        build,
        [problem.loss.program, *(t.program for t in traced)],
        problem.place(points),
        tuple(problem.extras),
        problem.place(directions),
        offsets,
        work=problem.cost * len(directions) * len(offsets),
        keep=not traced,
    )


def in_turn(problem: Problem, traced: Sequence[Traced], points) -> tuple[list[np.ndarray], int]:
    """The gradients at each of the points, (R, G, P) for each of the programs, as few in one call as time allows."""
    out, compiled, clock = [], 0, budget.current()
    for t in traced:
        one = 1 if blocks.long(t.program, len(points)) else len(points)

        def build(programs, points, extras, t=t):
            return jax.lax.map(lambda x: gradient_of(problem, t, programs[0], x, extras), points)

        parts = []
        for start in range(0, len(points), one):
            before, at = clock.run_seconds, problem.place(points[start : start + one])
            part, new = execute(
                ("in turn", one, problem.columns, tuple(problem.theta.leaves)),
                build,
                [t.program],
                at,
                tuple(problem.extras),
                work=t.program.cost * one,
            )
            parts, compiled = [*parts, np.asarray(part)], compiled + new
            if not clock.pair_seconds > 0:
                clock.pair_seconds = (clock.run_seconds - before) / one
        out.append(np.concatenate(parts))
    return out, compiled


def _in_blocks(problem: Problem, point, directions, offsets, chunk: int, first: int | None):
    def make(programs, extras):
        return lambda x: outputs_of(problem, programs[0], x, extras)

    return blocks.sample(
        ("measure", problem.columns, tuple(problem.theta.leaves)),
        make,
        [problem.loss.program],
        tuple(problem.extras),
        problem.place(point),
        problem.place(directions),
        offsets,
        chunk,
        first,
    )


def signs(seed: int, size: int) -> np.ndarray:
    """(2, size) of +1 and -1, for the two neighbours."""
    return np.random.default_rng([seed, 7]).integers(0, 2, (2, size), dtype=np.int8) * np.int8(2) - np.int8(1)


def _measure_host(problem, point, directions, ladder, seed, gradients, first):
    points = nearby(point, seed, problem.unit)
    m = a = None
    if gradients and problem.host_manual is not None:
        m = on_host(problem.host_manual, points, ("gradient", problem.theta.values))
    if gradients and problem.host_autodiff is not None:
        a = on_host(problem.host_autodiff, points, ("autodiff", problem.theta.values))
    samples = blocks.sample_host(problem.host_primal, point, directions, ladder.offsets, first, problem.theta.values)
    return samples, m, a, 0


def on_host(gradient: Callable, points: np.ndarray, of: Any) -> np.ndarray:
    """The gradient at each of the points; `of` is what it is and depends on, by its content."""

    def at(number: int) -> np.ndarray:
        budget.current().ask()
        return gradient(points[number])

    return np.stack(list(kept.in_turn(kept.shelf(("gradients of Python's", of), [], points), len(points), at)))
