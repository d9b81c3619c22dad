"""What may hide from a few random directions: errors are spread as they are, and a direction sees their sum."""

from __future__ import annotations

import math

import numpy as np

from jaxcheck.bars import MISSED, SIZES
from jaxcheck.evidence.problem import LeafEvidence
from jaxcheck.judgement.looks import look
from jaxcheck.judgement.measures import norms
from jaxcheck.options import Tolerance


def hidden(ev: LeafEvidence, tolerance: Tolerance, shown: np.ndarray) -> float:
    """The size from which on an error that is spread at random over the leaf is missed by all directions together in
    `MISSED` of the cases at most: along each of them it is a normal number. Of the outputs `shown` (G,) that which
    shows it least; 0 where every component was looked at."""
    alone = [p.at for p in ev.probes if p.directions is None]
    if len(np.unique(np.concatenate([np.zeros(0, int), *alone]))) == ev.m.shape[1]:
        return 0.0
    seen = []
    for p in ev.probes:
        if p.directions is not None:
            one = look(ev, p, ev.m, None, tolerance)
            along = np.minimum(
                np.sqrt(p.along**2 @ (ev.m**2).T), norms(p.along)[:, None] * norms(ev.m) / math.sqrt(ev.m.shape[1])
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                seen.append(np.where(one.usable & (along > 0), one.slack / along, np.inf))
    if not seen:
        return float("inf")
    unseen, worst = np.concatenate(seen), 0.0
    for allowed in unseen.T[shown]:
        least = next((s for s in reversed(SIZES) if _missed(allowed / s) <= MISSED), float("inf"))
        worst = max(worst, least)
    return worst


def _missed(allowed: np.ndarray) -> float:
    """How often independent normal numbers all lie within what is allowed."""
    return math.prod(math.erf(x / math.sqrt(2)) for x in allowed)
