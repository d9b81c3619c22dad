"""Whether the truth that a search goes by is what differences of the loss itself say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxcheck.bars import TRUTH
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.projections import normal

# The step, relative to an input's own size: small beside what bends, large beside float64's rounding.
STEP = 1e-5
_EPS = np.finfo(float).eps


def agree(problem: Problem) -> bool:
    """Whether each result's target agrees, at the first point, with the difference of the loss along one direction.

    A loss may hold what its tape opens otherwise than its derivative does; a search by such a truth would clear the
    guilty line and blame another.
    """
    tape, runs, seeds = problem.loss
    rng = np.random.default_rng(17)
    for i, target in zip(tape.inputs, problem.targets[0], strict=False):
        x = runs[0][i]
        size = np.sqrt(np.mean(np.abs(x) ** 2)) if x.any() else 1.0
        way = normal(rng, x) * size
        ahead, behind = (_total(tape.replay(runs[0], {i: x + t * way}), seeds) for t in (STEP, -STEP))
        slope = (ahead - behind) / (2 * STEP)
        rounding = 100 * _EPS * (abs(ahead) + abs(behind)) / STEP
        told = np.real(np.sum(target * way))
        if not abs(slope - told) <= TRUTH * np.linalg.norm(target) * np.linalg.norm(way) + rounding:
            return False
    return True


def _total(values: Sequence[np.ndarray], seeds: Mapping[int, np.ndarray]) -> float:
    return float(sum(np.real(np.sum(g * values[o])) for o, g in seeds.items()))
