"""Whether a gradient is wrong along a tie: each of its components alone is on a kink, together they are not."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.ties import Kinked, Tie
from jaxcheck.judgement.measures import BARS
from jaxcheck.judgement.ranges import additive
from jaxcheck.options import Tolerance


@dataclasses.dataclass(frozen=True)
class Broken:
    """A tie along which the gradient under test is wrong: its members (places in theta), the slope along the
    direction that moves the first of them by one, and what the gradient makes of it."""

    members: tuple[int, ...]
    numeric: float
    claimed: float


def broken(ties: list[Tie], wide: np.ndarray, found: Slopes, crossed: np.ndarray | None, kinked: Kinked,
           m: np.ndarray, m_error: np.ndarray, tolerance: Tolerance) -> list[Broken]:
    """The ties that contradict M.

    Args:
        wide: (D, P) directions; found: their slopes (D, G); crossed: (D,) where they cross a decision, if known;
            m, m_error: (G, P).
    """
    out = []
    with np.errstate(all="ignore"):
        known = np.isfinite(found.value) & np.isfinite(found.error) & ~found.jump
        sides = (kinked.left.T, kinked.right.T, kinked.bar.T)
        apart = additive(found, wide[:, kinked.places], *sides)
        if crossed is not None:
            apart |= crossed[:, None]
        for tie in ties:
            v, along = wide[tie.along], found[tie.along]
            claim = m @ v
            size = np.sqrt(m**2 @ v**2)
            bar = BARS * (along.error + np.abs(m_error) @ np.abs(v))
            slack = tolerance.bound * size + tolerance.atol * np.linalg.norm(v)
            off = ~along.kink & ~(np.abs(claim - along.value) <= bar + slack)
            off &= known[tie.along] & found.kink[list(tie.across)].all(axis=0) & ~apart[tie.along]
            for column in np.flatnonzero(off)[:1]:
                unit = np.abs(v[tie.members]).max()
                out.append(Broken(tuple(int(i) for i in tie.members), float(along.value[column] / unit),
                                  float(claim[column] / unit)))
    return out
