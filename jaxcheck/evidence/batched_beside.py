"""Points of a batch on a kink, where the difference judges no gradient, looked at a little beside it: what is wrong
there in a smooth piece is wrong in another component than the one that the kink is of.
"""

from __future__ import annotations

import numpy as np

from jaxcheck.bars import GROSS
from jaxcheck.evidence import batched, blocks, sketch
from jaxcheck.problem.problem import Problem

# How far beside, as a part of each component's own scale: the longest step of the ladder there is well within.
ASIDE = 3 * batched.RUNGS.first


def contradicted(
    problem: Problem, points: np.ndarray, table: batched.Table, asked: np.ndarray, seed: int, directions: int
) -> tuple[np.ndarray, batched.Table]:
    """((n,) at which of the points (n, P) that are `asked` for, one at least, the gradient beside it is contradicted
    by the difference in a leaf that is on a kink at the point; what was measured). That is no verdict: a check of the
    point alone finds one.

    Raises:
        Stopped: before that was known.
    """
    at, found = np.flatnonzero(asked), np.zeros(len(points), bool)
    # The program for all points is there; where one call takes them it is used once more.
    once = len(points) * problem.cost * table.evaluations / len(table.whole) <= blocks.ONE_CALL
    rows = points[np.resize(at, len(points) if once else len(at))]
    beside = batched.measure(problem, rows + _steps(problem, rows, seed), seed, directions, apart="beside kinks")
    count = min(len(at), len(beside.whole))
    with np.errstate(all="ignore"):
        off = beside.difference > batched.SURE * beside.bar + GROSS
    off &= ~beside.kink & ~beside.jump & beside.finite[:, None]
    found[at[:count]] = (off[:count] & table.kink[at[:count]]).any(axis=1)
    return found, beside


def _steps(problem: Problem, points: np.ndarray, seed: int) -> np.ndarray:
    steps, rng = np.zeros_like(points), np.random.default_rng([seed, 29])
    for leaf in problem.theta.leaves:
        if leaf.size:
            where = slice(leaf.start, leaf.stop)
            steps[:, where] = ASIDE * sketch.own_scales(points[:, where])[0]
    return steps * rng.uniform(1.0, 1.5, points.shape[1]) * rng.choice([-1.0, 1.0], points.shape[1])
