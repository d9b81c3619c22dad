"""Ties: components that stand on one kink together.

At max(a, b) with a = b each alone meets a kink, and any slope between its one-sided ones may be right.
Moved together along the kink the function is smooth and has one slope, whatever subgradient is chosen;
moved apart it is kinked. Two kinks that cancel, as in |a| - |b|, look the same; there, each decides for itself.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from jaxcheck.evidence import smooth
from jaxcheck.evidence.differences import Ladder, Slopes, slopes
from jaxcheck.evidence.smooth import Pieces, pieces
from jaxcheck.evidence.witnesses import measure
from jaxcheck.problem.problem import Problem

# Members of a larger tie that are moved against the others, one at a time.
FLIPS = 8
# How far a direction along a tie is turned to either side of it, relative to its own length: more than the gaps that it
# is made from are off by, and so little that no other decision falls for it. A choice.
TURNED = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Kinked:
    """Components of theta on a kink: their `places`, their one-sided slopes and the bars of both (K, G), their values
    and how far each may move."""

    places: np.ndarray
    left: np.ndarray
    right: np.ndarray
    bar: np.ndarray
    values: np.ndarray
    scale: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        return np.abs(self.right - self.left)


@dataclasses.dataclass(frozen=True, eq=False)
class Tie:
    """Members (places in theta), the row of the direction that moves them together, and the rows that move one of
    them against the others."""

    members: np.ndarray
    along: int
    across: tuple[int, ...]


def candidates(
    kinked: Kinked, wanted: np.ndarray, limit: int, rng: np.random.Generator
) -> tuple[list[Tie], list[np.ndarray]]:
    """(ties that may be, directions over the kinked components), at most `limit` pairs.

    Two components of one kink have gaps in proportion to its normal, so that one of the directions
    (1/gap, +-1/gap) runs along it. All components of one value are moved together as well.

    Args:
        wanted: (K,) components that are doubted; a tie holds one of them at least.
    """
    ties: list[Tie] = []
    rows: list[np.ndarray] = []

    def add(members, weights) -> int:
        row = np.zeros(len(kinked.places))
        row[members] = weights * np.min(kinked.scale[members] / np.abs(weights))
        rows.append(row)
        return len(rows) - 1

    pairs = [p for p in itertools.combinations(range(len(kinked.places)), 2) if wanted[list(p)].any()]
    rng.shuffle(pairs)
    pairs.sort(key=lambda p: kinked.values[p[0]] != kinked.values[p[1]])  # stable: equal values first
    for pair in pairs[:limit]:
        pair = np.array(pair)
        gap, bar = kinked.gap[pair], kinked.bar[pair]
        column = int(np.argmax(np.minimum(*gap)))
        one, other = gap[:, column]
        if not min(one, other) > 0:
            continue
        alike = abs(one - other) <= bar[:, column].sum()
        weights = np.ones(2) if alike else np.array([1 / one, 1 / other])
        plus, minus = add(pair, weights), add(pair, weights * [1, -1])
        members = kinked.places[pair]
        ties += [Tie(members, plus, (minus,)), Tie(members, minus, (plus,))]
    for value in np.unique(kinked.values):
        group = np.flatnonzero(kinked.values == value)
        if len(group) < 3 or not wanted[group].any():
            continue
        along = add(group, np.ones(len(group)))
        flipped = rng.permutation(len(group))[:FLIPS]
        across = tuple(add(group, np.where(np.arange(len(group)) == k, -1.0, 1.0)) for k in flipped)
        ties.append(Tie(kinked.places[group], along, across))
    return ties, rows


def directions(kinked: Kinked, rows: list[np.ndarray], size: int) -> np.ndarray:
    """(D, P) the rows as directions of theta."""
    wide = np.zeros((len(rows), size))
    wide[:, kinked.places] = np.stack(rows)
    return wide


def look(
    problem: Problem, point: np.ndarray, wide: np.ndarray, ladder: Ladder, seed: int
) -> tuple[Slopes, Pieces | None, int, int]:
    """(slopes along the directions (D, G), the pieces along them and some more if known, evaluations, programs
    compiled)."""
    # Padded to a power of two, so that the next look finds this one's program.
    padded = np.zeros((1 << max(2, int(np.ceil(np.log2(len(wide))))), point.size))
    padded[: len(wide)] = wide
    samples, _, _, compiled = measure(problem, point, padded, ladder, seed, gradients=False)
    seen, spent = None, len(padded) * len(ladder.offsets)
    if problem.primal is not None and not problem.at_limit:
        seen, new = pieces(problem, point, padded, ladder)
        compiled, spent = compiled + new, 2 * spent
    return slopes(samples[:, : len(wide)], ladder, problem.unit), seen, spent, compiled


def grazed(
    problem: Problem, point: np.ndarray, made: list[Tie], wide: np.ndarray, ladder: Ladder
) -> tuple[np.ndarray, int]:
    """((D,) directions that run along a tie but for their rounding, programs compiled): turned a little to the one side
    of the decision, both their ways look at one piece. Two kinks that cancel stay two, however they are turned."""
    out = np.zeros(len(wide), bool)
    along = np.array([tie.along for tie in made])
    across = wide[[tie.across[0] for tie in made]] * TURNED
    alike, compiled = np.zeros(len(made), bool), 0
    for side in (across, -across):
        same, new = smooth.meet(problem, point, wide[along] + side, -wide[along] + side, ladder)
        alike, compiled = alike | same, compiled + new
    out[along[alike]] = True
    return out, compiled


def single(
    problem: Problem,
    point: np.ndarray,
    places: np.ndarray,
    known: np.ndarray,
    scale: np.ndarray,
    ladder: Ladder,
    seed: int,
) -> tuple[Kinked, int, int]:
    """Which of the components are on a kink at `point`, as some are `known` to be; evaluations, programs compiled."""
    wide = np.zeros((len(places), point.size))
    wide[np.arange(len(places)), places] = scale
    found, _, spent, compiled = look(problem, point, wide, ladder, seed)
    per = scale[:, None]
    with np.errstate(all="ignore"):
        left, right = (np.where(found.kink, x, found.value) / per for x in (found.left, found.right))
        bar = np.where(found.kink, found.right_error + found.left_error, found.error) / per
    keep = found.kink.any(axis=1) | known
    kinked = Kinked(places[keep], left[keep], right[keep], bar[keep], point[places[keep]], scale[keep])
    return kinked, spent, compiled


def beside(point: np.ndarray, scale: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """The point moved by about `size` of its scale, equal values by the same: ties stay, other kinks are left."""
    _, group = np.unique(point, return_inverse=True)
    least = np.full(group.max(initial=0) + 1, np.inf)
    np.minimum.at(least, group, scale)
    amount = rng.choice([-1.0, 1.0], least.size) * rng.uniform(0.5, 1.5, least.size)
    return point + size * (least * amount)[group]
