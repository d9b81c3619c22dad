"""What is said of a check that was stopped: by its budget, by Ctrl-C, or by the memory there is.

What was not looked at is INCONCLUSIVE, and so is what a first look contradicted and nobody looked at more closely:
blame waits for the second look, and so does a PASS that depends on it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxcheck import budget
from jaxcheck.budget import Budget, current, until_stopped
from jaxcheck.check.doubts import limits
from jaxcheck.check.made import made
from jaxcheck.check.settings import Case
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.judgement import measures
from jaxcheck.judgement.vote import Opinion, beyond_rounding, judge
from jaxcheck.notebook import cell
from jaxcheck.result import NAN, Cost, LeafResult, Reason, Report, Verdict
from jaxcheck.theta import Theta, take_apart

# Part by which a proposed budget exceeds what is foreseen.
ROOM = 0.5

NOT_LOOKED_AT = "not looked at"
NO_DIFFERENCE = "no difference was taken of it, or not all that it needs"


def leaves(theta: Theta, note: str = NOT_LOOKED_AT) -> tuple[LeafResult, ...]:
    """The leaves of a check that was stopped before it knew anything."""
    return tuple(
        LeafResult(x.path, x.shape, x.dtype, Verdict.INCONCLUSIVE, Reason.INTERRUPTED, note=note, native=x.native)
        for x in theta.leaves
    )


def unprepared(kind: str, name: str, tree: Any, seed: int) -> Report:
    """The report of a check that was stopped before anything was measured at `tree`."""
    theta = take_apart(tree)
    return Report(
        kind, name, Verdict.INCONCLUSIVE, Reason.INTERRUPTED, leaves=leaves(theta), carried=theta.carried, seed=seed
    )


def unseen(ev: LeafEvidence, note: str = NO_DIFFERENCE) -> Opinion:
    """Of a leaf without the differences that it needs."""
    apart = NAN if ev.a is None else measures.by_column(ev.m, ev.a)
    return Opinion(Verdict.INCONCLUSIVE, Reason.INTERRUPTED, NAN, apart, NAN, NAN, np.zeros(ev.m.shape), 0, note)


def unconfirmed(case: Case, ev: LeafEvidence) -> Opinion:
    """Of a leaf of which a closer look was begun, and not ended."""
    first = case.judge(dataclasses.replace(ev, probes=measures.believed(ev.probes)))
    seen = f", difference {first.difference:.2g}" if math.isfinite(first.difference) else ""
    if _plainly_wrong(case, ev, first):
        return dataclasses.replace(first, note="seen by differences and autodiff; not looked at more closely")
    if first.verdict is Verdict.PASS:
        note = "at first sight it agrees; what would tell how far that goes was left out"
    else:
        note = f"at first sight {first.reason}{seen}; it was not looked at more closely"
    return dataclasses.replace(first, verdict=Verdict.INCONCLUSIVE, reason=Reason.INTERRUPTED, note=note)


def _plainly_wrong(case: Case, ev: LeafEvidence, first: Opinion) -> bool:
    """Whether no closer look could excuse it: differences and autodiff agree with each other, on smooth ground, and
    are both far from M; and no loop stops somewhere."""
    if first.verdict is not Verdict.FAIL or not beyond_rounding(ev, first) or limits.stops(case.problem):
        return False
    other = judge(ev, case.settings.tolerance, m=ev.a, must_catch=case.settings.must_catch)
    return other.verdict is Verdict.PASS and other.reason is Reason.AGREE and not other.kinks


def settled(case: Case, number: int, ev: LeafEvidence, settle: Callable) -> tuple[LeafEvidence, Opinion]:
    """`settle(case, number, ev)`, or what is known where that is stopped."""
    with until_stopped():
        return settle(case, number, ev)
    return ev, unconfirmed(case, ev)


def stage(
    case: Case, evidence: list[LeafEvidence], opinions: list[Opinion], concerns: Callable, look: Callable
) -> list[Opinion]:
    """`look(opinions)`, second opinions on some leaves; where it is stopped, those that it concerns are unconfirmed.

    Args:
        concerns: of (evidence, opinion) of a leaf.
    """
    with until_stopped():
        return look(opinions)
    return [
        unconfirmed(case, ev) if concerns(ev, opinion) and opinion.reason is not Reason.INTERRUPTED else opinion
        for ev, opinion in zip(evidence, opinions, strict=True)
    ]


def without(opinions: list[Opinion], left_out: tuple[int, ...], evidence: list[LeafEvidence]) -> list[Opinion]:
    """Opinions where components that were asked for were left out: such a leaf does not pass."""
    out = []
    for opinion, missing, ev in zip(opinions, left_out, evidence, strict=True):
        if missing and opinion.verdict is Verdict.PASS:
            note = f"{missing} of its {ev.m.shape[1]} components were not looked at one by one; the rest agrees"
            opinion = dataclasses.replace(opinion, verdict=Verdict.INCONCLUSIVE, reason=Reason.INTERRUPTED, note=note)
        out.append(opinion)
    return out


def why(clock: Budget) -> str:
    if clock.stopped == budget.USER:
        return "stopped by Ctrl-C"
    more = f": {clock.said}" if clock.said else ""
    if clock.stopped == budget.MEMORY:
        return f"stopped for want of memory{more}"
    return f"stopped by its budget of {clock.seconds:g} s{more}"


def finished(report: Report, subject: Any = None) -> Report:
    """The report with what was measured and spent; and where something was left out, what that would take.

    Args:
        subject: the function under test.
    """
    clock = current()
    rows = clock.left_out
    more = rows * clock.row_seconds if rows else NAN
    cost = Cost(
        clock.row_seconds,
        clock.pair_seconds,
        clock.planned,
        clock.compile_seconds,
        clock.run_seconds,
        clock.peak_bytes,
        clock.seconds,
        clock.stopped,
        more,
        searching=clock.search_seconds,
    )
    about = made(subject, report.culprits)
    culprits = tuple(dataclasses.replace(one, file=cell(one.file)) for one in report.culprits)
    report = dataclasses.replace(report, cost=cost, seconds=clock.taken, made=about, culprits=culprits)
    if not clock.stopped and not rows:
        return report
    said = [
        why(clock)
        if clock.stopped
        else f"to keep to its budget of {clock.seconds:g} s it left out what is not needed for a verdict"
    ]
    undecided = sum(x.reason is Reason.INTERRUPTED for x in report.leaves)
    if undecided:
        said.append(f"{undecided} of {len(report.leaves)} leaves not decided")
    floors = [x.floor for x in report.leaves if math.isfinite(x.floor)]
    if floors:
        said.append(f"{'of the others ' if undecided else ''}an error above {max(floors):.1g} would have been caught")
    if math.isfinite(more):
        said.append(f"{rows:,} more evaluations, about {more:.2g} s, would look at all that was planned")
        if clock.stopped in ("", budget.TIME):
            said[-1] += f" (budget={_round_up(clock.taken + more * (1 + ROOM)):g})"
    elif clock.stopped == budget.TIME:
        said.append("a larger budget, or budget=None, lets it end")
    return dataclasses.replace(report, notes=("; ".join(said), *report.notes))


def _round_up(seconds: float) -> float:
    """To two digits, upwards."""
    unit = 10 ** (math.floor(math.log10(seconds)) - 1)
    return math.ceil(seconds / unit) * unit
