"""One check from problem to report: plan, gather, vote, follow up, measure the power, write it down."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import numpy as np

from jaxcheck.budget import current, until_stopped
from jaxcheck.check import stopping
from jaxcheck.check.doubts import appeal, as_run, held_back, kinks, limits, rounding
from jaxcheck.check.plan import PER_LEAF, ladder_for, plan
from jaxcheck.check.settings import Case, Settings
from jaxcheck.check.settle import settle
from jaxcheck.check.writing import write
from jaxcheck.evidence import exhaustive, flat, gather, witnesses
from jaxcheck.evidence.as_run import spacing_of
from jaxcheck.evidence.differences import Ladder
from jaxcheck.evidence.measured import Evidence, LeafEvidence
from jaxcheck.judgement.vote import Opinion
from jaxcheck.options import Exhaustive
from jaxcheck.problem import solvers
from jaxcheck.problem.preface import Preface
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.repeat import GRADIENT, LOSS, differ
from jaxcheck.program.ask import Refused
from jaxcheck.result import NAN, Reason, Report, Verdict

STOPS = (
    "The function calls {}, which stops at a tolerance. The differences see what it gives, its error included: where "
    "the gradient is that of what it solves, tighten the tolerance until its error is below what is to be caught."
)
# Seconds of an evaluation that is run once more to see whom it calls, which takes some ten times as long.
SHORT = 0.5


def examine(
    problem: Problem, preface: Preface, settings: Settings, *, kind: str, name: str, start: float, rows: tuple = ()
) -> Report:
    """Run the check and write the report; what is stopped on the way is said in it."""
    head = dict(
        kind=kind, name=name, witnesses=preface.witnesses, carried=problem.theta.carried, seed=settings.seed, rows=rows
    )

    def stop(verdict, reason, *notes, **more):
        said, seconds = (*notes, *preface.notes), time.perf_counter() - start
        return Report(verdict=verdict, reason=reason, notes=said, seconds=seconds, **head, **more)

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
    elif _forgets(problem, preface):
        return stop(Verdict.INCONCLUSIVE, Reason.NONDETERMINISTIC, GRADIENT, value=value)
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
    return _with_solvers(case, write(case, evidence, opinions, seconds, extra, **said))


def _with_solvers(case: Case, report: Report) -> Report:
    """The report of what fails, with the solvers that the function calls: the gradient may be of what they solve."""
    host = case.problem.host_primal
    if case.problem.primal is not None or host is None or report.reason is not Reason.MANUAL_WRONG:
        return report
    names = [] if current().row_seconds >= SHORT else solvers.called(host, case.point)
    return dataclasses.replace(report, notes=(*report.notes, STOPS.format(", ".join(names)))) if names else report


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
    with until_stopped():
        case.look_at([ev for number, ev in enumerate(leaves) if number not in unseen])
    for number, ev in enumerate(leaves):
        current().tell("leaves", number, len(leaves))
        if number in unseen:
            opinions.append(stopping.unseen(ev))
            continue
        leaves[number], opinion = stopping.settled(case, number, ev, settle)
        opinions.append(opinion)
    for concerns, look in (
        (held_back.concerns, lambda found: held_back.second_opinions(case, leaves, found)),
        (limits.concerns, lambda found: limits.second_opinions(case, directions, leaves, found, settle)),
        (kinks.concerns, lambda found: kinks.second_opinions(case, directions, leaves, found)),
        (lambda *_: False, lambda found: appeal.second_opinions(case, leaves, found)),
        (rounding.may_be_otherwise, lambda found: rounding.decided_otherwise(case, leaves, found)),
    ):
        opinions = stopping.stage(case, leaves, opinions, functools.partial(concerns, case), look)
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


def _forgets(problem: Problem, preface: Preface) -> bool:
    """Whether Python's gradient, run as the caller runs it, is no longer what it was at first: it is warmed up by its
    first calls, or gives that of the call before."""
    if preface.native is None or preface.native_again is None:
        return False
    with until_stopped():
        try:
            return differ(preface.native, preface.native_again(), max(map(spacing_of, problem.theta.leaves)))
        except Refused:  # it raises where it did not
            return True
    return False


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
