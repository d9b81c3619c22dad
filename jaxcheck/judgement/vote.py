"""From the witnesses of one leaf to a verdict and its reason. Pure: no program is run here.

DESIGN: a verdict is a statement about error bars. What each set of differences says is found in `looks`, the yes and
no of a leaf in `facts`, and the verdict is the first row of `table` whose facts are so.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import GROSS, MUST_CATCH, OBVIOUS
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.formula import norms
from jaxcheck.judgement import facts, table
from jaxcheck.judgement.measures import relative_numbers
from jaxcheck.options import Tolerance
from jaxcheck.result import Reason, Verdict
from jaxcheck.there import there


@dataclasses.dataclass(frozen=True, eq=False)
class Opinion:
    """The judgement of one leaf.

    `residual` (G, n) is what is believed wrong with M per component (NaN where unknown);
    `difference`, `difference_autodiff`, `error_bar` are relative, as in `LeafResult`. `doubtful`: the witnesses do not
    all say so, and a closer look may say otherwise. `outvoted`: the differences alone say otherwise, by little.
    """

    verdict: Verdict
    reason: Reason
    difference: float
    difference_autodiff: float
    error_bar: float
    norm_numeric: float
    residual: np.ndarray
    kinks: int
    note: str = ""
    doubtful: bool = False
    outvoted: bool = False


def judge(
    ev: LeafEvidence,
    tolerance: Tolerance,
    *,
    m: np.ndarray | None = None,
    must_catch: float = MUST_CATCH,
    surrogate: bool = False,
) -> Opinion:
    """The verdict on one leaf.

    Args:
        m: judge this gradient (G, n) in place of the one in evidence (for mutants).
        must_catch: an unexplained difference above this, relative, is not excused as noise.
        surrogate: the gradient is declared to be another one on purpose.
    """
    m = ev.m if m is None else m
    a = ev.a if ev.a is not None and np.isfinite(ev.a).all() else None
    with np.errstate(all="ignore"):
        # What is zero in the caller's own dtype is no mistake there: exp(-x^2) at 18 is 1e-140, in float32 nothing.
        if a is not None:
            m = np.where((np.abs(m) <= ev.least) & (np.abs(a) <= ev.least), a, m)
        elif (np.abs(m) <= ev.least).any():
            tolerance = dataclasses.replace(tolerance, atol=max(tolerance.atol, ev.least))
        numbers = relative_numbers(ev, m, a)
        found = facts.find(ev, tolerance, m, numbers, must_catch, surrogate)
    row = table.first(found.facts)
    return Opinion(
        row.verdict, row.name(found.facts), *numbers, found.residual, found.kinks, row.note, row.doubtful, row.outvoted
    )


def beyond_rounding(ev: LeafEvidence, opinion: Opinion) -> bool:
    """Whether M is off so far that to measure its round-off would be a waste: two witnesses speak against it, and by
    far more than the gradients scatter between inputs that differ by rounding alone."""
    if opinion.reason is not Reason.MANUAL_WRONG or opinion.doubtful or ev.a is None or opinion.kinks:
        return False
    with np.errstate(all="ignore"):
        bars = norms(ev.m_error) + norms(there(ev.a_error)) + norms(ev.m_given)
        apart, size = norms(ev.m - ev.a), norms(ev.m) + norms(ev.a)
        return bool((apart > np.maximum(OBVIOUS * bars, GROSS * size)).any())
