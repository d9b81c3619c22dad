"""Functions that hold derivatives back (`stop_gradient`): autodiff is no witness there, and differences may see too
little. Nobody is blamed, and nobody believed, on autodiff's word alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import ALIKE, BARS, COUNTS
from jaxcheck.check.settings import Case
from jaxcheck.evidence import freed
from jaxcheck.evidence.freed import Freed
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.judgement.measures import unjudged
from jaxcheck.judgement.vote import Opinion
from jaxcheck.result import Reason, Verdict
from jaxcheck.there import there

BY_FREED = "N is autodiff of the function with its stop_gradients left out, which the differences bear out"
ALONE = (
    "autodiff alone speaks against it, and the loss holds derivatives back from autodiff (stop_gradient): the "
    "differences are too coarse to say which of the two is right"
)
SIDES = (
    "autodiff agrees, but the loss holds derivatives back from it (stop_gradient), and the differences speak against "
    "both by more than their bars"
)
# What autodiff says, and what it says with nothing held back.
JUDGED = (Reason.MANUAL_WRONG, Reason.AGREE, Reason.AUTODIFF_DIFFERS)


def concerns(case: Case, ev: LeafEvidence, opinion: Opinion) -> bool:
    """Whether autodiff has a say on a leaf, and may be held back from it."""
    return _has_say(case, ev, opinion) and freed.holds_back(case.problem)


def _has_say(case: Case, ev: LeafEvidence, opinion: Opinion) -> bool:
    """Not on a leaf that all agree on, and that the differences see well: they would have seen what is held back."""
    claim = _autodiff(ev)
    if claim is None or not np.isfinite(claim).all() or not ev.leaf.size:
        return False
    if _overrules(opinion) or (opinion.reason is Reason.KINK and unjudged(ev)):
        return True
    if opinion.reason not in JUDGED:
        return False
    return opinion.reason is not Reason.AGREE or not opinion.error_bar <= COUNTS * case.settings.must_catch


def _overrules(opinion: Opinion) -> bool:
    """Whether a leaf passed because M and autodiff agree, though the differences do not, be it on a kink."""
    return opinion.verdict is Verdict.PASS and opinion.doubtful and opinion.reason in (*JUDGED, Reason.KINK)


def _autodiff(ev: LeafEvidence) -> np.ndarray | None:
    """Autodiff's gradient of a leaf: what is under test, if it is JAX's own."""
    return ev.m if ev.a is None and ev.is_autodiff else ev.a


def second_opinions(case: Case, leaves: list[LeafEvidence], opinions: list[Opinion]) -> list[Opinion]:
    """Opinions with what autodiff says of the function with nothing held back in place of differences that do not
    contradict it; `leaves` is changed in place."""
    those = [k for k, (ev, opinion) in enumerate(zip(leaves, opinions, strict=True)) if _has_say(case, ev, opinion)]
    if not those or not freed.holds_back(case.problem):
        return opinions
    opinions, known = list(opinions), freed.measure(case.problem, case.point)
    case.compiled += known.compiled if known is not None else 0
    for k in those:
        if known is None:
            opinions[k] = _not_alone(case, leaves[k], opinions[k])
        elif _is_held_back(known, leaves[k]) and _bears_out(case, known, leaves[k]):
            leaves[k] = dataclasses.replace(leaves[k], probes=known.probes(leaves[k]))
            second = case.judge(leaves[k])
            if second.verdict is Verdict.PASS:  # as far as differences are asked: small components are compared
                value, error = known.of(leaves[k])
                closer = dataclasses.replace(leaves[k], a=value, a_error=error, held=_autodiff(leaves[k]))
                third = case.judge(closer)
                leaves[k], second = (closer, third) if third.verdict is Verdict.FAIL else (leaves[k], second)
            alike = _overrules(opinions[k]) or opinions[k].reason is Reason.KINK
            if second.verdict is Verdict.FAIL and alike:  # M and autodiff leave out the same
                second = dataclasses.replace(second, reason=Reason.NUMERIC_SUSPECT)
            opinions[k] = dataclasses.replace(second, note="; ".join(filter(None, (BY_FREED, second.note))))
    return opinions


def _is_held_back(known: Freed, ev: LeafEvidence) -> bool:
    """Whether autodiff is another gradient in this leaf than it would be, by more than their bars."""
    value, error = known.of(ev)
    claim, bars = there(_autodiff(ev)), ev.m_error if ev.a is None else there(ev.a_error)
    slack = BARS * (error + bars) + ALIKE * np.maximum(np.abs(value), np.abs(claim))
    return bool((np.abs(value - claim) > slack).any())


def _bears_out(case: Case, known: Freed, ev: LeafEvidence) -> bool:
    """Whether the differences say nothing else: they may see steps of which no formula knows."""
    value, error = known.of(ev)
    alone = dataclasses.replace(
        ev, m=value, m_error=error, m_given=np.zeros_like(error), a=None, a_error=None, is_autodiff=False
    )
    return case.judge(alone).verdict is Verdict.PASS


def _not_alone(case: Case, ev: LeafEvidence, opinion: Opinion) -> Opinion:
    """Undecided, where no difference speaks against M, and autodiff does; or differences do, and autodiff alone does
    not."""
    alone = case.judge(dataclasses.replace(ev, a=None, a_error=None)).verdict
    if _overrules(opinion) and alone is Verdict.FAIL:
        return dataclasses.replace(opinion, verdict=Verdict.INCONCLUSIVE, reason=Reason.NUMERIC_SUSPECT, note=SIDES)
    if opinion.verdict is not Verdict.FAIL or alone is not Verdict.PASS:
        return opinion
    return dataclasses.replace(opinion, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE, note=ALONE)
