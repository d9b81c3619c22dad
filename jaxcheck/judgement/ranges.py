"""On a kink a range of gradients is right: which components stand on one, what their ranges are, which kinks are one.

Kinks are independent where each component decides something of its own, as in |a| - |b|: any slope in the box of their
ranges may be right, and a direction in which they cancel (1, 1) says nothing of their sum. In a tie, as in max(a, b),
one decision is shared by both; along (1, 1) it never falls, and there the gradient has one slope only.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import ALIKE, BARS
from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.measured import LeafEvidence, Probes


@dataclasses.dataclass(frozen=True, eq=False)
class Ranges:
    """Of one leaf, (G, n): one-sided slopes of its components (NaN where none was looked at) and their bars, and the
    range of what is right on kinks (NaN off them)."""

    left: np.ndarray
    right: np.ndarray
    bar: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def holds(self, claim: np.ndarray, slack: np.ndarray) -> np.ndarray:
        """(G, n) components on a kink within whose range a claim lies."""
        return (self.low - slack <= claim) & (claim <= self.high + slack)


def ranges(ev: LeafEvidence) -> Ranges:
    """What differences of single components say, and the gradients of the pieces that meet at the point."""
    left, right, bar, low, high = (np.full(ev.m.shape, np.nan) for _ in range(5))
    for p in ev.probes:
        if p.directions is None:
            s, at = p.slopes, p.at
            one, other = np.where(s.kink, s.left, s.value), np.where(s.kink, s.right, s.value)
            left[:, at], right[:, at] = one.T, other.T
            bar[:, at] = np.where(s.kink, s.left_error + s.right_error, s.error).T
            kink = s.kink.T
            low[:, at] = np.where(kink, np.fmin(low[:, at], np.minimum(one, other).T), low[:, at])
            high[:, at] = np.where(kink, np.fmax(high[:, at], np.maximum(one, other).T), high[:, at])
    if ev.pieces is not None:
        least, largest, kinked = ev.pieces
        low, high = np.where(kinked, np.fmin(low, least), low), np.where(kinked, np.fmax(high, largest), high)
    return Ranges(left, right, bar, low, high)


def additive(slopes: Slopes, wide: np.ndarray, left: np.ndarray, right: np.ndarray, bar: np.ndarray) -> np.ndarray:
    """(D, G) whether the one-sided slopes along directions (D, n) are the sums of those of their components (G, n), on
    both sides: then no decision is shared by two of them. False where a component's are not known."""
    with np.errstate(all="ignore"):
        moved = np.isfinite(right) & np.isfinite(left)
        known = ~((wide != 0) @ (~moved).T.astype(float)).astype(bool)
        left, right, bar = (np.where(moved, x, 0.0) for x in (left, right, bar))
        up, down = np.maximum(wide, 0.0), np.minimum(wide, 0.0)
        size = np.abs(wide) @ np.maximum(np.abs(left), np.abs(right)).T
        slack = BARS * (np.abs(wide) @ bar.T) + ALIKE * size
        rights = np.abs(slopes.right - (up @ right.T + down @ left.T)) <= slack + BARS * slopes.right_error
        lefts = np.abs(slopes.left - (up @ left.T + down @ right.T)) <= slack + BARS * slopes.left_error
        return known & rights & lefts


def independent(probes: Probes, found: Ranges) -> np.ndarray:
    """(D, G) directions along which no kink is shared, as decisions or the slopes of single components tell."""
    out = additive(probes.slopes, probes.along, found.left, found.right, found.bar)
    return out if probes.crossed is None else out | probes.crossed[:, None]


def reached(probes: Probes, claim: np.ndarray, held: np.ndarray, found: Ranges, slack: np.ndarray) -> np.ndarray:
    """(D, G) directions along which a claim (G, n) agrees with the slope if, on independent kinks, each component may
    have any slope in its range. `held` marks those components."""
    with np.errstate(all="ignore"):
        v = probes.along
        low, high = np.where(held, found.low, claim), np.where(held, found.high, claim)
        up, down = np.maximum(v, 0.0), np.minimum(v, 0.0)
        least, largest = up @ low.T + down @ high.T, up @ high.T + down @ low.T
        s = probes.slopes
        inside = (least - slack <= s.value) & (s.value <= largest + slack)
        return inside & independent(probes, found)
