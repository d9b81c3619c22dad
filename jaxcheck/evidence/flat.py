"""The evidence of a large problem at a cost that grows neither with its components nor with its leaves.

M and A are taken first. Where A is there, differences along a few directions through all leaves at once tell whether
A is right in every leaf that takes part in them: what is left of phi'(0) once the other leaves' shares, by A, are
taken off is the differences' word on one leaf. A wrong M then stands alone against A and N, in its own leaf.

A leaf that moves the outputs little would drown in a sum with one that moves them much. So in the second direction
each leaf moves in proportion, so that all shares are of about one size (`SHARES` apart at most).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck import threads
from jaxcheck.bars import FINE_UNIT
from jaxcheck.budget import until_stopped
from jaxcheck.evidence.differences import EPS, Ladder, Slopes, slopes
from jaxcheck.evidence.gradient_bars import bar, of_leaf
from jaxcheck.evidence.measured import Evidence, Probes
from jaxcheck.evidence.scatter import gradients
from jaxcheck.evidence.sketch import directions as leaf_directions
from jaxcheck.evidence.witnesses import measure
from jaxcheck.problem import repeat
from jaxcheck.problem.problem import Problem
from jaxcheck.there import there
from jaxcheck.theta import Leaf

# Directions through all leaves, and the steps along each: with the point twice and the neighbours of M and A 34
# losses and 8 gradients.
DIRECTIONS = 2
LADDER = Ladder(first=0.1, ratio=6.0, count=8)
# Least part of its own scale by which a leaf moves in the balanced direction.
SHARES = 1e-3
# Elements that directions of single leaves would compute before all leaves share theirs: about a second.
WORK = 1e8
# Part of what a slope along all leaves could be, by which differences may be off from what gradients add up to, and
# still tell them apart leaf by leaf. A choice.
AS_SAID = 1e-7


def fits(problem: Problem, ladder: Ladder, wanted: int) -> bool:
    """Whether leaves share their directions: A is there to be told apart from M, and each its own would take long."""
    alone = wanted * len(problem.theta.leaves) * len(ladder.offsets) * problem.cost
    return problem.autodiff is not None and problem.primal is not None and problem.unit < FINE_UNIT and alone > WORK


def gather(problem: Problem, point: np.ndarray, seed: int) -> Evidence | None:
    """The evidence of all leaves; None where A is not finite, or the differences contradict it."""
    theta = problem.theta
    m, a, compiled = gradients(problem, point, seed)
    numbers = problem.numbers
    m, spread, same = (there(numbers), np.zeros_like(there(numbers)), True) if m is None else m
    random = "" if same else repeat.GRADIENT
    m_error = np.zeros_like(m) if problem.numbers is not None else bar(m, spread, problem, point, problem.unit)
    a, spread, _ = there(a)
    a_error = bar(a, spread, None, point, problem.unit)
    if not np.isfinite(a).all():
        return None
    joint = np.zeros((DIRECTIONS, theta.size))

    def draw(leaf: Leaf) -> None:
        if leaf.size:
            joint[:, leaf.start : leaf.stop] = leaf_directions(leaf, point[leaf.start : leaf.stop], DIRECTIONS, seed)

    threads.each(draw, theta.leaves, [leaf.stop - leaf.start for leaf in theta.leaves])
    _balance(problem, joint[1], a)
    samples, new = None, 0
    with until_stopped():
        samples, _, _, new = measure(problem, point, joint, LADDER, seed, gradients=False)
    if samples is None:  # M and A are known all the same
        leaves = tuple(of_leaf(problem, point, leaf, (m, m_error), (a, a_error), ()) for leaf in theta.leaves)
        unknown = np.full(problem.columns, np.nan)
        return Evidence(unknown, leaves, random, 8, compiled, 0, tuple(range(len(leaves))), DIRECTIONS)
    found = slopes(samples, LADDER, problem.unit)
    shares = [joint[:, leaf.start : leaf.stop] @ a[:, leaf.start : leaf.stop].T for leaf in theta.leaves]
    total, sizes = np.sum(shares, axis=0), np.sum(np.abs(shares), axis=0)
    random = repeat.LOSS if repeat.wandering(samples[0], problem.unit) else random
    if not _agree(found, total, sizes):
        return None
    leaves = []
    for leaf, share in zip(theta.leaves, shares, strict=True):
        own = Probes(_less(found, total - share, sizes), directions=joint[:, leaf.start : leaf.stop])
        leaves.append(of_leaf(problem, point, leaf, (m, m_error), (a, a_error), (own,)))
    # The point itself is among the steps.
    return Evidence(samples[0][0], tuple(leaves), random, DIRECTIONS * len(LADDER.offsets) + 8, compiled + new)


def _balance(problem: Problem, direction: np.ndarray, a: np.ndarray) -> None:
    """Scale the leaves of a direction, in place, so that A says of each that it moves the outputs about as much."""
    expected = []
    for leaf in problem.theta.leaves:
        where = slice(leaf.start, leaf.stop)
        expected.append(float(np.sqrt(np.max((a[:, where] ** 2) @ (direction[where] ** 2), initial=0.0))))
    moving = [e for e in expected if e > 0]
    if not moving:
        return
    least = max(min(moving), SHARES * max(moving))
    for leaf, size in zip(problem.theta.leaves, expected, strict=True):
        if size > least:
            direction[leaf.start : leaf.stop] *= least / size


def _agree(found: Slopes, total: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether the differences know the slope along each direction, to which A's word is then compared: if they
    contradict it nobody knows in which leaf, and each leaf gets directions of its own."""
    with np.errstate(all="ignore"):
        near = np.abs(found.value - total) <= 5 * found.error + AS_SAID * sizes
        return bool((near & np.isfinite(found.error) & ~found.kink & ~found.jump).all())


def _less(found: Slopes, others: np.ndarray, sizes: np.ndarray) -> Slopes:
    """Slopes along one leaf's part of the directions: the others' shares, as A says, taken off."""
    fields = {name: getattr(found, name) - others for name in ("value", "left", "right")}
    fields |= {name: getattr(found, name) + 4 * EPS * sizes for name in ("error", "left_error", "right_error", "rough")}
    fields["quotients"] = found.quotients - others[..., None]
    signed = np.array([[1.0], [-1.0]]) * there(found.steps)[..., None, :]
    fields["increments"] = there(found.increments) - others[..., None, None] * signed
    return dataclasses.replace(found, **fields)
