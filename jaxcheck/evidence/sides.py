"""The gradients of the smooth pieces that meet at a point: autodiff a little to either side of it, a few directions.

On a kink a range of gradients is right, and every component that stands on one shows its range at once: two gradients
next to the point, on opposite sides, tell the slopes of all of them, however many there are. One of the directions
leads from autodiff's choice towards the one under test, so that this is met where it is that of a piece: up the
gradient where the function is convex, down where it is concave. What the pieces' gradients say along their directions
is held against the function's own one-sided slopes.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from jaxcheck.bars import ALIKE, BARS
from jaxcheck.evidence.differences import Ladder, Slopes, slopes
from jaxcheck.evidence.sketch import own_scale
from jaxcheck.evidence.witnesses import measure
from jaxcheck.problem.at_theta import gradient_of
from jaxcheck.problem.problem import Problem
from jaxcheck.program.run.compile import execute
from jaxcheck.there import there

# Ways in which the point is left at once, and how often: until the gradient under test is met.
DIRECTIONS, ROUNDS = 4, 3
# Part of its way that a leaf goes where another leads.
BEHIND = 1e-3
# Distance from the point, relative to the parameters' scale, and at least this many roots of the rounding unit.
NEAR, ROOTS = 1e-7, 10.0
# Rounding units, relative to that scale, within which a kink is at the point and not beside it. There the gradient has
# changed by as much as it does at the distance above, if it is the kink that changes it.
AT, AS_MUCH = 1024.0, 0.5
# A piece does not reach the point where the gradient that near has not changed by this part of it. A quotient that is
# 0/0 at the point (of which a `where` makes its limit) keeps a digit there, no more: it was seen to be half of it off.
STILL = 1 / 16
# Where autodiff is asked along each way, in these two distances: four times in the first, twice in the second.
STEPS = np.array([1.0, -1.0, 2.0, -2.0, 1.0, -1.0])


@dataclasses.dataclass(frozen=True, eq=False)
class Sides:
    """The gradients of adjacent pieces.

    Attributes:
        low, high: (G, P) the least and the largest of them, their bars included.
        kinked: (G, P) where these differ from each other, or autodiff's own choice is none of them.
        adjacent: the gradient under test is that of a piece, or lies on the line between those of two opposite ones:
            it is a subgradient, whatever is tied.
        alone: each component decides alone: its gradient is one wherever it goes to one side, whatever the others do.
    """

    low: np.ndarray
    high: np.ndarray
    kinked: np.ndarray
    adjacent: bool
    alone: bool


def sides(
    problem: Problem, point: np.ndarray, m: np.ndarray, a: np.ndarray, bars: np.ndarray, ladder: Ladder, seed: int
) -> tuple[Sides | None, int, int]:
    """(the pieces' gradients or None where none could be confirmed, evaluations, programs compiled).

    Args:
        m, a: (G, P) the gradient under test and autodiff's; bars: (G, P) the round-off of both.
    """
    with np.errstate(all="ignore"):
        bars = np.where(np.isfinite(a), bars, 0.0)
        apart = np.abs(m - a) > bars + ALIKE * np.maximum(np.abs(m), np.abs(a))
    column = int(np.argmax(apart.sum(axis=1)))
    out = _Out.of(problem, point, np.where(apart, np.sign(m - a), 0.0)[column], seed)
    # Where the gradient rises as the component does the function is convex, else concave.
    curved = np.zeros(point.size)
    least, largest = np.full(a.shape, np.nan), np.full(a.shape, np.nan)
    widest, spent, compiled, adjacent, any_confirmed = bars, 0, 0, False, False
    of_side = np.full((2, 2, *a.shape), np.nan)  # least and largest of those that go down, and up
    for turn in range(ROUNDS):
        ways, lead = out.ways(turn, curved)
        found = _look(problem, point, ways, a, bars, ladder, seed)
        pieces, confirmed = found.gradients, found.confirmed
        spent, compiled = spent + found.evaluations, compiled + found.compiled
        if not confirmed.any():
            break
        any_confirmed = True
        with np.errstate(all="ignore"):
            least, largest = (
                np.fmin(least, pieces[confirmed].min(axis=0)),
                np.fmax(largest, pieces[confirmed].max(axis=0)),
            )
            widest = np.maximum(widest, found.error[confirmed].max(axis=0))
            of_side = _by_side(of_side, found, ways)
            both = np.flatnonzero(confirmed.all(axis=0))
            bends = (pieces[0, both, column] - pieces[1, both, column]) * ways[both]
            curved += np.sum(bends * lead[both], axis=0)
        adjacent = any(between(m, pieces[0, d], pieces[1, d], found.error[:, d].max(axis=0)) for d in both)
        if adjacent or not (largest - least > 2 * BARS * widest)[:, out.towards != 0].any():
            break
    if not any_confirmed:
        return None, spent, compiled
    size = np.maximum(np.abs(least), np.abs(largest))
    with np.errstate(all="ignore"):
        spread = np.maximum(largest, a) - np.minimum(least, a)
        kinked = spread > 2 * BARS * widest + ALIKE * size
        shared = np.fmax.reduce(of_side[:, 1] - of_side[:, 0]) > 2 * BARS * widest + ALIKE * size
    found = Sides(least - BARS * widest, largest + BARS * widest, kinked, adjacent, alone=not shared.any())
    return found, spent, compiled


def _by_side(known: np.ndarray, found: _Pieces, ways: np.ndarray) -> np.ndarray:
    """The least and the largest (2, 2, G, P) of the gradients near the point, where confirmed: of the components that
    go down there and of those that go up, with those that are known."""
    out = known.copy()
    for s, d in np.argwhere(found.confirmed):
        up = (ways[d] > 0) == (s == 0)
        for k, those in enumerate((~up, up)):
            gradient = np.where(those, found.near[s, d], np.nan)
            out[k] = np.fmin(out[k, 0], gradient), np.fmax(out[k, 1], gradient)
    return out


@dataclasses.dataclass(frozen=True, eq=False)
class _Out:
    """Ways out of a point: `towards` (P,) is the sign of the gradient under test less autodiff's, `owner` (P,) the
    leaf of each component, `doubted` the leaves that this is about."""

    rng: np.random.Generator
    scale: np.ndarray
    towards: np.ndarray
    owner: np.ndarray
    doubted: np.ndarray

    @staticmethod
    def of(problem: Problem, point: np.ndarray, towards: np.ndarray, seed: int) -> _Out:
        leaves = problem.theta.leaves
        scale = np.concatenate([own_scale(point[leaf.start : leaf.stop], 1e-2) for leaf in leaves])
        owner = np.concatenate([np.full(leaf.stop - leaf.start, k) for k, leaf in enumerate(leaves)])
        return _Out(np.random.default_rng([seed, 19]), scale, towards, owner, np.unique(owner[towards != 0]))

    def ways(self, turn: int, curved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """((D, P) ways, which components lead on each: where leaves move together, a kink of theirs does not say whose
        it is). `curved` (P,) is above 0 where the function is convex."""
        ways = self.rng.choice([-1.0, 1.0], (DIRECTIONS, self.scale.size))
        bent = self.towards if not turn else self.towards * np.sign(curved)
        ways[: DIRECTIONS if turn else 1] = np.where(self.towards != 0, bent, ways[: DIRECTIONS if turn else 1])
        ways *= self.scale * self.rng.uniform(0.5, 1.5, ways.shape)
        several, lead = len(self.doubted) > 1, np.ones(ways.shape)
        for d in range(1, DIRECTIONS if several else 1):
            # Leaves that stand on one kink, a bias and the weights before it: each decides it once.
            leader = self.doubted[(d + turn * (DIRECTIONS - 1)) % len(self.doubted)]
            lead[d] = np.where(self.owner == leader, 1.0, BEHIND)
        return ways * lead, (lead == 1) & ((np.arange(DIRECTIONS) > 0) | (not several))[:, None]


@dataclasses.dataclass(frozen=True, eq=False)
class _Pieces:
    """The pieces that meet at a point, on both sides along each of D ways: their gradients and the errors of these
    (2, D, G, P), which of them the function's own slopes confirm (2, D), and what it took. `near` are the gradients of
    those that are a little way off, whether or not they meet at the point."""

    gradients: np.ndarray
    near: np.ndarray
    error: np.ndarray
    confirmed: np.ndarray
    evaluations: int
    compiled: int


def _look(
    problem: Problem, point: np.ndarray, ways: np.ndarray, a: np.ndarray, bars: np.ndarray, ladder: Ladder, seed: int
) -> _Pieces:
    near = max(NEAR, ROOTS * np.sqrt(problem.unit))
    steps = np.where(np.arange(len(STEPS)) < 4, near, AT * problem.resolution) * STEPS
    found, compiled = autodiff_at(problem, (point + steps[:, None, None] * ways).reshape(-1, point.size))
    found = found.reshape(len(steps), len(ways), *bars.shape)
    found, beside = found[:4], found[4:]
    samples, _, _, new = measure(problem, point, ways, ladder, seed, gradients=False)
    along = slopes(samples, ladder, problem.unit)
    with np.errstate(all="ignore"):
        # What changes along a piece is its curvature; at the point itself it is this.
        pieces = 2 * found[:2] - found[2:]
        error = np.abs(found[2:] - found[:2]) + bars
        said = np.einsum("sdgp,dp->sdg", pieces, ways)
        seen, seen_error = np.stack([along.right, along.left]), np.stack([along.right_error, along.left_error])
        size = np.sqrt(np.einsum("sdgp,dp->sdg", pieces**2, ways**2))
        doubt = np.einsum("sdgp,dp->sdg", error, np.abs(ways))
        near_enough = np.abs(said - seen) <= BARS * (seen_error + doubt) + ALIKE * size
        confirmed = (near_enough & np.isfinite(seen_error)).all(axis=2) & np.isfinite(pieces).all(axis=(2, 3))
        met = meeting(pieces, beside, a)
    return _Pieces(met, pieces, error, confirmed, len(ways) * (len(steps) + len(ladder.offsets)), compiled + new)


def meeting(pieces: np.ndarray, beside: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The pieces' gradients, those of autodiff at the point itself in place of what it is not `beside` it: a piece that
    ends before the point, or bends within the distance, has no say at the point."""
    meets = np.abs(beside - a) >= STILL * np.abs(pieces - a)
    return np.where(meets | ~np.isfinite(a), pieces, a)


def between(m: np.ndarray, one: np.ndarray, other: np.ndarray, error: np.ndarray, rtol: float = ALIKE) -> bool:
    """Whether a gradient (G, P) lies on the line between two others, within their errors; one place on it for each
    column, which has a kink of its own."""
    with np.errstate(all="ignore"):
        way = one - other
        length = np.sum(way**2, axis=1)
        part = np.where(length > 0, np.sum((m - other) * way, axis=1) / np.where(length > 0, length, 1.0), 0.0)
        place = other + np.clip(part, 0.0, 1.0)[:, None] * way
        size = np.maximum(np.abs(one), np.abs(other))
        return bool((np.abs(m - place) <= BARS * error + rtol * size).all())


def autodiff_at(problem: Problem, points: np.ndarray) -> tuple[np.ndarray, int]:
    """(K, G, P) autodiff's gradients at the points, one after the other; and programs compiled."""
    # Of a second order both are there, and M, though JAX's own, is under test.
    own = problem.is_autodiff and problem.autodiff is None
    traced = problem.manual if own else problem.autodiff
    if traced is None:
        on_host = problem.host_manual if own else problem.host_autodiff
        return np.stack([there(on_host)(x) for x in points]), 0

    def build(programs, points, extras):
        return jax.lax.map(lambda x: gradient_of(problem, traced, programs[0], x, extras), points)

    with jax.enable_x64(True):
        found, compiled = execute(
            ("sides", problem.columns, tuple(problem.theta.leaves)),
            build,
            [traced.program],
            problem.place(points),
            tuple(problem.extras),
            work=problem.cost * len(points),
        )
        return np.asarray(found), compiled


def without_kinks_beside(numeric: Slopes, reference: np.ndarray, sides: np.ndarray) -> Slopes:
    """The slopes less the kinks that lie beside the point: there autodiff (D, m) is on both sides (2, D, m), within
    rounding of the point, what it is at the point. The function's slope is then that of the piece of the point."""
    n = numeric
    with np.errstate(all="ignore"):
        known = np.isfinite(sides).all(axis=0) & np.isfinite(reference)
        still = known & (np.abs(sides - reference).max(axis=0) < AS_MUCH * np.abs(n.right - n.left))
        beside = n.kink & still
        right = np.abs(n.right - reference) <= np.abs(n.left - reference)
        value, error = np.where(right, n.right, n.left), np.where(right, n.right_error, n.left_error)
        # Between two kinks neither side is the point's own.
        seen = np.abs(value - reference) <= BARS * error + ALIKE * np.abs(reference)
        error = np.where(seen, error, np.inf)
    return dataclasses.replace(
        n,
        kink=n.kink & ~beside,
        value=np.where(beside, value, n.value),
        error=np.where(beside, error, n.error),
        rough=np.where(beside, error, n.rough),
    )
