"""Which of many points are wrong by little, beyond doubt: where the differences and autodiff agree with each other, on
smooth ground, and both speak against the gradient, which is off by far more than rounding does to it and to autodiff.

That is what a check of each point alone would find. What it needs besides the numbers of the batch is the measured
round-off, and that of all points is measured together.
"""

from __future__ import annotations

import numpy as np

from jaxcheck.bars import BARS, OBVIOUS
from jaxcheck.evidence import roundoff
from jaxcheck.evidence.batched import SURE, Table
from jaxcheck.options import Tolerance
from jaxcheck.problem.problem import Problem
from jaxcheck.program.objective import data_apart
from jaxcheck.there import there


def wrong(
    problem: Problem, points: np.ndarray, table: Table, tolerance: Tolerance, asked: np.ndarray
) -> tuple[np.ndarray, int]:
    """((n,) which of the points (n, P) that are `asked` for are so, programs compiled). A choice on a kink, and data
    that the gradient holds in another precision than the loss, are left to a check of the point alone.

    Raises:
        Stopped: before that was known.
    """
    found = np.zeros(len(points), bool)
    if problem.is_autodiff or problem.autodiff is None or _rounded_apart(problem):
        return found, 0
    with np.errstate(all="ignore"):
        against = (table.difference > SURE * table.bar) & (table.between <= BARS * table.bar)
        off = table.apart - tolerance.between_programs(problem.sharp) * table.both - tolerance.atol
    against &= (asked & table.finite & ~table.kink.any(axis=1))[:, None] & (off > 0)
    at = np.flatnonzero(against.any(axis=1))
    if not len(at):
        return found, 0
    m, a, compiled = roundoff.at_each(problem, points[at])
    with np.errstate(all="ignore"):
        leaves = [slice(leaf.start, leaf.stop) for leaf in problem.theta.leaves if leaf.size]
        bars = np.stack([np.linalg.norm(m[:, s], axis=1) + np.linalg.norm(a[:, s], axis=1) for s in leaves], axis=1)
        found[at] = (against[at] & (off[at] > OBVIOUS * bars)).any(axis=1)
    return found, compiled


def _rounded_apart(problem: Problem) -> bool:
    return any(data_apart(there(problem.manual).closed, problem.loss.closed))
