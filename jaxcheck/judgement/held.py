"""A claim about a map beside what it is held to: as evidence of leaves for the one table, and the finding that is made
of their opinions. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxcheck.bars import BARS
from jaxcheck.evidence.measured import LeafEvidence, Probes
from jaxcheck.judgement.findings import Finding
from jaxcheck.judgement.vote import Opinion
from jaxcheck.judgement.vote import judge as vote
from jaxcheck.options import Tolerance
from jaxcheck.result import Reason, Verdict
from jaxcheck.theta import Leaf

STEEP = (
    "by the derivative under test the function would move more, within the smallest steps, than it does at any: "
    "it may live on a smaller scale than theirs"
)
ORDER = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)


@dataclasses.dataclass(frozen=True)
class Held:
    """What a claim is held to: the caller's bounds, and what is granted of each number, relative; and what differences
    that are alone must be able to tell."""

    tolerance: Tolerance
    must_catch: float
    granted: float
    must_see: float

    def vote(self, leaf: LeafEvidence, strictly: LeafEvidence | None = None) -> Opinion:
        """The opinion on a leaf.

        Args:
            strictly: the leaf without the rounding of large outputs in its bars. What passes by that alone is in doubt:
                it may be rounding, or a mistake in a small leaf, and is to be measured.
        """
        given = self.granted / BARS * np.abs(leaf.m)
        found = vote(dataclasses.replace(leaf, m_given=given), self.tolerance, must_catch=self.must_catch)
        if strictly is None or found.verdict is not Verdict.PASS or self.vote(strictly).verdict is Verdict.PASS:
            return found
        return dataclasses.replace(found, doubtful=True)

    def allowed(self, claim: np.ndarray, against: np.ndarray, error: np.ndarray) -> np.ndarray:
        """What two sizes may differ by, where their error is known."""
        size = np.maximum(np.abs(claim), np.abs(against))
        return max(self.tolerance.bound, self.granted) * size + self.tolerance.atol + BARS * error

    def apart(self, claim: np.ndarray, reference: np.ndarray) -> np.ndarray:
        bound = max(self.tolerance.bound, self.granted)
        return np.abs(claim - reference) > bound * np.maximum(np.abs(claim), np.abs(reference))


def unless_steep(finding: Finding, beyond: bool) -> Finding:
    if not beyond or finding.verdict is not Verdict.PASS:
        return finding
    return dataclasses.replace(finding, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE, note=STEEP, doubtful=True)


def leaf_evidence(
    values: np.ndarray, m: np.ndarray, a: np.ndarray | None, rounding: np.ndarray, probes: tuple[Probes, ...], own: bool
) -> LeafEvidence:
    leaf = Leaf("", (len(values),), "float64", "float64", False, 0, 0, len(values))
    bars = np.broadcast_to(rounding, m.shape)
    return LeafEvidence(
        leaf, values, m, bars, a, None if a is None else bars, probes, np.zeros_like(m), is_autodiff=own
    )


def worst_of(what: str, opinions: Sequence[Opinion]) -> Finding:
    """The finding of the leaf that is worst."""
    if not opinions:
        return Finding(what, Verdict.PASS, Reason.AGREE)

    def rank(one: Opinion) -> tuple:
        return ORDER.index(one.verdict), one.reason is Reason.AGREE, -np.nan_to_num(one.difference)

    worst = min(opinions, key=rank)
    known = [o.difference for o in opinions if np.isfinite(o.difference)]
    bars = [o.error_bar for o in opinions if np.isfinite(o.error_bar)]
    # A NaN is no matter of bars.
    plain = worst.reason is Reason.NONFINITE or all(
        o.verdict is Verdict.PASS and o.reason in (Reason.AGREE, Reason.KINK) and not o.doubtful for o in opinions
    )
    return Finding(
        what,
        worst.verdict,
        worst.reason,
        max(known, default=np.nan),
        max(bars, default=np.nan),
        note="" if worst.reason in (Reason.AGREE, Reason.MANUAL_WRONG) else worst.note,
        doubtful=not plain,
    )
