"""What a PASS would have caught: mutate M, judge again from the numbers at hand, no new evaluations.

The detection floor is the smallest mutation, relative to the leaf's norm, that turns the verdict to
FAIL. Mutation testing of the check itself (DeMillo, Lipton & Sayward 1978, Computer 11(4):34).
"""

from __future__ import annotations

import numpy as np

from jaxcheck.evidence.witnesses import LeafEvidence
from jaxcheck.judgement.measures import norms
from jaxcheck.judgement.vote import judge
from jaxcheck.options import Tolerance
from jaxcheck.result import NAN, Verdict

# Half-decades, descending: the floor is printed to one digit, finer steps would be noise.
SIZES = tuple(10.0 ** (-k / 2) for k in range(0, 27))


def floors(ev: LeafEvidence, tolerance: Tolerance, must_catch: float, influence: float) -> tuple[float, float]:
    """(floor of the whole leaf, floor of one component), relative to the leaf's norm; inf when nothing is caught.

    A leaf whose gradient is zero has no scale of its own; errors are then measured against `influence`,
    the largest influence of any leaf on the outputs (in units of the output, for a move by the leaf's
    own scale), and both numbers are that floor.
    """
    norm = norms(ev.m)
    # A gradient that is nothing but its own round-off (a bias before batch norm) counts as zero.
    faint = reach(ev) <= 1e-8 * influence
    if not (norm > 0).any() or (faint and not (norm > 1e3 * norms(ev.m_error)).any()):
        return (_zero_floor(ev, influence),) * 2

    def caught(mutant: np.ndarray) -> bool:
        return judge(ev, tolerance, m=mutant, must_catch=must_catch).verdict is Verdict.FAIL

    whole = _smallest(lambda size: caught(ev.m * (1 + size)))
    index = _hardest(ev)

    def one(size):
        mutant = ev.m.copy()
        mutant[:, index] += size * norm
        return mutant

    return whole, _smallest(lambda size: caught(one(size)))


def _smallest(caught) -> float:
    """Smallest size of a descending run of caught mutants (bisection; detection is monotone in size)."""
    if not caught(SIZES[0]):
        return float("inf")
    low, high = 0, len(SIZES)  # SIZES[low] is caught
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if caught(SIZES[middle]) else (low, middle)
    return SIZES[low]


def _hardest(ev: LeafEvidence) -> int:
    """The component whose error is hardest to see: widest bars, or least weight in the directions."""
    bars = ev.m_error.max(axis=0) + (0 if ev.a_error is None else ev.a_error.max(axis=0))
    for probes in ev.probes:
        if probes.directions is not None and len(probes.directions):
            with np.errstate(all="ignore"):
                bars = bars + 1e-30 / np.abs(probes.directions).max(axis=0)
        elif probes.directions is None and len(probes.indices) == ev.m.shape[1] and ev.a is None:
            bars = bars + probes.slopes.error.max(axis=1)
    return int(np.nanargmax(np.where(np.isfinite(bars), bars, 0.0)))


def _zero_floor(ev: LeafEvidence, influence: float) -> float:
    """Bar of the differences in units of the output, over the influence of the most influential leaf."""
    if not influence:
        return float("inf")
    worst = 0.0
    for probes in ev.probes:
        error = probes.slopes.error
        if probes.directions is None:
            error = error * np.maximum(np.abs(ev.values[probes.indices]), 1e-3)[:, None]
        worst = max(worst, float(np.max(error, initial=0.0)))
    return worst / influence if np.isfinite(worst) else float("inf")


def influence(leaves: tuple[LeafEvidence, ...]) -> float:
    """Largest change of the outputs, to first order, for a move of one leaf by its own scale."""
    return max((reach(ev) for ev in leaves), default=0.0)


def reach(ev: LeafEvidence) -> float:
    """Change of the outputs, to first order, for a move of one leaf by its own scale."""
    with np.errstate(all="ignore"):
        scale = np.abs(np.where(ev.values == 0, 1.0, ev.values))
        return float(np.linalg.norm(np.nan_to_num(ev.m) * scale)) if ev.m.size else 0.0


UNKNOWN = (NAN, NAN)
