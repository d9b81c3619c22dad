"""The judgement of a map: its tangents against the ladder, its cotangents by adjointness. Pure."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.judgement.vote import BARS, coarse
from jaxcheck.result import NAN, Reason, Verdict

# What an iterative solver's stopping error explains (see `vote.ITERATIVE`), and in a derivative of its
# derivative, where the error of a slowly converging iteration is met twice.
LOOSE, LOOSE_HIGHER = 2e-5, 1e-3
# A derivative along a direction of the inputs' own size is not known better than the rounding of the
# outputs themselves: x -> f(x)/f(x) has derivative 1e-17, not 0.
ROUND_OFF = 16 * float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One claim about one map. `what` is "JVP" or "VJP"; numbers are relative to the claim's size.

    `output` is the flat real output (JVP) that is off most; `claimed` and `reference` its values.
    """

    what: str
    verdict: Verdict
    reason: Reason
    difference: float = NAN
    bar: float = NAN
    output: int = -1
    claimed: float = NAN
    reference: float = NAN
    note: str = ""


def judge(ev: MapEvidence, rtol: float = 1e-7, atol: float = 0.0) -> list[Finding]:
    """Findings on the JVP and on the VJP, as far as they were asked for."""
    with np.errstate(all="ignore"):
        findings = []
        trusted = ev.reference
        if ev.tangent is None and trusted is not None:
            # Reverse mode alone is asked for: what vouches for it must itself agree with the ladder.
            vouched = _tangents(ev, trusted, None, rtol, atol).verdict is not Verdict.FAIL
            trusted = trusted if vouched else None
        if ev.tangent is not None:
            findings.append(_tangents(ev, ev.tangent, ev.reference, rtol, atol))
            if findings[0].verdict is Verdict.PASS and trusted is None:
                trusted = ev.tangent
        if ev.pulled is not None:
            found = _cotangents(ev, trusted, rtol, atol)
            if found.verdict is Verdict.PASS and (ev.numeric.kink & np.isfinite(ev.numeric.value)).any():
                # Tangents that are trusted on a kink are themselves but one of many right ones.
                found = dataclasses.replace(found, reason=Reason.KINK)
            findings.append(found)
        return findings


def _tangents(ev: MapEvidence, claim, reference, rtol: float, atol: float) -> Finding:
    """A claimed tangent (D, m) against the ladder and against autodiff without the rules."""
    n = ev.numeric
    scale = np.sqrt(np.mean(claim**2, axis=1, keepdims=True)) if claim.size else np.zeros((len(claim), 1))
    usable = np.isfinite(n.value) & np.isfinite(n.error) & ~n.jump
    live = usable & np.isfinite(claim)
    lost = usable & ~np.isfinite(claim)
    slack = rtol * np.maximum(np.abs(claim), scale) + atol + ROUND_OFF * np.abs(ev.outputs) + _at_rest(n)
    loose = np.maximum(slack, _loose(ev) * np.maximum(np.abs(claim), scale))
    off = _excess(n, claim, loose)
    bad = live & (off > 0)
    gap = np.abs(claim - n.value) / (np.abs(claim) + np.abs(n.value))
    relative = float(np.max(np.where(live & (gap > 0), gap, 0.0), initial=0.0))
    bar = float(np.max(np.where(live, n.error / np.maximum(np.abs(claim), scale), 0.0), initial=0.0))
    # Where the smallest steps are quantised, several larger ones may confirm the claim.
    quantised = coarse(n, claim, scale)
    if reference is not None and np.isfinite(reference[usable]).all():
        apart = np.where(usable, np.abs(claim - reference), 0.0)
        far = np.linalg.norm(apart) > rtol * (np.linalg.norm(claim[usable]) + np.linalg.norm(reference[usable])) + atol
        wrong_reference = live & (_excess(n, reference, loose) > 0)
        if far and not ((wrong_reference & ~n.kink).any() and not bad.any()):
            inside = n.kink & ~bad
            if (apart[~inside] > slack[~inside]).any() or bad.any():
                outside = np.where(inside, 0.0, apart)
                return _finding("JVP", Verdict.FAIL, Reason.MANUAL_WRONG, claim, reference, outside, bar)
        bad = bad & ~((~(np.abs(claim - reference) > slack)) & quantised)
    else:
        bad = bad & ~quantised
    if lost.any():
        return Finding("JVP", Verdict.FAIL, Reason.NONFINITE, note="the tangent is NaN or infinite")
    excused = np.abs(claim - n.value) <= BARS * n.rough + slack
    bad = bad & ~(excused & n.noisy)
    if bad.any():
        return _finding("JVP", Verdict.FAIL, Reason.MANUAL_WRONG, claim, n.value, np.where(bad, off, 0.0), bar)
    if claim.size and not usable.any():
        reason = Reason.JUMP if n.jump.any() else Reason.DOMAIN
        return Finding("JVP", Verdict.INCONCLUSIVE, reason)
    reason = Reason.KINK if (n.kink & usable).any() else Reason.AGREE
    return Finding("JVP", Verdict.PASS, reason, relative, bar)


def _loose(ev: MapEvidence) -> float:
    return 0.0 if not ev.iterative else LOOSE_HIGHER if ev.higher else LOOSE


def _at_rest(n) -> np.ndarray:
    """Rounding of a derivative that is zero where the function itself is not at rest (a singular matrix)."""
    return 1e-9 * np.where(np.isfinite(n.reach), n.reach, 0.0)


def _excess(n, claim, slack):
    """How far a claim lies outside what the ladder allows; <= 0 inside."""
    smooth = np.abs(claim - n.value) - BARS * n.error - slack
    low = np.minimum(n.left - BARS * n.left_error, n.right - BARS * n.right_error) - slack
    high = np.maximum(n.left + BARS * n.left_error, n.right + BARS * n.right_error) + slack
    return np.where(n.kink, np.maximum(low - claim, claim - high), smooth)


def _cotangents(ev: MapEvidence, trusted, rtol: float, atol: float) -> Finding:
    """Pull-backs (G, P) by adjointness against trusted tangents, or against the ladder itself."""
    claim = ev.pulled @ ev.directions.T  # (G, D)
    if not np.isfinite(ev.pulled).all():
        known = np.isfinite(ev.numeric.value).all() and (trusted is None or np.isfinite(trusted).all())
        verdict = Verdict.FAIL if known else Verdict.INCONCLUSIVE
        return Finding("VJP", verdict, Reason.NONFINITE, note="the cotangent is NaN or infinite")
    # Size of the terms of both inner products: what rounding is relative to.
    loose = max(rtol, _loose(ev))
    if ev.pulled_reference is not None and np.isfinite(ev.pulled_reference).all():
        plain = ev.pulled_reference @ ev.directions.T
        far = np.linalg.norm(ev.pulled - ev.pulled_reference) > rtol * (
            np.linalg.norm(ev.pulled) + np.linalg.norm(ev.pulled_reference)) + atol
        # Autodiff without the rule is believed where the differences do not speak against it.
        if far and _against_ladder(ev, plain, loose, atol).verdict is Verdict.PASS and not ev.numeric.kink.any():
            apart = np.abs(claim - plain)
            return _finding("VJP", Verdict.FAIL, Reason.MANUAL_WRONG, claim, plain, apart, 1e-15)
    terms = np.sqrt(ev.pulled**2 @ (ev.directions**2).T)
    if trusted is not None and np.isfinite(trusted).all():
        expected = ev.cotangents @ trusted.T
        size = np.maximum(terms, np.sqrt(ev.cotangents**2 @ (trusted**2).T))
        off = np.abs(claim - expected)
        slack = loose * size + atol + ROUND_OFF * (np.abs(ev.cotangents) @ np.abs(ev.outputs))[:, None]
        slack = slack + np.abs(ev.cotangents) @ _at_rest(ev.numeric).T
        bar = 1e-15
        if (off <= slack).all():
            relative = float(np.max(off / np.where(size > 0, size, 1), initial=0.0))
            return Finding("VJP", Verdict.PASS, Reason.AGREE, relative, bar)
        # Where the point is on a kink, forward and reverse mode may choose different subgradients.
        kinked = ev.numeric.kink.any()
        if not kinked:
            beyond = np.where(off > slack, off, 0.0)
            return _finding("VJP", Verdict.FAIL, Reason.MANUAL_WRONG, claim, expected, beyond, bar)
    return _against_ladder(ev, claim, loose, atol)


def _against_ladder(ev: MapEvidence, claim, rtol: float, atol: float) -> Finding:
    """Projected pull-backs (G, D) against projected differences; kinked outputs allow their whole range."""
    n = ev.numeric
    usable = np.isfinite(n.value) & np.isfinite(n.error) & ~n.jump
    if not usable.all():
        return Finding("VJP", Verdict.INCONCLUSIVE, Reason.JUMP if n.jump.any() else Reason.DOMAIN)
    centre = np.where(n.kink, 0.5 * (n.left + n.right), n.value)
    reach = np.where(n.kink, 0.5 * np.abs(n.left - n.right) + BARS * np.maximum(n.left_error, n.right_error), 0.0)
    expected = ev.cotangents @ centre.T
    error = BARS * np.sqrt(ev.cotangents**2 @ (np.where(n.kink, 0.0, n.error) ** 2).T)
    error = error + np.abs(ev.cotangents) @ reach.T
    rough = BARS * np.sqrt(ev.cotangents**2 @ (n.rough**2).T)
    terms = np.sqrt(ev.pulled**2 @ (ev.directions**2).T)
    size = np.maximum(terms, np.sqrt(ev.cotangents**2 @ (centre**2).T))
    slack = rtol * size + atol + np.where(n.noisy.any(), np.maximum(error, rough), error)
    off = np.abs(claim - expected)
    relative = float(np.max(off / np.where(size > 0, size, 1), initial=0.0))
    bar = float(np.max(slack / np.where(size > 0, size, 1), initial=0.0))
    if (off <= slack).all():
        return Finding("VJP", Verdict.PASS, Reason.KINK if n.kink.any() else Reason.AGREE, relative, bar)
    return _finding("VJP", Verdict.FAIL, Reason.MANUAL_WRONG, claim, expected, np.where(off > slack, off, 0.0), bar)


def _finding(what, verdict, reason, claim, reference, off, bar) -> Finding:
    where = np.unravel_index(int(np.argmax(np.where(np.isfinite(off), off, np.inf))), off.shape)
    size = np.linalg.norm(claim) + np.linalg.norm(reference)
    difference = float(np.linalg.norm(np.where(off > 0, claim - reference, 0.0)) / size) if size else NAN
    return Finding(what, verdict, reason, difference, bar, int(where[-1]), float(claim[where]), float(reference[where]))
