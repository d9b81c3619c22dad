"""From the witnesses of one leaf to a verdict and its reason. Pure: no program is run here.

DESIGN: a verdict is a statement about error bars. A claim (M or A) agrees with a difference when it
lies within `BARS` error bars plus the tolerance, and contradicts it otherwise; a difference whose bar
is wider than the quantity says nothing. NaN agrees with nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import BARS, BESIDE_LEAF, COMPONENT, GROSS, MUST_CATCH, SCATTER, SCATTER_ON_KINK, UNITS
from jaxcheck.evidence.problem import LeafEvidence
from jaxcheck.evidence.sketch import typical
from jaxcheck.judgement import ranges
from jaxcheck.judgement.measures import coarse, influences, norms, reference, relative_numbers
from jaxcheck.options import Tolerance
from jaxcheck.result import Reason, Verdict, formula2
from jaxcheck.there import there

QUANTISED = "the function is quantised at the smallest steps; larger ones agree"


@dataclasses.dataclass(frozen=True, eq=False)
class Opinion:
    """The judgement of one leaf.

    `residual` (G, n) is what is believed wrong with M per component (NaN where unknown);
    `difference`, `difference_autodiff`, `error_bar` are relative, as in `LeafResult`. `doubtful`: the witnesses do not
    all say so, and a closer look may say otherwise.
    """

    verdict: Verdict
    reason: Reason
    difference: float
    difference_autodiff: float
    error_bar: float
    norm_numeric: float
    residual: np.ndarray
    kinks: int
    note: str = ""
    doubtful: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class _Probe:
    """One probe set's numbers, flattened over directions and columns."""

    usable: np.ndarray
    contradicts_m: np.ndarray
    contradicts_a: np.ndarray
    gross: np.ndarray
    excused: np.ndarray
    excused_a: np.ndarray
    slack: np.ndarray
    coarse: np.ndarray
    kink: np.ndarray
    noisy: np.ndarray


def _look(ev: LeafEvidence, probes, m, a, tolerance: Tolerance) -> _Probe:
    s = probes.slopes
    pm = probes.project(m)
    pm_error = probes.project_error(round_off(ev, ev.m_error) + ev.m_given)
    largest = np.abs(m) if a is None else np.maximum(np.abs(m), np.abs(a))
    if probes.directions is None:
        scale = reference(ev, largest)[:, probes.at].T
    else:
        scale = np.sqrt(probes.along**2 @ (largest**2).T)
    slack = tolerance.bound * scale + tolerance.atol
    usable = np.isfinite(s.value) & np.isfinite(s.error) & ~s.jump
    low = np.minimum(s.left - BARS * s.left_error, s.right - BARS * s.right_error) - slack
    high = np.maximum(s.left + BARS * s.left_error, s.right + BARS * s.right_error) + slack

    def contradicts(claim, claim_error):
        off = ~(np.abs(claim - s.value) <= BARS * (s.error + claim_error) + slack)
        outside = ~((low - claim_error <= claim) & (claim <= high + claim_error))
        return usable & ~(np.abs(claim) > s.steepest) & np.where(s.kink, outside, off)

    off_m = contradicts(pm, pm_error)
    excused = np.abs(pm - s.value) <= BARS * s.rough + slack
    if a is None:
        off_a, excused_a = np.zeros_like(off_m), excused
    else:
        pa = probes.project(a)
        off_a = contradicts(pa, probes.project_error(round_off(ev, there(ev.a_error))))
        excused_a = np.abs(pa - s.value) <= BARS * s.rough + slack
    distance = np.where(s.kink, np.maximum(low - pm, pm - high), np.abs(pm - s.value))
    gross = off_m & ~(distance <= np.maximum(4 * BARS * s.error, GROSS * scale))
    usable &= ~(np.abs(pm) > s.steepest)
    return _Probe(usable, off_m, off_a, gross, excused, excused_a, slack + BARS * (s.error + pm_error),
                  coarse(s, pm, scale), s.kink & usable, s.noisy)


def judge(ev: LeafEvidence, tolerance: Tolerance, *, m: np.ndarray | None = None, must_catch: float = MUST_CATCH,
          surrogate: bool = False) -> Opinion:
    """The verdict on one leaf.

    Args:
        m: judge this gradient (G, n) in place of the one in evidence (for mutants).
        must_catch: an unexplained difference above this, relative, is not excused as noise.
    """
    with np.errstate(all="ignore"):
        return _judge(ev, tolerance, ev.m if m is None else m, must_catch, surrogate)


def _judge(ev: LeafEvidence, tolerance: Tolerance, m: np.ndarray, must_catch: float, surrogate: bool) -> Opinion:
    a, broken = ev.a, False
    if a is not None and not np.isfinite(a).all():
        a, broken = None, True
    residual = np.full(m.shape, np.nan) if a is None else m - a
    numbers = relative_numbers(ev, m, a)

    def opinion(verdict, reason, note="", kinks=0, doubtful=False):
        return Opinion(verdict, reason, *numbers, residual, kinks, note, doubtful)

    if not np.isfinite(m).all():
        known = any(np.isfinite(p.slopes.value).all() for p in ev.probes)
        verdict = Verdict.FAIL if known else Verdict.INCONCLUSIVE
        return opinion(verdict, Reason.NONFINITE, "the gradient under test is not finite")
    if surrogate:
        return opinion(Verdict.PASS, Reason.SURROGATE)
    if m.size == 0:
        return opinion(Verdict.PASS, Reason.AGREE, "empty leaf")

    looks = [_look(ev, p, m, a, tolerance) for p in ev.probes]
    looks, explained = _on_kinks(ev, looks, m, a)
    residual = np.where(explained, 0.0, residual)
    usable = sum(int(x.usable.sum()) for x in looks)
    kinks = _count(ev, looks)
    jumps = any(bool(p.slopes.jump.any()) for p in ev.probes)
    m_bad = any(x.contradicts_m.any() for x in looks)
    a_bad = any(x.contradicts_a.any() for x in looks)
    noisy = any(x.noisy.any() for x in looks)
    relative = numbers[0] if a is None else max(numbers[1], formula2(influences(ev, m), influences(ev, a)))
    excused = all((x.excused | ~x.contradicts_m).all() for x in looks)
    quantised = m_bad and all((x.coarse | ~x.contradicts_m).all() for x in looks)

    if usable == 0 and not kinks:
        seen = any(np.isfinite(p.slopes.value).any() for p in ev.probes)
        # Differences that are there, and may not judge the claim, look at another scale than it does.
        return opinion(Verdict.INCONCLUSIVE, Reason.JUMP if jumps else Reason.NOISE if seen else Reason.DOMAIN)
    if _within(tolerance, numbers):
        return opinion(Verdict.PASS, Reason.KINK if kinks else Reason.AGREE, kinks=kinks)
    if a is None:
        if m_bad:
            if excused and noisy:
                return _noise(opinion, relative, must_catch)
            if quantised:
                return opinion(Verdict.PASS, Reason.NOISE, QUANTISED, kinks)
            own = Reason.NUMERIC_SUSPECT if ev.is_autodiff else Reason.MANUAL_WRONG
            return opinion(Verdict.FAIL, own, kinks=kinks)
        if jumps:
            return opinion(Verdict.INCONCLUSIVE, Reason.JUMP)
        if broken:
            # On a kink nothing more is known than the range in which the gradient lies.
            return opinion(Verdict.PASS, Reason.KINK if kinks else Reason.AUTODIFF_DIFFERS,
                           "autodiff gives NaN or inf here", kinks)
        return opinion(Verdict.PASS, Reason.KINK if kinks else Reason.AGREE, kinks=kinks)

    if not _far(m, a, ev, tolerance, explained):
        if m_bad:
            if quantised:
                return opinion(Verdict.PASS, Reason.NOISE, QUANTISED, kinks)
            if not any((x.contradicts_m & ~x.kink).any() for x in looks) and not explained.any():
                # Convex and concave kinks at once: the one-sided slopes of the sum do not bracket its parts.
                return opinion(Verdict.PASS, Reason.KINK, kinks=kinks)
            if any(x.gross.any() for x in looks) and not (excused and noisy):
                # M differs from A on kinks only, but the tied directions speak against M alone.
                alone = explained.any() and not a_bad
                return opinion(Verdict.FAIL, Reason.MANUAL_WRONG if alone else Reason.NUMERIC_SUSPECT, kinks=kinks)
            return opinion(Verdict.PASS, Reason.AGREE, "autodiff agrees; a difference is off by a little more "
                           "than its bar", kinks, doubtful=True)
        if jumps:
            return opinion(Verdict.INCONCLUSIVE, Reason.JUMP)
        return opinion(Verdict.PASS, Reason.KINK if kinks else Reason.AGREE, kinks=kinks)
    if m_bad and excused and noisy:
        if not ev.measured:
            return _noise(opinion, relative, must_catch)
        # The differences say nothing; the round-off of M and A is known, and they are further apart than that.
        m_bad, noisy = False, False
        a_bad = a_bad and not all((x.excused_a | ~x.contradicts_a).all() for x in looks)
    explicable = not _far(m, a, ev, tolerance, explained, full=True)
    if explicable and m_bad == a_bad:
        # Ill-conditioned: inputs that differ by rounding alone give gradients this far apart.
        if m_bad:
            return opinion(Verdict.INCONCLUSIVE, Reason.PRECISION, "the gradient is ill-conditioned here", kinks)
        return opinion(Verdict.PASS, Reason.AGREE, "as far as round-off lets an ill-conditioned gradient agree", kinks,
                       doubtful=True)
    if m_bad:
        note = "autodiff differs from the differences as well" if a_bad else ""
        return opinion(Verdict.FAIL, Reason.MANUAL_WRONG, note, kinks, doubtful=a_bad)
    if a_bad:
        return opinion(Verdict.PASS, Reason.AUTODIFF_DIFFERS, kinks=kinks)
    if noisy and not ev.measured:
        return _noise(opinion, relative, must_catch)
    if jumps:
        return opinion(Verdict.INCONCLUSIVE, Reason.JUMP)
    return opinion(Verdict.FAIL, Reason.MANUAL_WRONG, "found by autodiff; too small for the differences to see", kinks,
                   doubtful=True)


def _within(tolerance: Tolerance, numbers) -> bool:
    """Whether formula (2) of the leaf lies within a bound that the caller gave: to N, and to A where it speaks. It
    means the whole leaf then, whatever single components are off by."""
    to_n, to_a = numbers[0], numbers[1]
    known = np.isfinite(to_n) or np.isfinite(to_a)
    rtol = tolerance.rtol
    return bool(known and rtol is not None and not to_n > rtol and not to_a > rtol)


def _noise(opinion, relative: float, must_catch: float) -> Opinion:
    if relative <= must_catch:
        return opinion(Verdict.PASS, Reason.NOISE, "agrees as far as the function's own noise allows")
    return opinion(Verdict.INCONCLUSIVE, Reason.NOISE)


def _on_kinks(ev: LeafEvidence, looks: list[_Probe], m, a) -> tuple[list[_Probe], np.ndarray]:
    """What the looks say where kinks meet: no single slope of a component whose range is known from the pieces, nor
    of directions across kinks once that of the components is, nor of those along which independent ones cancel. And
    (G, n) the components on a kink whose gradient lies in their range."""
    explained = np.zeros(m.shape, bool)
    for probes, look in zip(ev.probes, looks, strict=True):
        if probes.directions is None:
            explained[:, probes.at] |= (look.kink & ~look.contradicts_m).T
    if ev.pieces is None and all(p.directions is not None for p in ev.probes):
        return looks, explained
    found = ranges.ranges(ev)
    slack = BARS * (round_off(ev, ev.m_error) + ev.m_given)
    free = np.zeros(m.shape, bool) if ev.pieces is None else ev.pieces[2]
    held = [free & found.holds(m, slack), free if a is None else free & found.holds(a, slack)]
    explained = explained | held[0]
    out = []
    for p, look in zip(ev.probes, looks, strict=True):
        if p.directions is None:
            cleared, usable = [h[:, p.at].T for h in held], look.usable
        else:
            claims = ((m, explained), (m if a is None else a, ~np.isnan(found.low)))
            cleared = [look.kink | ranges.reached(p, claim, on, found, look.slack) for claim, on in claims]
            usable = look.usable & ~look.kink
        out.append(dataclasses.replace(look, usable=usable, contradicts_m=look.contradicts_m & ~cleared[0],
                                       contradicts_a=look.contradicts_a & ~cleared[1]))
    return out, explained


def _count(ev: LeafEvidence, looks: list[_Probe]) -> int:
    """Components on a kink, or, where none was found alone, directions across one."""
    found: np.ndarray = np.zeros(ev.m.shape[1], bool) if ev.pieces is None else np.asarray(ev.pieces[2].any(axis=0))
    for p, look in zip(ev.probes, looks, strict=True):
        if p.directions is None:
            found[p.at] |= look.kink.any(axis=1)
    return int(found.sum()) or sum(int(x.kink.any(axis=1).sum()) for x in looks)


def round_off(ev: LeafEvidence, scatter: np.ndarray, full: bool = False) -> np.ndarray:
    """The scatter of a gradient over its neighbours as a round-off bar.

    Neighbours may fall on the other side of a threshold (a kink, a rule with a branch): that is no
    round-off. So the bar is capped, except where `full` asks what ill-conditioning could explain.
    """
    if full or ev.measured:
        return scatter
    kinked = any(p.slopes.kink.any() for p in ev.probes)
    cap = max(SCATTER_ON_KINK if kinked else SCATTER, UNITS * ev.unit)
    return np.minimum(scatter, cap * typical(ev.m, ev.unit_sizes))


def _far(m, a, ev: LeafEvidence, tolerance: Tolerance, explained: np.ndarray, full: bool = False) -> bool:
    """Whether M and A differ by more than the tolerance and their round-off.

    By formula (2) per column, of the gradients and of what each component does to the output when it moves by
    its own size; and by single components that are off by far more than round-off although too small a
    part of the leaf to move its norm.
    """
    m, a = np.where(explained, 0.0, m), np.where(explained, 0.0, a)
    r = np.abs(m - a)
    bars = BARS * (round_off(ev, ev.m_error, full) + round_off(ev, there(ev.a_error), full) + ev.m_given)
    bars, unit = np.where(explained, 0.0, bars), ev.unit_sizes
    bars = np.maximum(bars, typical(bars, unit))
    rtol = tolerance.between_programs(ev.sharp)
    for weigh in (lambda g: g, lambda g: influences(ev, g)):
        size = norms(weigh(m)) + norms(weigh(a))
        if (norms(weigh(r)) > rtol * size + norms(weigh(bars)) + tolerance.atol).any():
            return True
    rms = typical(np.maximum(np.abs(m), np.abs(a)), unit)
    floor = np.maximum(2 * bars, BESIDE_LEAF * (tolerance.rtol or 0.0) * rms)
    return bool((r > COMPONENT * rtol * np.maximum(np.abs(a), np.abs(m)) + floor + tolerance.atol).any())
