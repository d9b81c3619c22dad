"""Second opinions where loops stop at a tolerance: what is right at their limit, and how far it is off as stopped.

As stopped, a loop is one function and an implicit rule the derivative of another, its limit. So a claim that the
differences contradict is looked at once more with every such loop, the claim's own ones too, run on until it
rests. Nothing is waived: leaves that no loop feeds are what they were, and a wrong formula is as wrong at the limit.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from jaxcheck.bars import BARS, FADED, FAR_BELOW, RESTS, SAME
from jaxcheck.check.settings import Case
from jaxcheck.evidence import gather
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.evidence.sketch import typical, units
from jaxcheck.formula import formula2, norm2, norms
from jaxcheck.judgement.vote import Opinion
from jaxcheck.problem.problem import Problem
from jaxcheck.program.converge import LONG, SHORT, Patience, further, iterates
from jaxcheck.result import Reason, Verdict

UNMEASURED = (
    "a loop inside stops by floats and has no limit to be run on to (an integrator, a sampler that "
    "rejects?): how far JAX's own derivative of it may be off is not known"
)

Settle = Callable[[Case, int, LeafEvidence], tuple[LeafEvidence, Opinion]]


def second_opinions(
    case: Case, directions, leaves: list[LeafEvidence], opinions: list[Opinion], settle: Settle
) -> list[Opinion]:
    """Opinions after a look at the loops' limit; `leaves` is changed in place."""
    opinions = list(opinions)
    doubted = [k for k, pair in enumerate(zip(leaves, opinions, strict=True)) if concerns(case, *pair)]
    if not doubted or not stops(case.problem):
        return opinions
    there, limit = _at_limit(case, directions, doubted, LONG)
    short = functools.cache(lambda: _at_limit(case, directions, doubted, SHORT)[1])
    for k in doubted:
        if opinions[k].verdict is Verdict.FAIL and _same(case, leaves[k], limit[k]) and _convicts(there, limit[k]):
            # No loop feeds this leaf, or none that was stopped before its limit.
            opinions[k] = _unjudged(opinions[k])
            continue
        ev, second = settle(there, k, limit[k])
        if second.verdict is not Verdict.PASS:
            ev, second = _doubted_again(case, leaves[k], short()[k], limit[k], (ev, second))
        leaves[k], opinions[k] = _decided(case, leaves[k], opinions[k], ev, second)
    case.evaluations += there.evaluations
    case.compiled += there.compiled
    return opinions


def _doubted_again(
    case: Case, stopped: LeafEvidence, short: LeafEvidence, limit: LeafEvidence, found: tuple[LeafEvidence, Opinion]
) -> tuple[LeafEvidence | None, Opinion | None]:
    """What is `found` at the limit, with how far that is known in its bars; None where no limit is approached."""
    ev, second = found
    if not _same(case, short, limit):
        known = _as_far_as_known(stopped, short, limit)
        if known is None:
            return None, None
        ev, second = known, case.judge(known)
    if second.verdict is Verdict.FAIL:
        ev = _as_far_as_at_rest(ev, short, limit)
        second = case.judge(ev)
    if second.verdict is Verdict.FAIL and not _traced_claim(case.problem):
        ev = _with_stopping_error(stopped, ev)
        second = case.judge(ev)
    return ev, second


def _decided(
    case: Case, stopped: LeafEvidence, first: Opinion, ev: LeafEvidence | None, second: Opinion | None
) -> tuple[LeafEvidence, Opinion]:
    """What is held of a leaf: of what is known of it as stopped, and at the limit."""
    if (
        second is None
        or ev is None
        or second.verdict is Verdict.INCONCLUSIVE
        or second.error_bar > case.settings.must_catch
    ):
        return stopped, _unjudged(first)
    if second.verdict is Verdict.PASS:
        return (stopped, first) if _fades(stopped, ev) else _right(case, stopped, first, ev, second)
    if first.verdict is not Verdict.FAIL:
        return ev, dataclasses.replace(
            second, note=_said("wrong at the loop's limit; as stopped, the differences cannot tell", second.note)
        )
    if second.difference < first.difference:
        # What is wrong shows best where the stopping error does not hide it.
        return dataclasses.replace(ev, stopped=stopped.m), dataclasses.replace(
            second,
            note=_said(
                f"at the loop's limit it differs by {second.difference:.1g}, as stopped by {first.difference:.1g}",
                second.note,
            ),
        )
    return stopped, first


def _convicts(there: Case, limit: LeafEvidence) -> bool:
    """Whether what is known at the limit contradicts the claim as well: with wide bars it is the same as anything."""
    return there.judge(limit).verdict is Verdict.FAIL


def _unjudged(opinion: Opinion) -> Opinion:
    """M and A agree with each other and not with the differences: where both are JAX's derivative of an integrator,
    its own error stands between them and the function as stopped."""
    if opinion.reason is not Reason.NUMERIC_SUSPECT:
        return opinion
    return dataclasses.replace(opinion, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE, note=UNMEASURED)


def concerns(case: Case, ev: LeafEvidence, opinion: Opinion) -> bool:
    """Whether a leaf is in doubt, so that the loops' limit may tell more of it."""
    settled = (Reason.SURROGATE, Reason.NONFINITE, Reason.INTERRUPTED, Reason.IMPLICIT)
    if not ev.leaf.size or opinion.reason in settled or not np.isfinite(ev.m).all():
        return False
    if opinion.verdict is not Verdict.PASS or opinion.reason is Reason.NOISE:
        return True
    return bool(opinion.error_bar > FAR_BELOW * case.settings.must_catch)


def stops(problem: Problem) -> bool:
    """Whether a loop inside stops at a tolerance."""
    programs = (problem.primal, problem.manual, problem.autodiff)
    return problem.primal is not None and any(iterates(t.program.closed) for t in programs if t is not None)


def run_on(problem: Problem, patience: Patience) -> Problem:
    """The problem with every loop run on."""
    return dataclasses.replace(
        problem,
        primal=further(problem.primal, patience),
        manual=further(problem.manual, patience),
        autodiff=further(problem.autodiff, patience),
        at_limit=True,
    )


def _traced_claim(problem: Problem) -> bool:
    """Whether the gradient under test is a program, whose own loops can be run on."""
    return problem.manual is not None


def _at_limit(case: Case, directions, doubted: Sequence[int], patience: Patience):
    """(the case with every loop run on, {leaf: its evidence} for the doubted ones)."""
    problem = case.problem
    there = dataclasses.replace(
        case,
        evaluations=0,
        compiled=0,
        _round_off=None,
        problem=run_on(problem, patience),
    )
    plan = {k: directions[k] for k in doubted if k in directions}
    found = gather.gather(there.problem, case.point, plan, case.ladder, case.settings.seed)
    case.evaluations += found.evaluations
    case.compiled += found.compiled
    return there, {k: found.leaves[k] for k in doubted}


def _pairs(a: LeafEvidence, b: LeafEvidence):
    """The slopes that two evidences of one leaf have along the same directions."""
    for p in a.probes:
        for q in b.probes:
            if p.directions is None and q.directions is None:
                _, here, there = np.intersect1d(p.at, q.at, return_indices=True)
                yield p.slopes[here], q.slopes[there]
            elif p.directions is not None and q.directions is not None and np.array_equal(p.directions, q.directions):
                yield p.slopes, q.slopes


def _same(case: Case, a: LeafEvidence, b: LeafEvidence) -> bool:
    """Whether running the loops on from one evidence to the other changed nothing, as far as bars tell."""
    rest = min(RESTS, FAR_BELOW * case.settings.tolerance.bound)
    with np.errstate(all="ignore"):
        still = norms(b.m - a.m) <= BARS * norms(a.m_error + b.m_error) + rest * norms(b.m)
        size = _apart(a, b)[1]
        return (
            bool(still.all())
            and size > 0
            and all(
                (~(np.abs(x.value - y.value) > BARS * (x.error + y.error) + rest * size)).all() for x, y in _pairs(a, b)
            )
        )


def _apart(a: LeafEvidence, b: LeafEvidence) -> tuple[float, float]:
    """(distance of two evidences' differences, their size), in one norm; NaN where they share none."""
    total = np.zeros(2)
    with np.errstate(all="ignore"):
        for x, y in _pairs(a, b):
            known = np.isfinite(x.value) & np.isfinite(y.value) & np.isfinite(x.error + y.error)
            for i, part in enumerate((x.value - y.value, np.abs(x.value) + np.abs(y.value))):
                total[i] += np.sum(part[known] ** 2)
    distance, size = np.sqrt(total)
    return (float(distance), float(size)) if size > 0 else (np.nan, np.nan)


def _as_far_as_known(stopped: LeafEvidence, short: LeafEvidence, long: LeafEvidence) -> LeafEvidence | None:
    """The evidence at the limit with what still moved there in its bars; None where no limit is approached."""
    first, (last, total) = _apart(stopped, short)[0], _apart(short, long)
    claims = [norm2(x) for x in (short.m - stopped.m, long.m - short.m)]
    size = norm2(long.m)
    if not last <= max(0.5 * first, RESTS * total) or not claims[1] <= max(0.5 * claims[0], RESTS * size):
        return None
    moving = last / size if size else 0.0
    probes = tuple(
        dataclasses.replace(
            p, slopes=dataclasses.replace(p.slopes, error=p.slopes.error + moving * np.abs(p.project(long.m)))
        )
        for p in long.probes
    )
    return dataclasses.replace(long, probes=probes, m_given=long.m_given + np.abs(long.m - short.m))


def _as_far_as_at_rest(ev: LeafEvidence, short: LeafEvidence, long: LeafEvidence) -> LeafEvidence:
    """Autodiff goes through every turn of a loop, and may drift where its values rest: what still changed of it with
    more turns is in its bar."""
    if ev.a is None or ev.a_error is None or short.a is None or long.a is None:
        return ev
    return dataclasses.replace(ev, a_error=ev.a_error + np.abs(long.a - short.a))


def _fades(stopped: LeafEvidence, limit: LeafEvidence) -> bool:
    """Whether both the function and the claim vanish towards the limit: there, 0 agrees with any 0."""
    with np.errstate(all="ignore"):
        sizes = [[np.nansum(np.abs(s.value) ** 2) for s in pair] for pair in _pairs(stopped, limit)]
        before, after = np.sqrt(np.sum(sizes, axis=0)) if sizes else (0.0, 0.0)
    claim = [norm2(ev.m) for ev in (stopped, limit)]
    return bool(after < FADED * before) and bool(claim[1] < FADED * claim[0])


def _with_stopping_error(stopped: LeafEvidence, limit: LeafEvidence) -> LeafEvidence:
    """A claim that was given as numbers, or runs on the host, stopped where its own code did: it may be as far from
    the limit as the differences are."""
    distance, size = _apart(stopped, limit)
    if not distance <= size:
        return limit
    return dataclasses.replace(
        limit, m_given=limit.m_given + 2 * distance / size * typical(limit.m, units(limit.values))
    )


def _right(case: Case, stopped: LeafEvidence, first: Opinion, limit: LeafEvidence, second: Opinion):
    """The (evidence, opinion) of a leaf that is right at the limit; as stopped it may still be too far off."""
    own, (distance, size) = formula2(stopped.m, limit.m), _apart(stopped, limit)
    if own > case.settings.must_catch and own > SAME * distance / size:
        return stopped, dataclasses.replace(
            first,
            verdict=Verdict.FAIL,
            reason=Reason.MANUAL_WRONG,
            residual=stopped.m - limit.m,
            note=f"the gradient's own loop stops too early: run on, it is right, as stopped it is off by {own:.1g}",
        )
    reason = Reason.CONVERGED if second.reason is Reason.AGREE else second.reason
    note = _said(
        f"right at the loop's limit (to {second.difference:.1g}); as stopped it differs by {first.difference:.1g}",
        second.note,
    )
    return dataclasses.replace(limit, stopped=stopped.m), dataclasses.replace(second, reason=reason, note=note)


def _said(*notes: str) -> str:
    return "; ".join(filter(None, notes))
