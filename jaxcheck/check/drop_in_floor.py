"""What the drop-in would have caught: a derivative that is wrong as a whole, by how little."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxcheck.bars import CONSTANTS, SIZES
from jaxcheck.check.settings import Settings
from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.judgement.maps import judge
from jaxcheck.result import Verdict

# Where the search begins: what is caught of most functions, so that two judgements on either side suffice.
_USUAL = int(np.argmin(np.abs(np.log(SIZES) - math.log(3e-7))))


def floor(ev: MapEvidence, settings: Settings, spacing: float) -> float:
    """The smallest of `bars.SIZES` by which tangents and pull-backs may be wrong together, relative, and are told by
    the differences; NaN where none is (on a kink, say, where a range is right). Who is apart from autodiff alone may be
    off by round-off, which a closer look would measure; and it finds right what lies within the bound on formula (2),
    that is an error of twice the bound.

    Args:
        spacing: of the caller's coarsest dtype, where that is not float64: what a constant in it may be off by.
    """

    def caught(at: int) -> bool:
        return all(_wrong(ev, 1 + sign * SIZES[at], settings) for sign in (1, -1))

    at, least = _USUAL, max(2 * settings.tolerance.bound, CONSTANTS * spacing)
    if caught(at):
        while at + 1 < len(SIZES) and SIZES[at] > least and caught(at + 1):
            at += 1
        return max(SIZES[at], least)
    return next((SIZES[k] for k in range(at - 1, -1, -1) if caught(k)), math.nan)


def _wrong(ev: MapEvidence, factor: float, settings: Settings) -> bool:
    tangent, pulled = (None if x is None else factor * x for x in (ev.tangent, ev.pulled))
    mutant = dataclasses.replace(ev, tangent=tangent, pulled=pulled, reference=None, pulled_reference=None)
    found = judge(mutant, settings.tolerance, must_see=settings.must_catch)
    return any(one.verdict is Verdict.FAIL for one in found)
