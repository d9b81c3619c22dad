"""The fourth witness: single derivatives of a leaf, enclosed in ball arithmetic, where float64 cannot tell.

`program/ways/exact.py` evaluates the formula itself; its enclosures take the place of differences.
"""

from __future__ import annotations

import jax
import numpy as np

from jaxcheck.budget import current
from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.measured import Probes
from jaxcheck.problem.problem import Problem
from jaxcheck.program import bits
from jaxcheck.program.converge import iterates
from jaxcheck.program.ways import exact

# Operations on single numbers, some microseconds each on the host.
WORK = 3e5


def affordable(problem: Problem, wanted: int) -> int:
    """How many of the wanted directional derivatives can be had: none of what JAX cannot trace, stops by floats,
    or makes floats of bits."""
    if problem.primal is None or not exact.available() or iterates(problem.loss.program.closed):
        return 0
    if bits.loses_derivatives(problem.loss.program.closed, len(problem.theta.leaves)):
        return 0
    return int(min(wanted, WORK // max(problem.cost, 1.0)))


def single(problem: Problem, point: np.ndarray, number: int, indices: np.ndarray) -> Probes | None:
    """The enclosed derivatives by some components of one leaf; None where an operation has none here."""
    theta, leaf = problem.theta, problem.theta.leaves[number]
    closed = problem.loss.program.closed
    with jax.enable_x64(True):
        args = [*(np.asarray(x) for x in theta.unravel(point)), *problem.extras]
        values, radii = [], []
        for i in indices:
            current().ask()
            wide = np.zeros(point.size)
            wide[leaf.start + i] = 1.0
            tangents = [*(np.asarray(x) for x in theta.unravel(wide)), *(None for _ in problem.extras)]
            try:
                value, radius = exact.derivatives(closed, args, tangents)
            except exact.Unknown:
                return None
            values.append(value)
            radii.append(radius)
    value, radius = np.array(values), np.array(radii)
    return Probes(
        known(value, np.where(np.isfinite(value), radius, np.inf)),
        indices=indices,
        crossed=np.zeros(len(indices), bool),
        analytic=np.ones(len(indices), bool),
    )


def known(value: np.ndarray, error: np.ndarray) -> Slopes:
    no, nothing = np.zeros(value.shape, bool), np.zeros(value.shape)
    return Slopes(
        value=value,
        error=error,
        left=value,
        left_error=error,
        right=value,
        right_error=error,
        kink=no,
        jump=no,
        one_sided=no,
        rough=error,
        noisy=no,
        size=nothing,
        reach=np.abs(value),
        noise=nothing,
        quotients=np.full((*value.shape, 1), np.nan),
        steepest=np.full(value.shape, np.inf),
        span=nothing,
        wakes=no,
    )
