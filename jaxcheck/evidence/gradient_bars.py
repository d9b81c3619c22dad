"""Gradients with the bars of their rounding, and the evidence of a leaf that is made of them."""

from __future__ import annotations

import functools

import jax
import numpy as np

from jaxcheck import threads
from jaxcheck.evidence.as_run import of_numbers
from jaxcheck.evidence.measured import LeafEvidence, Probes
from jaxcheck.evidence.sketch import typical, units
from jaxcheck.problem.problem import Problem
from jaxcheck.theta import Leaf

# A gradient (G, P) and its bars, or nothing.
Barred = tuple[np.ndarray, np.ndarray] | tuple[None, None]


@functools.cache
def least(dtype: str) -> float:
    """The smallest number of a dtype that XLA keeps: it makes zeros of subnormals, but computes half precision in
    float32."""
    known = jax.dtypes.finfo(dtype)
    return float(known.smallest_subnormal if dtype == "float16" else known.tiny)


def of_leaf(
    problem: Problem,
    point: np.ndarray,
    leaf: Leaf,
    m: tuple[np.ndarray, np.ndarray],
    a: Barred,
    probes: tuple[Probes, ...],
) -> LeafEvidence:
    """A leaf's part of M and of A, beside its probes."""
    where = slice(leaf.start, leaf.stop)
    given = given_error(problem, point, m[0], where)
    mine, bars = (x[:, where] for x in m)
    other, other_bars = (None if x is None else x[:, where] for x in a)
    more = (probes, given, problem.unit, problem.is_autodiff)
    # What Python computes it computes in the dtypes that it is given.
    zero = 0.0 if problem.primal is None else least(leaf.native)
    return LeafEvidence(leaf, point[where], mine, bars, other, other_bars, *more, sharp=problem.sharp, least=zero)


def barred(stack: np.ndarray, problem: Problem | None, point: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """(4, G, P) evaluations to the gradient and its round-off bar (G, P): the scatter over the neighbours,
    and for M 16 units of its leaf's RMS as well (A and M are compared with the sum of their bars)."""
    with np.errstate(all="ignore"):
        scatter = np.abs(stack[2:] - stack[0]).max(axis=0)
        return stack[0], bar(stack[0], scatter, problem, point, unit)


def bar(
    gradient: np.ndarray, scatter: np.ndarray, problem: Problem | None, point: np.ndarray, unit: float
) -> np.ndarray:
    """The round-off bar of a gradient (G, P) that scatters so much between neighbours; `problem` for M alone."""
    with np.errstate(all="ignore"):
        error = np.abs(gradient)
        error *= 2 * unit
        np.add(error, scatter, out=error, where=np.isfinite(scatter))

        def add(leaf: Leaf) -> None:
            where = slice(leaf.start, leaf.stop)
            error[:, where] += 16 * unit * typical(gradient[:, where], units(point[where]))

        if problem:
            threads.each(add, problem.theta.leaves, [leaf.stop - leaf.start for leaf in problem.theta.leaves])
        return error


def given_error(problem: Problem, point: np.ndarray, m: np.ndarray, where: slice, loose: str = "") -> np.ndarray:
    """(G, n) rounding of a gradient given as numbers: it was computed in some precision by steps unknown.

    Where there is an autodiff gradient, what rounding does to that in the same precision: each entry's bar, and the
    RMS of its leaf's beside it. Where there is none, forty units of the leaf's RMS: above what networks of up to
    twelve layers lose in float32 (a test holds that), at most the RMS itself.

    Args:
        loose: see `as_run.of_numbers`.
    """
    part = m[:, where]
    if problem.numbers_unit is None:
        return np.zeros_like(part)
    known = of_numbers(problem, loose) if problem.numbers_run is not None else None
    if known is not None and np.isfinite(known[:, where]).all():
        bar = known[:, where] * (problem.numbers_unit[where] > 0)
        return bar + typical(bar, units(point[where])) + problem.numbers_unit[where] * np.abs(part)
    return np.minimum(40 * problem.numbers_unit[where], 1.0) * typical(part, units(point[where]))
