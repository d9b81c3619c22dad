"""What may hide from a few random directions: errors are spread as they are, and a direction sees their sum. And what
they show of M's own error."""

from __future__ import annotations

import math

import numpy as np

from jaxcheck.bars import MISSED, SIZES
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.formula import norms, norms_along
from jaxcheck.judgement.looks import look
from jaxcheck.judgement.measures import reference
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
                norms_along(p.along, ev.m), norms(p.along)[:, None] * norms(ev.m) / math.sqrt(ev.m.shape[1])
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


def from_differences(ev: LeafEvidence, kinked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((G,) what M is seen to be off by from the differences, plus their bar, relative to the leaf, NaN where that is
    not known; (G,) the same of the component of which least is known, if all were its fault). Of every component where
    all were looked at, or along the direction that says most."""
    norm = norms(ev.m)
    far, alone, found = np.full(ev.m.shape, np.nan), np.full(ev.m.shape, np.inf), np.full(len(ev.m), np.nan)
    for p in ev.probes:
        off = np.where(p.slopes.kink, 0.0, np.abs(p.project(ev.m) - p.slopes.value) + p.slopes.error)
        if p.directions is None:
            far[:, p.at] = np.fmin(far[:, p.at], off.T)
        else:
            size = norms_along(p.along, ev.m)
            found = np.fmin(found, np.fmin.reduce(off / size, axis=0, initial=np.inf))
            for direction, most in zip(p.along, off, strict=True):
                alone = np.fmin(alone, most[:, None] / np.abs(direction))
    whole = norms(np.where(kinked, 0.0, far)) / norm
    one = np.where(kinked, 0.0, np.fmin(alone, far)) / reference(ev, ev.m, apart=False)
    one = np.fmax.reduce(np.where(np.isfinite(one), one, 0.0), axis=1, initial=0.0)
    return np.fmin(found, np.where(np.isnan(far).any(axis=1), np.nan, whole)), one


def _missed(allowed: np.ndarray) -> float:
    """How often independent normal numbers all lie within what is allowed."""
    return math.prod(math.erf(x / math.sqrt(2)) for x in allowed)
