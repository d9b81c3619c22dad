"""What JAX's 32-bit mode does to a gradient before anything is computed: it rounds what the loss is given."""

from __future__ import annotations

import jax
import numpy as np

from jaxcheck.evidence.as_run import of_data
from jaxcheck.evidence.sketch import typical, units
from jaxcheck.evidence.witnesses import signs
from jaxcheck.problem.at_theta import gradient_of
from jaxcheck.problem.problem import Problem
from jaxcheck.program.run.compile import execute


def of_inputs(problem: Problem, point: np.ndarray, seed: int) -> np.ndarray:
    """(1, P) what it does to autodiff that the caller's 32-bit mode rounds the parameters and the data of a loss:
    numbers that NumPy computed in float64 are of what they were before. Zero where there is no autodiff."""
    bars, traced = of_data(problem, point), problem.autodiff
    if traced is None:
        return bars
    unit = float(np.finfo(np.float32).eps) / 2
    rounded = np.zeros(point.size, bool)
    for leaf in problem.theta.leaves:
        rounded[leaf.start : leaf.stop] = leaf.dtype != leaf.native

    def build(programs, point, extras):
        return gradient_of(problem, traced, programs[0], point, extras)

    def at(x):
        with jax.enable_x64(True):
            given = problem.place(x), tuple(problem.extras)
            found, _ = execute(("autodiff beside", tuple(problem.theta.leaves)), build, [traced.program], *given)
        return np.asarray(found)

    here = at(point)
    moved = [np.abs(at(point * (1 + unit * rounded * sign)) - here) for sign in signs(seed, point.size)]
    found = np.max(moved, axis=0)
    for leaf in problem.theta.leaves:
        where = slice(leaf.start, leaf.stop)
        found[:, where] += typical(found[:, where], units(point[where]))
    return bars + found
