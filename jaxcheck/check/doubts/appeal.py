"""Leaves that float64 cannot judge are judged by the fourth witness: the formula in arbitrary precision."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import BARS
from jaxcheck.check.doubts import rounding
from jaxcheck.check.settings import Case
from jaxcheck.evidence import exact
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.formula import norms
from jaxcheck.judgement import power
from jaxcheck.judgement.influence import influence as influence_of
from jaxcheck.judgement.measures import without
from jaxcheck.judgement.vote import Opinion
from jaxcheck.result import Reason, Verdict

BY_X = "by the formula's own derivative in arbitrary precision (X), for float64 cannot tell here"


def second_opinions(case: Case, leaves: list[LeafEvidence], opinions: list[Opinion]) -> list[Opinion]:
    """Opinions after an appeal to X where one is of use; `leaves` is changed in place."""
    opinions = list(opinions)
    if not exact.affordable(case.problem, 1):
        return opinions
    influence = influence_of(tuple(leaves))
    for number, (ev, opinion) in enumerate(zip(leaves, opinions, strict=True)):
        if not _undecided(case, ev, opinion, influence) or _too_coarse(ev, opinion, case.settings.must_catch):
            continue
        heard = _heard(case, number, ev)
        second = opinion if heard is None else case.judge(heard)
        if second.verdict is Verdict.FAIL and opinion.verdict is Verdict.FAIL:
            continue  # the differences said so, and what it is that is off
        # A gradient that has no digits itself is as undecided as it was, whatever is known of the true one.
        if heard is not None and not _undecided(case, heard, second, influence):
            leaves[number] = heard
            opinions[number] = dataclasses.replace(second, note="; ".join(filter(None, (BY_X, second.note))))
    return opinions


def _too_coarse(ev: LeafEvidence, opinion: Opinion, must_catch: float) -> bool:
    """Whether the numbers of the gradient were rounded so far that they stay undecided whatever the true one is."""
    coarse = BARS * norms(ev.m_given) > must_catch * norms(ev.m)
    return bool(coarse.all()) and opinion.reason in (Reason.PRECISION, Reason.AGREE)


def _heard(case: Case, number: int, ev: LeafEvidence) -> LeafEvidence | None:
    """The evidence of a leaf with X in place of the differences, and of autodiff where X saw every component: it is the
    same formula's derivative, with all its digits. None where X cannot speak, or should not: the derivative of a
    staircase's steps is exact and useless, so the differences must look at one analytic formula."""
    n = ev.m.shape[1]
    count = exact.affordable(case.problem, n)
    order = np.sort(np.argsort(-np.abs(ev.m).max(axis=0), kind="stable")[:count])
    if any(p.analytic is None for p in ev.probes):
        ev = rounding.closer(case, number, ev, order, case.ladder)
    if not all(p.analytic is not None and p.analytic.all() for p in ev.probes):
        return None
    found = exact.single(case.problem, case.point, number, order)
    if found is None or not np.isfinite(found.slopes.error).all():
        return None
    if count == n:
        return dataclasses.replace(rounding.measured(case, ev), probes=(found,), a=None, a_error=None)
    kept = (without(p, order) for p in ev.probes)
    return dataclasses.replace(rounding.measured(case, ev), probes=(*(p for p in kept if len(p.slopes.value)), found))


def _undecided(case: Case, ev: LeafEvidence, opinion: Opinion, influence: np.ndarray) -> bool:
    """Whether the verdict is, or would become, that nothing can be said for rounding."""
    if not ev.leaf.size or not np.isfinite(ev.m).all():
        return False
    if opinion.verdict is not Verdict.PASS:
        return opinion.reason in (Reason.NOISE, Reason.PRECISION, Reason.NUMERIC_SUSPECT)
    if opinion.reason is not Reason.AGREE:
        return False
    must_catch = case.settings.must_catch
    weakest = max(case.floors(ev, influence))
    return not weakest <= must_catch or bool(power.unresolved(ev, must_catch))
