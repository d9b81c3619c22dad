"""Whether a gradient is wrong along a tie: each of its components alone is on a kink, together they are not."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.ties import Tie
from jaxcheck.judgement.measures import BARS
from jaxcheck.options import Tolerance


@dataclasses.dataclass(frozen=True)
class Broken:
    """A tie along which the gradient under test is wrong: its members (places in theta), the slope along the
    direction that moves the first of them by one, and what the gradient makes of it."""

    members: tuple[int, ...]
    numeric: float
    claimed: float


def broken(ties: list[Tie], wide: np.ndarray, found: Slopes, m: np.ndarray, m_error: np.ndarray,
           tolerance: Tolerance) -> list[Broken]:
    """The ties that contradict M.

    Args:
        wide: (D, P) directions; found: their slopes (D, G); m, m_error: (G, P).
    """
    out = []
    with np.errstate(all="ignore"):
        smooth = np.isfinite(found.value) & np.isfinite(found.error) & ~found.kink & ~found.jump
        for tie in ties:
            v = wide[tie.along]
            claim = m @ v
            size = np.sqrt(m**2 @ v**2)
            bar = BARS * (found.error[tie.along] + np.abs(m_error) @ np.abs(v))
            slack = tolerance.bound * size + tolerance.atol * np.linalg.norm(v)
            off = ~(np.abs(claim - found.value[tie.along]) <= bar + slack)
            off &= smooth[tie.along] & found.kink[list(tie.across)].all(axis=0)
            for column in np.flatnonzero(off)[:1]:
                unit = np.abs(v[tie.members]).max()
                out.append(Broken(tuple(int(i) for i in tie.members), float(found.value[tie.along, column] / unit),
                                  float(claim[column] / unit)))
    return out
