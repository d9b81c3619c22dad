"""Second opinions where loops stop at a tolerance: what is right at their limit, and how far it is off as stopped.

As stopped, a loop is one function and an implicit rule the derivative of another, its limit. So a claim that the
differences contradict is looked at once more with every such loop, the claim's own ones too, run on until it
rests. Nothing is waived: leaves that no loop feeds are what they were, and a wrong formula is as wrong at the limit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxcheck.evidence import gather
from jaxcheck.evidence.maps import Map, MapEvidence
from jaxcheck.evidence.sketch import typical, units
from jaxcheck.evidence.witnesses import LeafEvidence, Problem
from jaxcheck.judgement.maps import Finding
from jaxcheck.judgement.measures import BARS, norms
from jaxcheck.judgement.vote import Opinion
from jaxcheck.program.converge import LONG, SHORT, Patience, iterates, run_on
from jaxcheck.program.objective import Traced
from jaxcheck.result import Reason, Verdict, formula2
from jaxcheck.settings import Case

# A gradient whose own loop stops so early that it is off by more than must_catch is off, even if run on it would
# be right: unless the function as stopped is about as far from its limit. About: this many times.
SAME = 10.0

Settle = Callable[[Case, int, LeafEvidence], tuple[LeafEvidence, Opinion]]


def second_opinions(case: Case, directions, leaves: list[LeafEvidence], opinions: list[Opinion],
                    settle: Settle) -> list[Opinion]:
    """Opinions after a look at the loops' limit; `leaves` is changed in place."""
    opinions = list(opinions)
    doubted = [k for k, pair in enumerate(zip(leaves, opinions, strict=True)) if _doubted(case, *pair)]
    if not doubted or not _iterates(case.problem):
        return opinions
    limit = _at_limit(case, directions, doubted, LONG, settle)
    short = None
    for k in doubted:
        ev, second = limit[k]
        if second.verdict is not Verdict.PASS:
            if short is None:
                short = _at_limit(case, directions, doubted, SHORT, None)
            if not _rests(case, short[k][0], ev):
                ev = _as_far_as_known(leaves[k], short[k][0], ev)
                second = None if ev is None else case.judge(ev)
        if second is not None and second.verdict is Verdict.FAIL and not _traced_claim(case.problem):
            ev = _with_stopping_error(leaves[k], ev)
            second = case.judge(ev)
        if second is None or second.verdict is Verdict.INCONCLUSIVE:
            continue
        if second.verdict is Verdict.PASS:
            leaves[k], opinions[k] = _right(case, leaves[k], opinions[k], ev, second)
        elif opinions[k].verdict is not Verdict.FAIL:
            leaves[k], opinions[k] = ev, dataclasses.replace(second, note=_said(
                "wrong at the loop's limit; as stopped, the differences cannot tell", second.note))
    return opinions


def _doubted(case: Case, ev: LeafEvidence, opinion: Opinion) -> bool:
    if not ev.leaf.size or opinion.reason in (Reason.SURROGATE, Reason.NONFINITE) or not np.isfinite(ev.m).all():
        return False
    if opinion.verdict is not Verdict.PASS or opinion.reason is Reason.NOISE:
        return True
    return bool(opinion.error_bar > 0.01 * case.settings.must_catch)


def _traced(problem: Problem) -> list[Traced]:
    return [t for t in (problem.primal, problem.manual, problem.autodiff) if t is not None]


def _iterates(problem: Problem) -> bool:
    return any(iterates(t.program.closed) for t in _traced(problem))


def _run_on(traced: Traced | None, patience: Patience) -> Traced | None:
    return None if traced is None else dataclasses.replace(traced, program=run_on(traced.program, patience))


def _traced_claim(problem: Problem) -> bool:
    """Whether the gradient under test is a program, whose own loops can be run on."""
    return problem.manual is not None


def _at_limit(case: Case, directions, doubted: Sequence[int], patience: Patience, settle: Settle | None):
    """The doubted leaves with every loop run on: {leaf: (evidence, opinion)}."""
    problem = case.problem
    further = dataclasses.replace(problem, primal=_run_on(problem.primal, patience),
                                  manual=_run_on(problem.manual, patience),
                                  autodiff=_run_on(problem.autodiff, patience))
    there = dataclasses.replace(case, problem=further, evaluations=0, compiled=0)
    plan = {k: directions[k] for k in doubted if k in directions}
    found = gather.gather(further, case.point, plan, case.ladder, case.settings.seed)
    out = {k: settle(there, k, found.leaves[k]) if settle is not None else (found.leaves[k], None) for k in doubted}
    case.evaluations += found.evaluations + there.evaluations
    case.compiled += found.compiled + there.compiled
    return out


def _pairs(a: LeafEvidence, b: LeafEvidence):
    """The slopes that two evidences of one leaf have along the same directions."""
    for p in a.probes:
        for q in b.probes:
            if p.directions is None and q.directions is None:
                _, here, there = np.intersect1d(p.indices, q.indices, return_indices=True)
                yield p.slopes[here], q.slopes[there]
            elif p.directions is not None and q.directions is not None and np.array_equal(p.directions, q.directions):
                yield p.slopes, q.slopes


def _apart(a: LeafEvidence, b: LeafEvidence) -> tuple[float, float, float]:
    """(distance of two evidences' differences, their bars, their size), in one norm; NaN where they share none."""
    total = np.zeros(3)
    with np.errstate(all="ignore"):
        for x, y in _pairs(a, b):
            known = np.isfinite(x.value) & np.isfinite(y.value) & np.isfinite(x.error + y.error)
            for i, part in enumerate((x.value - y.value, BARS * (x.error + y.error), np.abs(x.value) + np.abs(y.value))):
                total[i] += np.sum(part[known] ** 2)
    return tuple(np.sqrt(total)) if total[2] > 0 else (np.nan,) * 3


def _rests(case: Case, short: LeafEvidence, long: LeafEvidence) -> bool:
    """Whether going on for longer changed nothing."""
    distance, bars, size = _apart(short, long)
    rtol = case.settings.tolerance.rtol
    still = norms(long.m - short.m) <= BARS * norms(long.m_error + short.m_error) + rtol * norms(long.m)
    return bool(distance <= bars + rtol * size) and bool(still.all())


def _as_far_as_known(stopped: LeafEvidence, short: LeafEvidence, long: LeafEvidence) -> LeafEvidence | None:
    """The evidence at the limit with what still moved there in its bars; None where no limit is approached."""
    (first, _, _), (last, bars, _) = _apart(stopped, short), _apart(short, long)
    claims = [np.linalg.norm(x) for x in (short.m - stopped.m, long.m - short.m)]
    if not last <= max(0.5 * first, bars) or not claims[1] <= 0.5 * claims[0] + BARS * np.linalg.norm(long.m_error):
        return None
    size = np.linalg.norm(long.m)
    moving = last / size if size else 0.0
    probes = tuple(dataclasses.replace(p, slopes=dataclasses.replace(
        p.slopes, error=p.slopes.error + moving * np.abs(p.project(long.m)))) for p in long.probes)
    return dataclasses.replace(long, probes=probes, m_given=long.m_given + np.abs(long.m - short.m))


def _with_stopping_error(stopped: LeafEvidence, limit: LeafEvidence) -> LeafEvidence:
    """A claim that was given as numbers, or runs on the host, stopped where its own code did: it may be as far from
    the limit as the differences are."""
    distance, _, size = _apart(stopped, limit)
    if not distance <= size:
        return limit
    return dataclasses.replace(limit, m_given=limit.m_given + 2 * distance / size * typical(
        limit.m, units(limit.values)))


def _right(case: Case, stopped: LeafEvidence, first: Opinion, limit: LeafEvidence, second: Opinion):
    """The (evidence, opinion) of a leaf that is right at the limit; as stopped it may still be too far off."""
    own, (distance, _, size) = formula2(stopped.m, limit.m), _apart(stopped, limit)
    if own > case.settings.must_catch and own > SAME * distance / size:
        return stopped, dataclasses.replace(
            first, verdict=Verdict.FAIL, reason=Reason.MANUAL_WRONG, residual=stopped.m - limit.m,
            note=f"the gradient's own loop stops too early: run on, it is right, as stopped it is off by {own:.1g}")
    reason = Reason.CONVERGED if second.reason is Reason.AGREE else second.reason
    note = _said(f"right at the loop's limit (to {second.difference:.1g}); as stopped it differs by "
                 f"{first.difference:.1g}", second.note)
    return dataclasses.replace(limit, stopped=stopped.m), dataclasses.replace(second, reason=reason, note=note)


def _said(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def of_map(one: Map, evidence: MapEvidence, findings: list[Finding], judge: Callable[[MapEvidence], list[Finding]],
           measure: Callable[[Map], MapEvidence]) -> list[Finding]:
    """Findings on a map after a look at the loops' limit."""
    if all(f.verdict is Verdict.PASS for f in findings):
        return findings
    slots = ("primal", "tangent", "cotangent", "reference", "reference_pull")
    programs = [t for t in (getattr(one, s) for s in slots) if t is not None]
    if not any(iterates(t.program.closed) for t in programs):
        return findings

    def further(patience: Patience) -> MapEvidence:
        return measure(dataclasses.replace(one, **{s: _run_on(getattr(one, s), patience) for s in slots}))

    limit = further(LONG)
    out = []
    for first, second in zip(findings, judge(limit), strict=True):
        if first.verdict is Verdict.PASS or second.verdict is not Verdict.PASS:
            out.append(first)
            continue
        own = _own_error(first, evidence, limit)
        out.append(dataclasses.replace(second, reason=Reason.CONVERGED if second.reason is Reason.AGREE else
                                       second.reason, note=""))
    return out
