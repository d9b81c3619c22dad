"""Points of a batch on a kink at which a gradient that autodiff agrees with is none of any adjacent piece's: a special
case at the very point, which autodiff takes for the function.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.bars import BARS, NEXT_TO_NOTHING, ROUND_OFF
from jaxcheck.budget import current
from jaxcheck.evidence import rows, sides, sketch
from jaxcheck.problem.at_theta import gradient_of
from jaxcheck.problem.problem import Problem
from jaxcheck.program.run.compile import execute
from jaxcheck.there import there

# Ways in which each point is left, both to and fro; and in how many more where these do not show pieces on both sides
# of the gradient: the kinks of a layer behind others bend alike along one way in four. A check of the point alone takes
# longer than all of them.
WAYS = (2, 4, 16, 64)
# What a piece changes by within the distance is its curvature, four distances in all.
STEPS = np.array([1.0, -1.0, 2.0, -2.0])
# Numbers of gradients that are held at once: 64 MiB of them.
AT_ONCE = 1 << 23


def outside(problem: Problem, points: np.ndarray, rtol: float, seed: int) -> tuple[np.ndarray, int, int]:
    """((n,) at which of the points (n, P) a component of M lies outside of all pieces' gradients that were seen;
    evaluations; programs compiled). That is no verdict: a check of the point alone finds one.

    Args:
        rtol: what a component may be off by beside its bars, relative.

    Raises:
        Stopped: before that was known.
    """
    found, asked, spent, new = np.ones(len(points), bool), np.arange(len(points)), 0, 0
    low, high, error = (np.full(points.shape, x) for x in (np.inf, -np.inf, 0.0))
    for turn, count in enumerate(WAYS):
        # A power of two, so that the next batch finds this one's program.
        each = 1 << int(np.log2(max(1, AT_ONCE // (count * len(STEPS) * points.shape[1]))))
        each = min(each, 1 << int(np.ceil(np.log2(len(asked)))))
        for start in range(0, len(asked), each):
            current().ask()
            at = asked[start : start + each]
            m, pieces, doubt, compiled = _seen(problem, points[at], each, count, [seed, 31, turn])
            low[at] = np.fmin(low[at], pieces.min(axis=1))
            high[at] = np.fmax(high[at], pieces.max(axis=1))
            error[at] = np.fmax(error[at], doubt.max(axis=1))
            spent, new = spent + len(at) * count * len(STEPS), new + compiled
            found[at] = _off(problem, m, low[at], high[at], error[at], rtol)
        asked = np.flatnonzero(found)
        if not len(asked):
            break
    return found, spent, new


def _off(problem: Problem, m: np.ndarray, low: np.ndarray, high: np.ndarray, error: np.ndarray, rtol: float):
    with np.errstate(all="ignore"):
        size = np.fmax(np.abs(low), np.abs(high))
        margin = BARS * error + rtol * size
        for leaf in problem.theta.leaves:
            where = slice(leaf.start, leaf.stop)
            margin[:, where] += NEXT_TO_NOTHING * size[:, where].max(axis=1, keepdims=True, initial=0.0)
        # Where autodiff beside the point is no number nothing is known.
        return ((m < low - margin) | (m > high + margin)).any(axis=1)


def _seen(
    problem: Problem, points: np.ndarray, each: int, count: int, seed: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """M (n, P), the adjacent pieces' gradients and the errors of these (n, W, P), programs compiled; of n points, at
    most `each`, which the program takes."""
    n, size = points.shape
    rng = np.random.default_rng(seed)
    ways = rng.choice([-1.0, 1.0], (count, size)) * rng.uniform(0.5, 1.5, (count, size))
    scale = np.concatenate([sketch.own_scales(points[:, x.start : x.stop])[0] for x in problem.theta.leaves], axis=1)
    at = np.minimum(np.arange(each), n - 1)
    sequential = problem.loss.program.sequential
    group = 1 if sequential else rows.chunk_rows(count * len(STEPS) * problem.cost, len(at))
    with jax.enable_x64(True):
        out, compiled = execute(
            ("pieces", len(at), count, group, tuple(problem.theta.leaves)),
            _program(problem, group),
            [there(t).program for t in (problem.manual, problem.autodiff)],
            points[at],
            scale[at],
            ways,
            tuple(problem.extras),
            work=problem.cost * len(at) * count * len(STEPS),
            keep=True,
        )
    m, found = (np.asarray(x)[:n] for x in out)
    near, far = found[:, :, :2].reshape(n, -1, size), found[:, :, 2:].reshape(n, -1, size)
    with np.errstate(all="ignore"):
        return m, 2 * near - far, np.abs(far - near) + ROUND_OFF * np.abs(near), compiled


def _program(problem: Problem, group: int) -> Callable:
    """What is run at points: (M, A (W, S, P) at steps along each way)."""
    near = max(sides.NEAR, sides.ROOTS * np.sqrt(problem.unit))

    def build(programs, points, scales, ways, extras):
        manual, autodiff = programs

        def at(where):
            x, scale = where
            beside = x + near * STEPS[:, None] * (ways * scale)[:, None]
            m = gradient_of(problem, there(problem.manual), manual, x, extras)[0]
            found = jax.lax.map(
                lambda y: gradient_of(problem, there(problem.autodiff), autodiff, y, extras)[0],
                jnp.reshape(beside, (-1, x.size)),
            )
            return m, found.reshape(beside.shape)

        return jax.lax.map(at, (points, scales), batch_size=group) if group > 1 else jax.lax.map(at, (points, scales))

    return build
