"""Whether a gradient is wrong along a tie: each of its components alone is on a kink, together they are not."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import BARS
from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.smooth import Pieces
from jaxcheck.evidence.ties import Kinked, Tie
from jaxcheck.judgement.ranges import additive
from jaxcheck.options import Tolerance


@dataclasses.dataclass(frozen=True)
class Broken:
    """A tie along which the gradient under test is wrong: its members (places in theta), the slope along the
    direction that moves the first of them by one, or those of both sides, the one of them that is nearest to what
    the gradient makes of it, and that."""

    members: tuple[int, ...]
    slopes: tuple[float, ...]
    numeric: float
    claimed: float


def broken(
    ties: list[Tie],
    wide: np.ndarray,
    found: Slopes,
    seen: Pieces | None,
    kinked: Kinked,
    m: np.ndarray,
    m_error: np.ndarray,
    tolerance: Tolerance,
) -> list[Broken]:
    """The ties that contradict M.

    Args:
        wide: (D, P) directions; found: their slopes (D, G); seen: the pieces along them, if known; m, m_error: (G, P).
    """
    out = []
    with np.errstate(all="ignore"):
        known = np.isfinite(found.value) & np.isfinite(found.error) & ~found.jump
        sides = (kinked.left.T, kinked.right.T, kinked.bar.T)
        apart = additive(found, wide[:, kinked.places], *sides)
        same, still = np.zeros((2, len(wide)), bool)
        if seen is not None:
            apart |= seen.crossed[: len(wide), None]
            same, still = seen.same[: len(wide)], seen.still[: len(wide)]
        for tie in ties:
            v, along = wide[tie.along], found[tie.along]
            claim = m @ v
            size = np.sqrt(m**2 @ v**2)
            bar = BARS * (along.error + np.abs(m_error) @ np.abs(v))
            slack = tolerance.bound * size + tolerance.atol * np.linalg.norm(v)
            # Both sides of a cone are one piece: a kink that nothing decides, whose slopes are bounds.
            bounds = np.sort([along.left, along.right], axis=0)
            bounds = np.where(along.kink, bounds, along.value)
            bar += np.where(along.kink, BARS * (along.left_error + along.right_error), 0.0)
            nearest = np.clip(claim, *bounds)
            # Moved apart it is kinked; or nothing is decided along it, which says the same.
            tied = found.kink[list(tie.across)].all(axis=0) | still[tie.along]
            off = ~(np.abs(claim - nearest) <= bar + slack) & np.where(along.kink, same[tie.along], tied)
            off &= known[tie.along] & ~apart[tie.along]
            for column in np.flatnonzero(off)[:1]:
                unit = np.abs(v[tie.members]).max()
                slopes = sorted({float(x) for x in bounds[:, column] / unit})
                out.append(
                    Broken(
                        tuple(int(i) for i in tie.members),
                        tuple(slopes),
                        float(nearest[column] / unit),
                        float(claim[column] / unit),
                    )
                )
    return out
