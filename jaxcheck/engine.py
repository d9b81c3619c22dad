"""One check from problem to report: plan, gather, vote, follow up, measure the power, write it down."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from jaxcheck import appeal, as_run, doubt, implicit, kinks, limits, stopping
from jaxcheck.bars import FINE_UNIT
from jaxcheck.budget import current, until_stopped
from jaxcheck.evidence import exhaustive, flat, gather, witnesses
from jaxcheck.evidence.differences import Ladder
from jaxcheck.evidence.preface import Preface
from jaxcheck.evidence.problem import Evidence, LeafEvidence, Probes, Problem
from jaxcheck.evidence.repeat import LOSS, differ
from jaxcheck.judgement import measures
from jaxcheck.judgement.vote import Opinion, beyond_rounding
from jaxcheck.options import Exhaustive
from jaxcheck.plan import PER_LEAF, ladder_for, plan
from jaxcheck.result import NAN, Reason, Report, Verdict
from jaxcheck.settings import Case, Settings
from jaxcheck.suspects import FOLLOW_UP, farther, suspects, wide
from jaxcheck.writing import write

FINER = Ladder(first=1e-5, ratio=4.0, count=10)


def examine(
    problem: Problem, preface: Preface, settings: Settings, *, kind: str, name: str, start: float, rows: tuple = ()
) -> Report:
    """Run the check and write the report; what is stopped on the way is said in it."""
    head = dict(
        kind=kind, name=name, witnesses=preface.witnesses, carried=problem.theta.carried, seed=settings.seed, rows=rows
    )

    def stop(verdict, reason, *notes, **more):
        return Report(
            verdict=verdict,
            reason=reason,
            notes=(*notes, *preface.notes),
            seconds=time.perf_counter() - start,
            **head,
            **more,
        )

    if preface.structure:
        return stop(Verdict.FAIL, Reason.STRUCTURE, preface.structure)
    if preface.random:
        return stop(Verdict.INCONCLUSIVE, Reason.NONDETERMINISTIC, preface.random)
    if not problem.theta.size:
        return stop(Verdict.INCONCLUSIVE, Reason.VACUOUS, "every differentiable leaf is empty")
    point = problem.theta.ravel()
    case = Case(problem, preface, settings, point, ladder_for(problem), compiled=preface.compiled)
    directions, wanted, mode, why = plan(problem, settings, point)
    evidence = None
    with until_stopped():
        evidence = _gathered(case, directions, wanted, mode)
    if evidence is None:
        return stop(Verdict.INCONCLUSIVE, Reason.INTERRUPTED, leaves=stopping.leaves(problem.theta))
    case.evaluations += evidence.evaluations
    case.compiled += evidence.compiled
    known = any(ev.probes for ev in evidence.leaves) or not evidence.unseen
    value = float(evidence.outputs[0]) if problem.columns == 1 else NAN
    repeats, unseen = None, evidence.unseen
    with until_stopped():
        repeats = not known or _repeats(problem, point, case.ladder, evidence)
    if repeats is None:
        unseen = tuple(range(len(evidence.leaves)))
    elif evidence.random or not repeats:
        return stop(Verdict.INCONCLUSIVE, Reason.NONDETERMINISTIC, evidence.random or LOSS, value=value)
    if known and not np.isfinite(evidence.outputs).all():
        what = "the function's value" if problem.columns > 1 else f"loss(params) = {value}"
        return stop(Verdict.INCONCLUSIVE, Reason.NONFINITE, f"{what} is not finite at this point", value=value)
    return _judged(case, evidence, unseen, directions, dict(mode=mode, why=why, value=value, head=head, start=start))


def _judged(case: Case, evidence: Evidence, unseen: tuple[int, ...], directions, said: dict[str, Any]) -> Report:
    """The report on what was gathered, and on what the doubtful of it asks for besides; `said` goes into it."""
    if evidence.sharpened:
        said["why"] += "; path integrals of the gradient sharpen what low precision allows"
    leaves, extra, left_out = _add_exhaustive(case, evidence, said["mode"])
    leaves, opinions, seconds = _opinions(case, list(leaves), unseen, directions)
    if left_out:
        opinions = stopping.without(opinions, left_out, leaves)
        extra = None if any(left_out) else extra
    evidence = dataclasses.replace(evidence, leaves=tuple(leaves))
    step = case.settings.mode.step if isinstance(case.settings.mode, Exhaustive) else None
    each = 0 if not left_out else 4 if step is None else 2
    current().left_out += evidence.left_out * len(case.ladder.offsets) + each * sum(left_out or ())
    return write(case, evidence, opinions, seconds, extra, **said)


def opinions_of(problem: Problem, settings: Settings) -> tuple[Case, list[LeafEvidence], list[Opinion]]:
    """What is found of each leaf of a problem that is part of another check; of none where time did not allow it."""
    case = Case(problem, Preface("", (), ()), settings, problem.theta.ravel(), ladder_for(problem))
    directions, wanted, mode, _ = plan(problem, settings, case.point)
    evidence = _gathered(case, directions, wanted, mode)
    case.evaluations += evidence.evaluations
    case.compiled += evidence.compiled
    if evidence.random or evidence.unseen:
        return case, [], []
    leaves, opinions, _ = _opinions(case, list(evidence.leaves), (), directions)
    return case, leaves, opinions


def _gathered(case: Case, directions, wanted: int, mode: str) -> Evidence:
    problem, settings, clock = case.problem, case.settings, current()
    if mode == "sketch" and settings.mode is None and flat.fits(problem, case.ladder, PER_LEAF):
        clock.planned = flat.DIRECTIONS * len(flat.LADDER.offsets)
        evidence = flat.gather(problem, case.point, settings.seed)
        if evidence is not None:
            return evidence
    sizes = [leaf.stop - leaf.start for leaf in problem.theta.leaves]
    clock.planned = len(case.ladder.offsets) * sum(sizes[k] if d is None else len(d) for k, d in directions.items())
    return gather.gather(problem, case.point, directions, case.ladder, settings.seed, wanted)


def _opinions(case: Case, leaves: list[LeafEvidence], unseen: tuple[int, ...], directions):
    """(leaves, opinions of them, what the native run adds): judged, and whoever is in doubt looked at again."""
    opinions = []
    for number, ev in enumerate(leaves):
        current().tell("leaves", number, len(leaves))
        if number in unseen:
            opinions.append(stopping.unseen(ev))
            continue
        leaves[number], opinion = stopping.settled(case, number, ev, _settle)
        opinions.append(opinion)
    opinions = stopping.stage(
        case,
        leaves,
        opinions,
        lambda *pair: limits.concerns(case, *pair),
        lambda: limits.second_opinions(case, directions, leaves, opinions, _settle),
    )
    opinions = stopping.stage(
        case,
        leaves,
        opinions,
        lambda *pair: kinks.concerns(case, *pair),
        lambda: kinks.second_opinions(case, directions, leaves, opinions),
    )
    opinions = stopping.stage(
        case, leaves, opinions, lambda *pair: False, lambda: appeal.second_opinions(case, leaves, opinions)
    )
    with until_stopped():
        return leaves, opinions, as_run.second_opinions(case, leaves, opinions, directions)
    return leaves, opinions, as_run.unknown(leaves, opinions)


def _repeats(problem: Problem, point: np.ndarray, ladder: Ladder, evidence: Evidence) -> bool:
    """Whether a second run gives the same outputs, where foreign code takes part: a compiled program may
    call it once for all rows, so that one run shows nothing."""
    if problem.primal is None or not problem.primal.note:
        return True
    samples = witnesses.measure(problem, point, np.zeros((1, point.size)), ladder, 0, gradients=False)[0]
    return not differ(samples[0, 0][:, None], evidence.outputs[:, None], problem.unit)


def _add_exhaustive(case: Case, evidence: Evidence, mode: str):
    """The differences that `Exhaustive` asks for: (leaves, textbook differences or None, components left out of each
    leaf for want of time, or None)."""
    asked = case.settings.mode
    if not isinstance(asked, Exhaustive) or (
        asked.step is None and all(p.directions is None for ev in evidence.leaves for p in ev.probes)
    ):
        return evidence.leaves, None, None
    done = None
    with until_stopped():
        if asked.step is not None:
            done = exhaustive.textbook(case.problem, case.point, asked.step, asked.scheme, asked.chunk)
        else:
            done = exhaustive.two_step(case.problem, case.point, asked.chunk)
    if done is None:
        # The random directions are there, the components are not.
        return evidence.leaves, None, tuple(ev.m.shape[1] for ev in evidence.leaves)
    case.evaluations += done.evaluations
    case.compiled += done.compiled
    if asked.step is not None:
        return evidence.leaves, done, done.left_out
    leaves = tuple(
        dataclasses.replace(ev, probes=(*ev.probes, exhaustive.as_probes(*pair))) if ev.leaf.size else ev
        for ev, pair in zip(evidence.leaves, done.leaves, strict=True)
    )
    return leaves, done, done.left_out


def _settle(case: Case, number: int, ev: LeafEvidence) -> tuple[LeafEvidence, Opinion]:
    """Judge a leaf; what is in doubt is judged again by measured round-off, and on steps known to be smooth."""
    if implicit.concerns(case, number):
        return implicit.settled(case, ev)
    ev, opinion, ladder = _first_look(case, number, ev)
    if opinion.verdict is Verdict.FAIL and (case.problem.primal is None or case.problem.host_manual is not None):
        known = doubt.coarser(case, number, ev)
        ev, opinion, ladder = (ev, opinion, ladder) if known is ev else _first_look(case, number, known)
    plain = opinion.verdict is Verdict.PASS and opinion.reason is Reason.AGREE and not opinion.doubtful
    if plain:
        ev = farther(case, number, ev)
        if doubt.is_at_rest(ev):
            return doubt.rested(case, ev), opinion
    done = opinion.reason in (Reason.SURROGATE, Reason.NONFINITE) or not ev.leaf.size
    if done or case.problem.primal is None or beyond_rounding(ev, opinion):
        return ev, opinion
    if plain:
        # Bars that count beside the tolerance decide what would have been caught: they are measured, too.
        matter = doubt.bars_matter(ev, case.settings.tolerance)
        return (doubt.measured(case, ev), opinion) if matter else (ev, opinion)
    ev = doubt.closer(case, number, ev, suspects(case, number, ev, opinion), ladder)
    opinion = doubt.beside(ev, case.judge(ev))
    ev, opinion = _against_autodiff(case, number, ev, opinion)
    opinion = doubt.analytic(case, ev, opinion) if ladder is FINER else opinion
    return ev, doubt.placed(case, ev, doubt.held_fixed(case, ev, opinion))


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
    return ev, opinion if doubt.may_deceive(case.problem) else dataclasses.replace(
        opinion, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE, note=doubt.SMALLER_SCALE
    )


def _first_look(case: Case, number: int, ev: LeafEvidence) -> tuple[LeafEvidence, Opinion, Ladder]:
    """Judge a leaf; before anyone is blamed, the suspicious components get the full ladder. With the ladder that has
    the say."""
    ev = dataclasses.replace(ev, probes=measures.believed(ev.probes))
    opinion = case.judge(ev)
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
    alone = opinion.reason is Reason.MANUAL_WRONG and ev.a is None
    if (opinion.reason is Reason.NUMERIC_SUSPECT or alone) and case.problem.unit < FINE_UNIT:
        # The differences against all claims there are: the function may live on a scale below the ladder's.
        single, again = _finer(case, number, ev, indices)
        gone = np.zeros(0, int) if alone else indices
        kept = tuple(measures.without(p, gone) for p in ev.probes if p.directions is None)
        # What the directions contradicted, of which these components are a part, is not forgotten.
        finer = dataclasses.replace(ev, probes=measures.believed((*kept, *(again if alone else ()), single)))
        second = case.judge(finer)
        if second.verdict is not Verdict.FAIL or measures.excluded(ev.probes, single):
            # Also where they exclude the coarser ones: those look at another scale, and so have no say.
            return finer, second, FINER
    return ev, opinion, case.ladder


def _with_ladder(
    case: Case, number: int, ev: LeafEvidence, indices: np.ndarray, small: np.ndarray, kinked: bool
) -> LeafEvidence:
    """The full ladder on the chosen components, `small` ones of them by their own size, and on ties at a kink."""
    (single, tied), spent, compiled = gather.follow_up(
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
    (single, other), spent, compiled = gather.follow_up(
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
    (single, _), spent, compiled = gather.follow_up(
        case.problem, case.point, number, indices, case.ladder, case.settings.seed, scale=scale[indices]
    )
    case.evaluations += spent
    case.compiled += compiled
    return dataclasses.replace(ev, probes=measures.believed((*ev.probes, single)))
