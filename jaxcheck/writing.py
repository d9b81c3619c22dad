"""From opinions to the Report."""

from __future__ import annotations

import math
import time

import numpy as np

from jaxcheck.bars import COUNTS
from jaxcheck.evidence import guarded
from jaxcheck.evidence.problem import Evidence
from jaxcheck.judgement import keep, locate, pattern, power
from jaxcheck.judgement.measures import by_column
from jaxcheck.options import Exhaustive
from jaxcheck.result import NAN, LeafResult, Reason, Report, Verdict, formula2
from jaxcheck.there import there


def write(case, evidence, opinions, seconds, extra, head, mode, why, value, start) -> Report:
    influence = power.influence(evidence.leaves)
    results, floors_ok = [], True
    for number, (ev, opinion) in enumerate(zip(evidence.leaves, opinions, strict=True)):
        result, ok = _leaf_result(case, evidence, number, ev, opinion, seconds.get(number), influence, extra)
        floors_ok &= ok
        results.append(result)
    verdict, reason = _overall(results)
    notes = [*guarded.said({"the loss": case.problem.host_primal, "the gradient": case.problem.host_manual}),
             *case.preface.notes]
    if reason is Reason.VACUOUS and not influence.any():
        notes.insert(0, "the gradient is zero everywhere, and so are the differences")
    m = np.concatenate([ev.m for ev in evidence.leaves], axis=1)
    to_a = to_n = NAN
    if all(ev.a is not None for ev in evidence.leaves):
        to_a = by_column(m, np.concatenate([ev.a for ev in evidence.leaves], axis=1))
    if extra is not None:
        to_n = by_column(m, np.concatenate([value.T for value, _ in extra.leaves], axis=1))
    elif mode == "exhaustive":
        to_n = _whole_difference(evidence)
    else:
        known = [(r.difference, np.linalg.norm(ev.m)) for r, ev in zip(results, evidence.leaves, strict=True)
                 if not math.isnan(r.difference)]
        total = math.sqrt(sum(w * w for _, w in known))
        largest = max((d for d, _ in known), default=NAN)
        to_n = math.sqrt(sum((d * w) ** 2 for d, w in known)) / total if total else largest
    drawn = keep.kept(evidence.leaves, results)
    return Report(
        curves=drawn.curves, samples=drawn.samples, grids=drawn.grids,
        verdict=verdict, reason=reason, difference=to_n, difference_autodiff=to_a, leaves=tuple(results),
        mode=mode, why_mode=why, value=value, notes=tuple(notes), evaluations=case.evaluations,
        seconds=time.perf_counter() - start, compiled=case.compiled, **head)


def _whole_difference(evidence: Evidence) -> float:
    m, n = [], []
    for ev in evidence.leaves:
        whole = np.full(ev.m.shape, np.nan)
        for p in ev.probes:
            if p.directions is None:
                whole[:, p.indices] = p.slopes.value.T
        m.append(ev.m)
        n.append(whole)
    return by_column(np.concatenate(m, axis=1), np.concatenate(n, axis=1))


def _leaf_result(case, evidence, number, ev, opinion, second, influence, extra) -> tuple[LeafResult, bool]:
    settings, leaf = case.settings, ev.leaf
    verdict, reason, note = opinion.verdict, opinion.reason, opinion.note
    floor, floor_component = power.UNKNOWN
    if verdict is Verdict.PASS and reason is not Reason.SURROGATE and leaf.size:
        floor, floor_component = power.floors(ev, settings.tolerance, settings.must_catch, influence)
        weakest = max(floor, floor_component)
        zero = not ev.m.any() and (ev.a is None or not ev.a.any() or not np.isfinite(ev.a).all())
        # On a kink a whole range of gradients is right; that is no weakness of the check.
        if not weakest <= settings.must_catch and reason is not Reason.KINK:
            coarse = bool((ev.m_given > COUNTS * settings.must_catch * np.abs(ev.m).max(initial=0.0)).any())
            verdict, reason = Verdict.INCONCLUSIVE, Reason.PRECISION if coarse else Reason.VACUOUS
            note = note or _unseen(zero, floor, floor_component, settings.must_catch)
        elif zero and case.preface.left_out:
            verdict, reason = Verdict.INCONCLUSIVE, Reason.VACUOUS
            note = "no output that was looked at responds; some were left out, for they are not finite"
        elif reason is not Reason.KINK and (blind := power.unresolved(ev, settings.must_catch)):
            verdict, reason = Verdict.INCONCLUSIVE, Reason.NOISE
            which = "zero" if zero else f"{blind} of its {ev.m.shape[1]} components zero"
            note = (f"{which}, and the function does move when they do, by too little next to its own rounding to "
                    "tell a slope")
        elif zero and reason is not Reason.KINK:
            note = note or ("zero, and the differences see none; what would have been caught is relative to what "
                            "the other leaves do")
        if not weakest < math.inf:
            floor, floor_component = power.UNKNOWN
    difference, norm_numeric, error_bar = opinion.difference, opinion.norm_numeric, opinion.error_bar
    if extra is not None and leaf.size:
        n, error = (x.T for x in extra.leaves[number])
        difference, norm_numeric = by_column(ev.m, n), float(np.linalg.norm(n))
        # The bar of these differences, not of the ladder's: the textbook's have none.
        both = np.linalg.norm(ev.m) + norm_numeric
        error_bar = float(np.linalg.norm(error) / both) if both else NAN
    asked = settings.mode
    if isinstance(asked, Exhaustive) and asked.step is not None and leaf.size and verdict is not Verdict.FAIL:
        if np.array_equal(ev.values + asked.step, ev.values) and np.array_equal(ev.values - asked.step, ev.values):
            verdict, reason = Verdict.INCONCLUSIVE, Reason.DEAD_STEP
            note = f"step={asked.step:g} is below the spacing of the floats here"
    precision = NAN
    if case.preface.native is not None:
        native = case.preface.native[:, leaf.start : leaf.stop]
        if native.shape == ev.m.shape:
            precision = formula2(native, ev.m if ev.stopped is None else ev.stopped)
        if verdict is Verdict.PASS and not np.isfinite(native).all():
            note = f"the formula is right in float64, but the gradient is NaN or inf in {leaf.native}"
            # Where the function itself overflows, its gradient can do no better.
            verdict, reason = Verdict.FAIL if case.preface.native_finite else Verdict.INCONCLUSIVE, Reason.NONFINITE
    if second is not None and verdict is Verdict.PASS:
        verdict, reason, note = second.verdict, second.reason, second.note
    bad = verdict is not Verdict.PASS or opinion.reason in (Reason.KINK, Reason.AUTODIFF_DIFFERS)
    others = [e for e in evidence.leaves if e is not ev]
    return LeafResult(
        path=leaf.path, shape=leaf.shape, dtype=leaf.dtype, verdict=verdict, reason=reason,
        norm_manual=float(np.linalg.norm(ev.m)), norm_numeric=norm_numeric,
        norm_autodiff=NAN if ev.a is None else float(np.linalg.norm(ev.a)),
        difference=difference, difference_autodiff=opinion.difference_autodiff, error_bar=error_bar,
        floor=floor, floor_component=floor_component,
        worst=there(second).worst if reason is Reason.PRECISION_WRONG else locate.worst(ev, opinion, 5) if bad else (),
        hint=pattern.hint(ev, others, case.preface.beside)
        if verdict is Verdict.FAIL and reason is not Reason.PRECISION_WRONG else "",
        precision=precision, kinks=opinion.kinks,
        probes=sum(len(p.slopes.value) for p in ev.probes), note=note, native=leaf.native,
    ), True


def _unseen(zero: bool, floor: float, component: float, must_catch: float) -> str:
    """Why a PASS would say nothing."""
    if zero and not floor < math.inf:
        return "zero, and so are the differences: nothing responds here"
    if zero:
        return f"zero, but the differences would not see one below {floor:.1g} of what the other leaves do"
    if floor <= must_catch:
        return (f"the smallest error of one component that would have been caught is {component:.1g} of what it "
                "counts for in the leaf")
    if not floor < math.inf:
        return "no error of the leaf would have been caught"
    return f"the smallest error that would have been caught is {floor:.1g} of the leaf"


RANK = (
    Reason.NONFINITE, Reason.MANUAL_WRONG, Reason.PRECISION_WRONG, Reason.NUMERIC_SUSPECT, Reason.STRUCTURE,
    Reason.DEAD_STEP, Reason.INTERRUPTED, Reason.JUMP, Reason.DOMAIN, Reason.NOISE, Reason.PRECISION, Reason.IMPLICIT,
    Reason.VACUOUS, Reason.AUTODIFF_DIFFERS, Reason.KINK, Reason.CONVERGED, Reason.SURROGATE,
)


def _overall(results) -> tuple[Verdict, Reason]:
    """The worst leaf decides; FAIL before INCONCLUSIVE before PASS."""
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS):
        reasons = {r.reason for r in results if r.verdict is verdict}
        if reasons:
            return verdict, next((r for r in RANK if r in reasons), Reason.AGREE)
    return Verdict.PASS, Reason.AGREE
