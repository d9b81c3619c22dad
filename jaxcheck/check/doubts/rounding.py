"""What is looked at more closely before anyone is blamed: round-off measured, smooth steps known, kinks named."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxcheck.bars import BARS, COUNTS, LEAST_MOVE, NOISIER
from jaxcheck.budget import current
from jaxcheck.check.settings import Case
from jaxcheck.evidence import gather, second_look
from jaxcheck.evidence.differences import Ladder
from jaxcheck.evidence.gradient_bars import given_error
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.evidence.rounded_inputs import of_inputs
from jaxcheck.evidence.smooth import deciders
from jaxcheck.evidence.witnesses import beside_zeros
from jaxcheck.judgement import measures
from jaxcheck.judgement.vote import Opinion
from jaxcheck.options import Tolerance
from jaxcheck.problem.problem import Problem
from jaxcheck.program.custom.census import has_stop_gradient, rules_in
from jaxcheck.program.interpret import walk
from jaxcheck.program.objective import Traced
from jaxcheck.program.ways.signed import decisions
from jaxcheck.result import Reason, Verdict
from jaxcheck.there import there

SMALLER_SCALE = (
    "the differences agree with the gradient and autodiff does not, though nothing in the program could "
    "deceive it: the function may live on a smaller scale than the steps"
)
BELOW_THE_STEPS = (
    "autodiff agrees with the gradient, and the differences with neither, though they look at one "
    "analytic formula, whose derivative autodiff gives: it lives on a smaller scale than the steps"
)
SMALLER_THAN_STEPS = (
    "autodiff agrees with the gradient, and the differences with neither, and nothing in the program could deceive "
    "autodiff: the function lives on a smaller scale than the steps"
)
# Decisions by which a value changes hands where two are equal, and so does not jump.
CONTINUOUS = frozenset({"sort", "max", "min", "clamp", "abs", "reduce_max", "reduce_min", "cummax", "cummin"})
NARROW = (
    "the function is another formula within less than the smallest step around this point: a comparison "
    "decides so, and no difference looks at it there"
)
OTHERWISE = (
    "off by more than plain rounding explains, but not by more than it does where it takes another branch of the "
    "function, or where the factors of products have fewer bits: pass the gradient as a function"
)
ROUNDED_BEFORE = (
    "off by no more than it takes to round the parameters and the data to float32, as JAX's default mode does: "
    "turn on jax_enable_x64, or give numbers that were computed from float32"
)
FIXED = "a Python number, from which the loss holds derivatives back: not checked; make it an array to have it checked"
# Kinks that are looked up in the program.
PLACED = 8


def may_deceive(problem: Problem) -> bool:
    """Whether anything in the loss could make its autodiff another derivative than that of what it computes: a
    stop_gradient, a rule, a decision. Otherwise autodiff is right up to its own round-off."""
    return _hides(problem) or decides(problem.loss)


def decides(traced: Traced | None) -> bool:
    """Whether something is decided in a program."""
    if traced is None:
        return False
    with jax.enable_x64(True):
        return bool(decisions(traced.program.closed)[0])


def _hides(problem: Problem) -> bool:
    program = problem.loss.closed if problem.loss.closed is not None else problem.loss.program.closed
    return has_stop_gradient(program) or bool(rules_in(program))


def analytic(case: Case, ev: LeafEvidence, opinion: Opinion) -> Opinion:
    """Not autodiff and the gradient under test together are to blame, nor the program, where the differences that speak
    against both see one analytic formula: there its autodiff is its derivative, up to round-off that is known, and
    what misleads the differences is a scale below their steps (an inverse at condition 1e9)."""
    if opinion.reason is not Reason.NUMERIC_SUSPECT or not (ev.is_autodiff or ev.a is not None):
        return opinion
    if _hides(case.problem):
        return opinion
    note = BELOW_THE_STEPS
    if not sees_one_formula(ev):
        if _may_jump(case.problem) or not _nothing_at_the_point(ev):
            return opinion
        note = SMALLER_THAN_STEPS
    return dataclasses.replace(opinion, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE, note=note)


def _may_jump(problem: Problem) -> bool:
    """Whether something is decided in the loss that its value may jump by: an order of values, or which of them is the
    largest, changes where two are equal."""
    with jax.enable_x64(True):
        names = {d.primitive for d in decisions(problem.loss.program.closed)[0]}
    carried = any(e.primitive.name == "sort" and len(e.invars) > 1 for e, _ in walk(problem.loss.program.closed))
    return carried or not names <= CONTINUOUS


def _nothing_at_the_point(ev: LeafEvidence) -> bool:
    """Whether nothing is decided at the point itself, as far as it was looked at: what looks like a kink is none."""
    known = [p.crossed for p in ev.probes if p.crossed is not None]
    return bool(known) and not any(crossed.any() for crossed in known)


def beside(ev: LeafEvidence, opinion: Opinion) -> Opinion:
    """Differences speak against nobody's derivative at the point where none of their steps is on the point's piece."""
    if opinion.reason not in (Reason.NUMERIC_SUSPECT, Reason.AUTODIFF_DIFFERS):
        return opinion
    claim, against = ev.m if opinion.reason is Reason.NUMERIC_SUSPECT else there(ev.a), []
    with np.errstate(all="ignore"):
        for p in ev.probes:
            off = (np.abs(p.project(claim) - p.slopes.value) > BARS * p.slopes.error).any(axis=1)
            against += list(np.zeros(off.sum()) if p.beyond is None else p.beyond[off])
    if not against or not all(against):
        return opinion
    return dataclasses.replace(opinion, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE, note=NARROW)


def held_fixed(case: Case, ev: LeafEvidence, opinion: Opinion) -> Opinion:
    """A Python number among arrays from which the loss itself holds derivatives back is no parameter (the rate of a
    dropout layer): gradient and autodiff both say 0, on purpose."""
    number = not hasattr(case.problem.theta.values[ev.leaf.position], "dtype")
    if opinion.reason is not Reason.NUMERIC_SUSPECT or not number or ev.m.any() or not _hides(case.problem):
        return opinion
    if ev.a.any() if ev.a is not None else not ev.is_autodiff:
        return opinion
    return dataclasses.replace(opinion, verdict=Verdict.PASS, reason=Reason.SURROGATE, note=FIXED)


def sees_one_formula(ev: LeafEvidence) -> bool:
    """Whether the differences that contradict M are known to look at one analytic formula."""
    with np.errstate(all="ignore"):
        for p in ev.probes:
            off = (np.abs(p.project(ev.m) - p.slopes.value) > BARS * p.slopes.error).any(axis=1)
            if off.any() and (p.analytic is None or not p.analytic[off].all()):
                return False
    return True


def bars_matter(ev: LeafEvidence, tolerance: Tolerance, opinion: Opinion) -> bool:
    """Whether the bars of M and A may be more than a small part of the tolerance: as they are estimated, or as those of
    the differences let one expect. Where a function saturates (a softmax that is 1) neighbours round alike, and their
    scatter shows nothing."""
    granted = tolerance.between_programs(ev.sharp)
    if opinion.error_bar > NOISIER * granted:
        return True
    with np.errstate(all="ignore"):
        bars = measures.norms(ev.m_error) + (0 if ev.a_error is None else measures.norms(ev.a_error))
        return bool((bars > COUNTS * granted * measures.norms(ev.m)).any())


def weighed(case: Case, ev: LeafEvidence, opinion: Opinion) -> LeafEvidence:
    """The evidence of a leaf that passes, with measured bars where these cost next to nothing, or may matter: a wrong
    gradient would be held to these, and so they say what would have been caught."""
    if case.round_off_of_gradients() is not None or bars_matter(ev, case.settings.tolerance, opinion):
        return measured(case, ev)
    return ev


def placed(case: Case, ev: LeafEvidence, opinion: Opinion) -> Opinion:
    """The opinion with the lines at which a kink or a jump is decided."""
    if opinion.reason not in (Reason.KINK, Reason.JUMP):
        return opinion
    found = []
    for p in ev.probes:
        at = np.flatnonzero((p.slopes.kink | p.slopes.jump).any(axis=1))[:PLACED]
        for row in at:
            wide = np.zeros(case.problem.theta.size)
            if p.directions is None:
                wide[ev.leaf.start + p.at[row]] = max(abs(ev.values[p.at[row]]), LEAST_MOVE)
            else:
                wide[ev.leaf.start : ev.leaf.stop] = p.along[row]
            found.append(wide)
    if not found:
        return opinion
    places = deciders(case.problem, case.point, np.stack(found[:PLACED]))
    said = f"decided by {', '.join(places[:3])}" if places else ""
    return dataclasses.replace(opinion, note="; ".join(filter(None, (opinion.note, said))))


def measured(case: Case, ev: LeafEvidence) -> LeafEvidence:
    """The evidence of a leaf with the round-off of M and A measured; where it could not be, it stays estimated. What
    Python computes cannot be perturbed within; it rounds by what autodiff of the same formula does, or more."""
    bars, where = case.round_off_of_gradients() or case.round_off(), slice(ev.leaf.start, ev.leaf.stop)

    def known(found: np.ndarray | None, estimated: Any) -> Any:
        if found is None or estimated is None:
            return estimated
        return np.where(np.isfinite(found[:, where]), found[:, where], estimated)

    m_error = known(bars.m, ev.m_error)
    if bars.m is None and bars.a is not None and case.problem.host_manual is not None:
        m_error = np.fmax(m_error, known(bars.a, np.zeros_like(m_error)))
    return dataclasses.replace(ev, measured=True, m_error=m_error, a_error=known(bars.a, ev.a_error))


def coarser(case: Case, number: int, ev: LeafEvidence) -> LeafEvidence:
    """Before anyone is convicted on what Python computes: the evidence of a leaf with what is rounded inside of loss
    and gradient, where it shows; else itself."""
    coarse = case.coarseness()[:, ev.leaf.start : ev.leaf.stop]
    if case.problem.unit > ev.unit:
        directions = [p.directions for p in ev.probes if p.directions is not None]
        more = gather.gather(
            case.problem, case.point, {number: directions[0] if directions else None}, case.ladder, case.settings.seed
        )
        case.evaluations += more.evaluations
        ev = more.leaves[number]
    # Measured, and so beyond what a scatter among neighbours may explain: stairs are no kink.
    return dataclasses.replace(ev, m_given=np.fmax(ev.m_given, coarse)) if coarse.any() else ev


def may_be_otherwise(case: Case, ev: LeafEvidence, opinion: Opinion) -> bool:
    """Whether a leaf of numbers is convicted, which rounding may have taken elsewhere."""
    return opinion.verdict is Verdict.FAIL and case.problem.numbers_run is not None


def decided_otherwise(case: Case, leaves: list[LeafEvidence], opinions: list[Opinion]) -> list[Opinion]:
    """Opinions in which numbers are as undecided as the function is where rounding may have taken another branch of it,
    or had fewer bits of the factors of products; `leaves` is changed in place."""
    opinions = list(opinions)
    for k, (ev, opinion) in enumerate(zip(leaves, opinions, strict=True)):
        if not may_be_otherwise(case, ev, opinion):
            continue
        where = slice(ev.leaf.start, ev.leaf.stop)
        m = np.zeros((ev.m.shape[0], case.point.size))
        m[:, where] = ev.m
        # What is decided at the point itself was looked at on all its sides.
        decided = any(p.slopes.kink.any() or (p.crossed is not None and p.crossed.any()) for p in ev.probes)
        loose = "products" if decided else "decisions"
        given, note = given_error(case.problem, case.point, m, where, loose), OTHERWISE
        if ev.leaf.dtype != ev.leaf.native and case.problem.numbers is not None and not decided:
            given, note = given + of_inputs(case.problem, case.point, case.settings.seed)[:, where], ROUNDED_BEFORE
        wider = dataclasses.replace(ev, m_given=np.fmax(ev.m_given, given))
        if case.judge(wider).verdict is not Verdict.FAIL and case.judge(ev).verdict is Verdict.FAIL:
            doubted = dict(verdict=Verdict.INCONCLUSIVE, reason=Reason.PRECISION, note=note)
            leaves[k], opinions[k] = wider, dataclasses.replace(opinion, **doubted)
    return opinions


def is_at_rest(ev: LeafEvidence) -> bool:
    """Whether no difference can tell M from zero: it may be nothing but its own round-off (a bias before batch norm, or
    of balanced classes), which the scatter between neighbours does not show where the parameters are zeros."""
    if not ev.m.any() or not ev.probes:
        return False
    with np.errstate(all="ignore"):
        return all(bool((np.abs(p.project(ev.m)) <= BARS * p.slopes.error).all()) for p in ev.probes)


def rested(case: Case, ev: LeafEvidence) -> LeafEvidence:
    """The evidence of a leaf at rest, with the round-off of M measured: what counts as zero is then known."""
    problem = case.problem
    if problem.primal is not None:
        return measured(case, ev)
    if problem.host_manual is None:
        return ev
    where, found = slice(ev.leaf.start, ev.leaf.stop), ev.m_error.copy()
    for point in beside_zeros(problem, case.point, case.settings.seed):
        current().ask()
        case.evaluations += 1
        with np.errstate(all="ignore"):
            found = np.fmax(found, np.abs(problem.host_manual(point)[:, where] - ev.m))
    return dataclasses.replace(ev, m_error=found)


def closer(case: Case, number: int, ev: LeafEvidence, indices: np.ndarray, ladder: Ladder) -> LeafEvidence:
    """The evidence of a leaf with measured bars in place of estimated ones, `indices` looked at one by one."""
    problem, bars = case.problem, case.round_off()
    probes, spent, compiled = second_look.closer(
        problem, case.point, number, ev.probes, indices, ladder, case.settings.seed, there(bars.outputs)
    )
    case.evaluations += spent
    case.compiled += compiled
    kept = tuple(measures.without(p, indices) for p in ev.probes if p.directions is None)
    return dataclasses.replace(measured(case, ev), probes=measures.believed((*(p for p in kept if len(p.at)), *probes)))
