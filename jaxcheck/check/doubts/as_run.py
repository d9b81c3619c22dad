"""After the verdicts in float64: is the path that is run, in the caller's own dtypes, that formula too?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxcheck import bars
from jaxcheck.check.doubts.as_run_walk import NOTHING_LEFT, Second, Walk, is_wrong
from jaxcheck.check.settings import Case
from jaxcheck.evidence import as_run
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.formula import norm2
from jaxcheck.judgement import as_run as judgement
from jaxcheck.judgement import locate
from jaxcheck.judgement.vote import Opinion
from jaxcheck.result import Reason, Verdict
from jaxcheck.there import there

NOT_LOOKED_AT = "right in float64; what is run in {dtype} was not looked at"


def second_opinions(
    case: Case, leaves: Sequence[LeafEvidence], opinions: Sequence[Opinion], directions: Mapping
) -> dict[int, Second]:
    """Leaf number -> what its native run adds. Empty where there is nothing to add."""
    native, run = case.preface.native, case.preface.run
    if native is not None and case.preface.native_scatter is not None:
        return _on_host(case, leaves, opinions)
    asked = {
        k
        for k, opinion in enumerate(opinions)
        if opinion.verdict is Verdict.PASS and leaves[k].leaf.size and opinion.reason is not Reason.SURROGATE
    }
    convicted = {k for k, opinion in enumerate(opinions) if is_wrong(opinion) and leaves[k].leaf.size}
    if run is None or not (asked or convicted) or case.problem.is_autodiff:
        return {}
    wide = np.concatenate([ev.m for ev in leaves], axis=1)
    if native is None and case.problem.numbers is not None:
        native, asked = wide, set()  # numbers are what they are
    if native is None or native.shape != wide.shape:
        return {}
    asked -= {k for k in asked if _stopped_early(case, leaves[k], opinions[k], native)}
    walk = Walk(case, run, leaves, native, wide)
    found = walk.formula(asked, directions, convicted)
    asked -= {k for k, second in found.items() if second.verdict is not Verdict.PASS}
    if asked and case.preface.native_finite and not run.stops:
        found |= walk.rounding(asked)
    return found


def unknown(leaves: Sequence[LeafEvidence], opinions: Sequence[Opinion]) -> dict[int, Second]:
    """What is added to leaves that passed where the look at the native run was stopped."""
    return {
        k: Second(Verdict.INCONCLUSIVE, Reason.INTERRUPTED, NOT_LOOKED_AT.format(dtype=ev.leaf.native))
        for k, (ev, opinion) in enumerate(zip(leaves, opinions, strict=True))
        if opinion.verdict is Verdict.PASS and opinion.reason is not Reason.SURROGATE and ev.leaf.size
    }


def _stopped_early(case: Case, ev: LeafEvidence, opinion: Opinion, native: np.ndarray) -> bool:
    """Whether a leaf is right at its loops' limit, and as run as near to that as must be caught: where a loop stops
    depends on the dtype, so that another formula is run, which says no more than that."""
    off = native[:, ev.leaf.start : ev.leaf.stop] - ev.m
    return opinion.reason is Reason.CONVERGED and bool(norm2(off) <= case.settings.must_catch * norm2(ev.m))


def _on_host(case: Case, leaves: Sequence[LeafEvidence], opinions: Sequence[Opinion]) -> dict[int, Second]:
    """The gradient as the caller's own NumPy code computes it, beside what its scatter between neighbours explains."""
    native, spread, found = there(case.preface.native), there(case.preface.native_scatter), {}
    farther = case.preface.native_otherwise
    if native.shape[1] != sum(ev.m.shape[1] for ev in leaves):
        return {}
    for k, (ev, opinion) in enumerate(zip(leaves, opinions, strict=True)):
        where = slice(ev.leaf.start, ev.leaf.stop)
        if opinion.verdict is not Verdict.PASS or not ev.leaf.size or not np.isfinite(native[:, where]).all():
            continue
        run = judgement.LeafRun(
            ev.leaf,
            ev.values,
            native[:, where],
            ev.m,
            ev.m,
            bars.underflow(*as_run.range_of(ev.leaf)),
            spread[:, where],
        )
        off = judgement.lost(run, case.settings.must_catch, as_run.spacing_of(ev.leaf))
        if off.any() and farther is not None:
            spread, farther = np.fmax(spread, farther()), None
            run = dataclasses.replace(run, bar=spread[:, where])
            off = judgement.lost(run, case.settings.must_catch, as_run.spacing_of(ev.leaf))
        if off.any():
            numbers = judgement.components(run, off, lambda c, i, ev=ev: locate.numeric_component(ev, c, i))
            found[k] = Second(Verdict.FAIL, Reason.PRECISION_WRONG, judgement.said(run, off), numbers)
        elif judgement.gone(run, ev.m_error):
            found[k] = Second(Verdict.INCONCLUSIVE, Reason.PRECISION, NOTHING_LEFT.format(dtype=ev.leaf.native))
    return found
