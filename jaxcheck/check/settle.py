"""One leaf judged, and looked at again where it is in doubt: before anyone is blamed, and before anyone is believed."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import FINE_UNIT
from jaxcheck.check.doubts import implicit, rounding
from jaxcheck.check.doubts.suspects import FOLLOW_UP, farther, suspects, wide
from jaxcheck.check.settings import Case
from jaxcheck.evidence import gather, second_look
from jaxcheck.evidence.differences import Ladder
from jaxcheck.evidence.measured import LeafEvidence, Probes
from jaxcheck.judgement import measures
from jaxcheck.judgement.vote import Opinion, beyond_rounding
from jaxcheck.result import Reason, Verdict

FINER = Ladder(first=1e-5, ratio=4.0, count=10)
# Steps of a component in units of its own spacing: whole numbers of it, for others would not move it by what they say.
FLOATS = Ladder(first=4.0**12, ratio=4.0, count=13)
# Of float64 that XLA does not flush to zero.
SMALLEST = float(np.finfo(np.float64).tiny)


def settle(case: Case, number: int, ev: LeafEvidence) -> tuple[LeafEvidence, Opinion]:
    """Judge a leaf; what is in doubt is judged again by measured round-off, and on steps known to be smooth."""
    if implicit.concerns(case, number):
        return implicit.settled(case, ev)
    ev, opinion, ladder = _first_look(case, number, ev)
    if opinion.verdict is Verdict.FAIL and case.problem.numbers is None:
        known = rounding.coarser(case, number, ev)
        ev, opinion, ladder = (ev, opinion, ladder) if known is ev else _first_look(case, number, known)
    plain = opinion.verdict is Verdict.PASS and opinion.reason is Reason.AGREE and not opinion.doubtful
    if plain:
        ev, opinion = farther(case, number, ev, opinion)
        if rounding.is_at_rest(ev):
            return rounding.rested(case, ev), opinion
    done = opinion.reason in (Reason.SURROGATE, Reason.NONFINITE) or not ev.leaf.size
    if done or case.problem.primal is None or beyond_rounding(ev, opinion):
        return ev, opinion
    # What M and A outvote is off by less than `GROSS`. A closer look takes most of the time of an integrator, and
    # changed no verdict of odeint and cg, which were compared; whether both leave out the same is asked apart
    # (`held_back`).
    if plain or opinion.outvoted:
        return rounding.weighed(case, ev, opinion), opinion
    accused = opinion.verdict is Verdict.FAIL
    ev = _beside_edges(case, number, rounding.closer(case, number, ev, suspects(case, number, ev, opinion), ladder))
    opinion = rounding.beside(ev, case.judge(ev))
    if not accused and opinion.verdict is Verdict.FAIL:
        indices = suspects(case, number, ev, opinion)
        ev, opinion, ladder = _on_finer_steps(case, number, ev, opinion, indices)
    ev, opinion = _against_autodiff(case, number, ev, opinion)
    opinion = rounding.analytic(case, ev, opinion) if ladder is FINER else opinion
    ev, opinion = farther(case, number, ev, opinion)
    return ev, rounding.placed(case, ev, rounding.held_fixed(case, ev, opinion))


def _against_autodiff(case: Case, number: int, ev: LeafEvidence, opinion: Opinion) -> tuple[LeafEvidence, Opinion]:
    """Before autodiff is blamed: finer steps, and whether there is anything in the program that could deceive it."""
    if opinion.reason is not Reason.AUTODIFF_DIFFERS or ev.a is None or not np.isfinite(ev.a).all():
        return ev, opinion
    if case.problem.unit < FINE_UNIT:
        single, again = _finer(case, number, ev, suspects(case, number, ev, opinion))
        finer = dataclasses.replace(ev, probes=measures.believed((*again, single)))
        second = case.judge(finer)
        if second.verdict is Verdict.FAIL:
            return finer, second
    return ev, opinion if rounding.may_deceive(case.problem) else dataclasses.replace(
        opinion, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE, note=rounding.SMALLER_SCALE
    )


def _first_look(case: Case, number: int, ev: LeafEvidence) -> tuple[LeafEvidence, Opinion, Ladder]:
    """Judge a leaf; before anyone is blamed, the suspicious components get the full ladder. With the ladder that has
    the say."""
    first, opinion = case.at_first_sight(ev)
    ev = _beside_edges(case, number, first)
    opinion = opinion if ev is first else case.judge(ev)
    if opinion.reason in (Reason.SURROGATE, Reason.NONFINITE) or not ev.leaf.size:
        return ev, opinion, case.ladder
    kinked = any(p.slopes.kink.any() for p in ev.probes)
    broad = wide(ev, case.settings.must_catch)
    if opinion.verdict is Verdict.PASS and not kinked and not broad.any():
        return ev, opinion, case.ladder
    laddered = [p.at for p in ev.probes if p.directions is None and np.isfinite(p.slopes.left).any()]
    every = len(np.unique(np.concatenate([np.zeros(0, int), *laddered]))) == ev.m.shape[1]
    # Components far smaller than their leaf's RMS were moved too far to tell; by their own size now.
    small = (ev.values != 0) & (np.abs(ev.values) < gather.FLOOR * np.sqrt(np.mean(ev.values**2)))
    small &= broad | (opinion.verdict is not Verdict.PASS)
    suspect = opinion.reason is Reason.NUMERIC_SUSPECT
    if every and not kinked and not small.any() and not suspect:
        return ev, opinion, case.ladder
    indices = suspects(case, number, ev, opinion) if suspect or not every else np.flatnonzero(small)[:FOLLOW_UP]
    ev = _with_ladder(case, number, ev, indices, np.flatnonzero(small), kinked)
    opinion = case.judge(ev)
    return _on_finer_steps(case, number, ev, opinion, indices)


def _beside_edges(case: Case, number: int, ev: LeafEvidence) -> LeafEvidence:
    """The evidence of a leaf that no autodiff speaks for, with finer steps of the components whose bars are wide where
    the larger ones leave the domain, and then with steps of a few floats of those of which it still is so, or is seen
    but one side: there may be room on both."""
    known = ev.a is not None and np.isfinite(ev.a).all()
    if known or case.problem.unit >= FINE_UNIT:
        return ev
    must_catch = case.settings.must_catch
    indices = np.flatnonzero(wide(ev, must_catch) & measures.near_edge(ev))[:FOLLOW_UP]
    if indices.size:
        single, _ = _finer(case, number, ev, indices)
        ev = dataclasses.replace(ev, probes=measures.believed((*ev.probes, single)))
    spacing = np.spacing(np.abs(ev.values))
    # Not of a zero, or next to it: floats as small as their spacing are zero to a compiled program.
    narrow = (measures.on_one_side(ev) | (wide(ev, must_catch) & measures.near_edge(ev))) & (spacing >= SMALLEST)
    indices = np.flatnonzero(narrow)[:FOLLOW_UP]
    if indices.size:
        scale = spacing[indices]
        (single, _), spent, compiled = second_look.follow_up(
            case.problem, case.point, number, indices, FLOATS, case.settings.seed, scale=scale
        )
        case.evaluations += spent
        case.compiled += compiled
        both = measures.without(single, single.at[single.slopes.one_sided.any(axis=1)])
        ev = dataclasses.replace(ev, probes=measures.believed((*ev.probes, both)))
    return ev


def _on_finer_steps(
    case: Case, number: int, ev: LeafEvidence, opinion: Opinion, indices: np.ndarray
) -> tuple[LeafEvidence, Opinion, Ladder]:
    """The same by finer steps where the differences stand against all claims there are: the function may live on a
    scale below the ladder's."""
    alone = opinion.reason is Reason.MANUAL_WRONG and ev.a is None
    if not (opinion.reason is Reason.NUMERIC_SUSPECT or alone) or case.problem.unit >= FINE_UNIT:
        return ev, opinion, case.ladder
    single, again = _finer(case, number, ev, indices)
    gone = np.zeros(0, int) if alone else indices
    kept = tuple(measures.without(p, gone) for p in ev.probes if p.directions is None)
    # What the directions contradicted, of which these components are a part, is not forgotten.
    finer = dataclasses.replace(ev, probes=measures.believed((*kept, *again, single)))
    second = case.judge(finer)
    if second.verdict is not Verdict.FAIL or measures.excluded(ev.probes, single):
        # Also where they exclude the coarser ones: those look at another scale, and so have no say.
        return finer, second, FINER
    return ev, opinion, case.ladder


def _with_ladder(
    case: Case, number: int, ev: LeafEvidence, indices: np.ndarray, small: np.ndarray, kinked: bool
) -> LeafEvidence:
    """The full ladder on the chosen components, `small` ones of them by their own size, and on ties at a kink."""
    (single, tied), spent, compiled = second_look.follow_up(
        case.problem, case.point, number, indices, case.ladder, case.settings.seed, 0.0 if small.size else gather.FLOOR
    )
    case.evaluations += spent
    case.compiled += compiled
    # Coarser differences of components that now have the ladder are dropped, or, moved by more, compared.
    kept = tuple(measures.without(p, np.setdiff1d(indices, small)) for p in ev.probes)
    more = (single, tied) if kinked else (single,)
    return _by_claim(case, number, dataclasses.replace(ev, probes=measures.believed((*kept, *more))))


def _finer(case: Case, number: int, ev: LeafEvidence, indices: np.ndarray) -> tuple[Probes, tuple[Probes, ...]]:
    """(the chosen components, all directions of a leaf once more) by finer steps."""
    dense = [p for p in ev.probes if p.directions is not None]
    (single, other), spent, compiled = second_look.follow_up(
        case.problem, case.point, number, indices, FINER, case.settings.seed, 0.0, again=dense
    )
    case.evaluations += spent
    case.compiled += compiled
    return single, (other,) if dense else ()


def _by_claim(case: Case, number: int, ev: LeafEvidence) -> LeafEvidence:
    """More differences of components where every ladder so far is too coarse for the claim: M would move the
    function within the smallest step by more than it moves at all. What it scatters by there, over the claim,
    is the distance within which it turns by M's word."""
    scale = np.full(ev.m.shape[1], np.nan)
    with np.errstate(all="ignore"):
        claim = np.abs(ev.m).max(axis=0)
        for p in ev.probes:
            if p.directions is None:
                steep = claim[p.indices] > p.slopes.steepest.min(axis=1)
                here = np.where(steep, p.slopes.noise.max(axis=1) / claim[p.indices], 0.0)
                scale[p.indices] = np.fmin(scale[p.indices], here)
    indices = np.flatnonzero(scale > 0)[:FOLLOW_UP]
    if not indices.size:
        return ev
    (single, _), spent, compiled = second_look.follow_up(
        case.problem, case.point, number, indices, case.ladder, case.settings.seed, scale=scale[indices]
    )
    case.evaluations += spent
    case.compiled += compiled
    return dataclasses.replace(ev, probes=measures.believed((*ev.probes, single)))
