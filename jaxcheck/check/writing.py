"""From opinions to the Report."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np

from jaxcheck import threads
from jaxcheck.bars import COUNTS, FINE_UNIT
from jaxcheck.evidence.measured import Evidence, LeafEvidence
from jaxcheck.formula import formula2, norm2
from jaxcheck.judgement import keep, locate, pattern, power
from jaxcheck.judgement.influence import influence as influence_of
from jaxcheck.judgement.measures import by_column, is_another, numeric, on_edge
from jaxcheck.judgement.unseen import within_kinks
from jaxcheck.options import Exhaustive
from jaxcheck.problem import guarded
from jaxcheck.result import NAN, LeafResult, Reason, Report, Verdict
from jaxcheck.there import there


def write(case, evidence, opinions, seconds, extra, head, mode, why, value, start) -> Report:
    influence = influence_of(evidence.leaves)
    results = threads.each(
        lambda number: _leaf_result(case, evidence, number, opinions[number], seconds.get(number), influence, extra),
        range(len(opinions)),
        [ev.m.size for ev in evidence.leaves],
    )
    verdict, reason = _overall(results)
    notes = [
        *guarded.said({"the loss": case.problem.host_primal, "the gradient": case.problem.host_manual}),
        *case.preface.notes,
    ]
    if reason is Reason.VACUOUS and not influence.any():
        notes.insert(0, "the gradient is zero everywhere, and so are the differences")
    m, to_a = np.concatenate([ev.m for ev in evidence.leaves], axis=1), NAN
    if all(ev.a is not None for ev in evidence.leaves):
        to_a = by_column(m, np.concatenate([ev.a for ev in evidence.leaves], axis=1))
    if extra is not None:
        to_n = by_column(m, np.concatenate([value.T for value, _ in extra.leaves], axis=1))
    else:
        to_n = _whole_difference(evidence) if mode == "exhaustive" else _estimated_difference(evidence, results)
    drawn = keep.kept(evidence.leaves, results)
    return Report(
        curves=drawn.curves,
        samples=drawn.samples,
        grids=drawn.grids,
        verdict=verdict,
        reason=reason,
        difference=to_n,
        difference_autodiff=to_a,
        leaves=tuple(results),
        mode=mode,
        why_mode=why,
        value=value,
        notes=tuple(notes),
        evaluations=case.evaluations,
        seconds=time.perf_counter() - start,
        compiled=case.compiled,
        **head,
    )


def _whole_difference(evidence: Evidence) -> float:
    each = [(ev.m, *numeric(ev)) for ev in evidence.leaves]
    return by_column(*(np.concatenate(parts, axis=1) for parts in zip(*each, strict=True)))


def _estimated_difference(evidence: Evidence, results: list[LeafResult]) -> float:
    """From those of the leaves, each along random directions."""
    known = [
        (r.difference, norm2(ev.m), r.norm_numeric if math.isfinite(r.norm_numeric) else norm2(ev.m))
        for r, ev in zip(results, evidence.leaves, strict=True)
        if not math.isnan(r.difference)
    ]
    total = math.hypot(*(m for _, m, _ in known)) + math.hypot(*(n for *_, n in known))
    largest = max((d for d, *_ in known), default=NAN)
    return math.hypot(*(d * (m + n) for d, m, n in known)) / total if total else largest


OVERFLOW = "right in float64; but as run, in the caller's own dtypes, the function's value is not finite here"


@dataclasses.dataclass(frozen=True)
class _Said:
    """What is said of a leaf."""

    verdict: Verdict
    reason: Reason
    note: str

    def instead(self, reason: Reason, note: str) -> _Said:
        """Nothing, and why."""
        return _Said(Verdict.INCONCLUSIVE, reason, note)


def _leaf_result(case, evidence, number, opinion, second, influence, extra) -> LeafResult:
    ev, settings = evidence.leaves[number], case.settings
    leaf, said, floor = ev.leaf, _Said(opinion.verdict, opinion.reason, opinion.note), power.UNKNOWN
    if said.verdict is Verdict.PASS and said.reason is not Reason.SURROGATE and leaf.size:
        said, floor = _passing(case, ev, opinion, said, influence)
    said = _with_step(settings.mode, ev, said)
    native = None if case.preface.native is None else case.preface.native[:, leaf.start : leaf.stop]
    if native is not None and said.verdict is Verdict.PASS and not np.isfinite(native).all():
        # Where the function itself overflows, its gradient can do no better.
        verdict = Verdict.FAIL if case.preface.native_finite else Verdict.INCONCLUSIVE
        note = f"the formula is right in float64, but the gradient is NaN or inf in {leaf.native}"
        said = _Said(verdict, Reason.NONFINITE, note)
    elif said.verdict is Verdict.PASS and not case.preface.native_finite:
        said = said.instead(Reason.NONFINITE, OVERFLOW)
    if second is not None and (said.verdict is Verdict.PASS or second.instead):
        said = _Said(second.verdict, second.reason, second.note)
    bad = said.verdict is not Verdict.PASS or opinion.reason in (Reason.KINK, Reason.AUTODIFF_DIFFERS)
    as_run = said.reason is Reason.PRECISION_WRONG
    others = [e for e in evidence.leaves if e is not ev]
    return LeafResult(
        path=leaf.path,
        shape=leaf.shape,
        dtype=leaf.dtype,
        verdict=said.verdict,
        reason=said.reason,
        note=said.note,
        norm_manual=float(norm2(ev.m)),
        norm_autodiff=NAN if ev.a is None else float(norm2(ev.a)),
        difference_autodiff=opinion.difference_autodiff,
        **_floors(ev, floor, influence),
        worst=there(second).worst if as_run else locate.worst(ev, opinion, 5) if bad else (),
        hint=pattern.hint(ev, others, case.preface.beside) if said.verdict is Verdict.FAIL and not as_run else "",
        precision=_precision(ev, native),
        kinks=opinion.kinks,
        probes=sum(len(p.slopes.value) for p in ev.probes),
        native=leaf.native,
        **_differences(ev, opinion, None if extra is None or not leaf.size else extra.leaves[number]),
    )


def _passing(case, ev: LeafEvidence, opinion, said: _Said, influence) -> tuple[_Said, tuple[float, float]]:
    """What is left of a PASS, and what it would have caught."""
    # A function was looked at beside the kinks as well, see `doubts.kinks`.
    numbers = said.reason is Reason.KINK and case.problem.numbers is not None
    if numbers and within_kinks(ev, case.settings.must_catch):
        return said.instead(Reason.VACUOUS, WITHIN_KINKS), power.UNKNOWN
    floor = case.floors(ev, influence)
    return _weighed(case, ev, said, floor), _known(ev, opinion, floor)


UNDERFLOWS = "zero; what it should be is so small that {dtype} has no number for it either"


WITHIN_KINKS = (
    "within the two slopes of the function wherever it was looked at, but on kinks of many components at once: that "
    "leaves room for a wrong one, and for any choice; mode=Exhaustive() looks at each alone"
)


def _known(ev: LeafEvidence, opinion, floor: tuple[float, float]) -> tuple[float, float]:
    """The floors of a PASS as far as they are known. Of another choice than autodiff's on a kink nobody knows whether
    it is one choice of all that share a decision."""
    if not max(floor) < math.inf or (opinion.reason is Reason.KINK and is_another(ev)):
        return power.UNKNOWN
    return power.as_stopped(ev, floor)


def _floors(ev: LeafEvidence, floor: tuple[float, float], influence: np.ndarray) -> dict[str, Any]:
    faint = math.isfinite(floor[0]) and power.without_scale(ev, influence)
    return {"floor": floor[0], "floor_component": floor[1], "faint": faint}


def _precision(ev: LeafEvidence, native: np.ndarray | None) -> float:
    """How far M as the caller's own dtypes run it is off from M in float64."""
    if native is None or native.shape != ev.m.shape:
        return NAN
    return formula2(native, ev.m if ev.stopped is None else ev.stopped)


def _weighed(case, ev, said: _Said, floor: tuple[float, float]) -> _Said:
    """What is left of a PASS, by what it would have caught."""
    must_catch = case.settings.must_catch
    zero = not ev.m.any() and (ev.a is None or not ev.a.any() or not np.isfinite(ev.a).all())
    # On a kink a whole range of gradients is right; that is no weakness of the check.
    kink = said.reason is Reason.KINK
    if not kink and not max(floor) <= must_catch:
        coarse = bool((ev.m_given > COUNTS * must_catch * np.abs(ev.m).max(initial=0.0)).any())
        note = said.note or _unseen(zero, *floor, must_catch)
        if any(on_edge(p).any() for p in ev.probes):
            return said.instead(Reason.DOMAIN, f"{ON_EDGE}; {note}")
        if case.rounded_data:
            coarse, note = True, f"{note}; {ROUNDED_DATA}"
        elif ev.unit >= FINE_UNIT and not zero:
            coarse, note = True, f"{note}; values of the function are rounded to {ev.unit:.0e} of them"
        return said.instead(Reason.PRECISION if coarse else Reason.VACUOUS, note)
    if zero and case.preface.left_out:
        return said.instead(
            Reason.VACUOUS, "no output that was looked at responds; some were left out, for they are not finite"
        )
    if kink:
        return said
    if ev.a is not None and ev.a.any() and not ev.m.any() and (np.abs(ev.a) <= ev.least).all():
        return said.instead(Reason.VACUOUS, UNDERFLOWS.format(dtype=ev.leaf.native))
    if blind := power.unresolved(ev, must_catch):
        which = "zero" if zero else f"{blind} of its {ev.m.shape[1]} components zero"
        return said.instead(
            Reason.NOISE,
            f"{which}, and the function does move when they do, by too little next to its own rounding to tell a slope",
        )
    if zero and not said.note:
        return dataclasses.replace(
            said,
            note="zero, and the differences see none; what would have been caught is "
            "relative to what the other leaves do",
        )
    return said


def _with_step(mode, ev, said: _Said) -> _Said:
    """The caller's own step may be too small to be seen."""
    step = mode.step if isinstance(mode, Exhaustive) else None
    if step is None or not ev.leaf.size or said.verdict is Verdict.FAIL:
        return said
    if np.array_equal(ev.values + step, ev.values) and np.array_equal(ev.values - step, ev.values):
        return said.instead(Reason.DEAD_STEP, f"step={step:g} is below the spacing of the floats here")
    return said


def _differences(ev, opinion, textbook) -> dict[str, Any]:
    """How far M is off, from the differences of every component (and their bar) where those were asked for."""
    if textbook is None:
        return dict(difference=opinion.difference, norm_numeric=opinion.norm_numeric, error_bar=opinion.error_bar)
    n, error = (x.T for x in textbook)
    norm = norm2(n)
    # The bar of these differences, not of the ladder's: the textbook's have none.
    both = norm2(ev.m) + norm
    return dict(
        difference=by_column(ev.m, n), norm_numeric=float(norm), error_bar=float(norm2(error) / both) if both else NAN
    )


ROUNDED_DATA = (
    "the loss, which is JAX's, sees float64 NumPy data rounded to float32, and the gradient, which is Python's, does "
    "not: hand the data over in args=, or enable jax_enable_x64"
)


ON_EDGE = (
    "on one side the function is not finite within the smallest step, and on the other the differences settle nowhere"
)


def _unseen(zero: bool, floor: float, component: float, must_catch: float) -> str:
    """Why a PASS would say nothing."""
    if zero and not floor < math.inf:
        return "zero, and so are the differences: to first order nothing responds here"
    if zero:
        return f"zero, but the differences would not see one below {floor:.1g} of what the other leaves do"
    if floor <= must_catch:
        return (
            f"the smallest error of one component that would have been caught is {component:.1g} of what it "
            "counts for in the leaf"
        )
    if not floor < math.inf:
        return "no error of the leaf would have been caught"
    return f"the smallest error that would have been caught is {floor:.1g} of the leaf"


RANK = (
    Reason.NONFINITE,
    Reason.MANUAL_WRONG,
    Reason.PRECISION_WRONG,
    Reason.NUMERIC_SUSPECT,
    Reason.STRUCTURE,
    Reason.DEAD_STEP,
    Reason.INTERRUPTED,
    Reason.JUMP,
    Reason.DOMAIN,
    Reason.NOISE,
    Reason.PRECISION,
    Reason.IMPLICIT,
    Reason.VACUOUS,
    Reason.AUTODIFF_DIFFERS,
    Reason.KINK,
    Reason.CONVERGED,
    Reason.SURROGATE,
)


def _overall(results) -> tuple[Verdict, Reason]:
    """The worst leaf decides; FAIL before INCONCLUSIVE before PASS."""
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS):
        reasons = {r.reason for r in results if r.verdict is verdict}
        if reasons:
            return verdict, next((r for r in RANK if r in reasons), Reason.AGREE)
    return Verdict.PASS, Reason.AGREE
