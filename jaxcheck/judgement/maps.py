"""The judgement of a map: its tangents against the ladder, its cotangents by adjointness. Pure."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import AT_REST, BARS, CANCELLED, COMPONENT, HUGE, INNER, ROUND_OFF, TEXTBOOK
from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.judgement.findings import Finding, at_worst
from jaxcheck.judgement.measures import coarse
from jaxcheck.result import Reason, Verdict
from jaxcheck.there import there

STEEP = ("by the derivative under test the function would move more, within the smallest steps, than it does at any: "
         "it may live on a smaller scale than theirs")
DARK = "of some outputs there are no differences, and there autodiff without the rule says otherwise"


def judge(ev: MapEvidence, rtol: float = TEXTBOOK, atol: float = 0.0) -> list[Finding]:
    """Findings on the JVP and on the VJP, as far as they were asked for.

    Outputs that are infinite or NaN at the point (a mask of -inf is no mistake) have no differences and are left out;
    of the others nothing is taken away.
    """
    finite = np.isfinite(ev.outputs)
    if finite.all():
        return _judged(ev, rtol, atol)
    asked = [what for what, claim in (("JVP", ev.tangent), ("VJP", ev.pulled)) if claim is not None]
    if not finite.any():
        return [Finding(what, Verdict.INCONCLUSIVE, Reason.NONFINITE,
                        note="every output is infinite or NaN at this point") for what in asked]
    found = _judged(_part(ev, finite), rtol, atol)
    said = f"{int((~finite).sum())} of {finite.size} outputs are infinite or NaN at this point and were left out"
    at = np.flatnonzero(finite)
    return [dataclasses.replace(_blameless(f), output=int(at[f.output]) if f.output >= 0 else -1, left_out=said)
            for f in found]


def _blameless(finding: Finding) -> Finding:
    """Beside an infinite output no backward pass can help a NaN: 0/0 from a logarithm's slope and a zero cotangent."""
    if finding.what == "VJP" and finding.verdict is Verdict.FAIL and finding.reason is Reason.NONFINITE:
        return dataclasses.replace(finding, verdict=Verdict.INCONCLUSIVE)
    return finding


def _part(ev: MapEvidence, keep: np.ndarray) -> MapEvidence:
    """The evidence on some of the outputs alone; the cotangents are zero at the others (see `maps.measure`)."""
    def columns(x):
        return None if x is None else x[:, keep]

    return dataclasses.replace(
        ev, outputs=ev.outputs[keep], numeric=ev.numeric[:, keep], tangent=columns(ev.tangent),
        reference=columns(ev.reference), cotangents=columns(ev.cotangents), results=ev.results[keep],
        scatter=(columns(ev.scatter[0]), columns(ev.scatter[1]), *ev.scatter[2:]))


def _judged(ev: MapEvidence, rtol: float, atol: float) -> list[Finding]:
    with np.errstate(all="ignore"):
        findings = []
        trusted = ev.reference
        if ev.tangent is None and trusted is not None:
            # Reverse mode alone is asked for: what vouches for it must itself agree with the ladder.
            vouched = _tangents(ev, trusted, None, rtol, atol, ev.scatter[1]).verdict is not Verdict.FAIL
            trusted = trusted if vouched else None
        if ev.tangent is not None:
            findings.append(_tangents(ev, ev.tangent, ev.reference, rtol, atol, ev.scatter[0]))
            if findings[0].verdict is Verdict.PASS and trusted is None:
                trusted = ev.tangent
        if ev.pulled is not None:
            vouch = ev.scatter[1] if trusted is ev.reference and trusted is not None else ev.scatter[0]
            found = _cotangents(ev, trusted, rtol, atol, vouch)
            if found.verdict is Verdict.PASS and (ev.numeric.kink & np.isfinite(ev.numeric.value)).any():
                # Tangents that are trusted on a kink are themselves but one of many right ones.
                found = dataclasses.replace(found, reason=Reason.KINK)
            findings.append(found)
        return findings


def _tangents(ev: MapEvidence, claim, reference, rtol: float, atol: float, scatter) -> Finding:
    """A claimed tangent (D, m), which scatters by so much, against the ladder and autodiff without the rules."""
    n = ev.numeric
    scale = _leaf_rms(claim, ev.results)
    usable = np.isfinite(n.value) & np.isfinite(n.error) & ~n.jump
    live = usable & np.isfinite(claim)
    lost = usable & ~np.isfinite(claim)
    rest = atol + ROUND_OFF * np.abs(ev.outputs) + _at_rest(n)
    # What a residue explains is at most what one scale for all leaves would have let pass.
    residue = _residue(ev, scatter if reference is None else np.maximum(scatter, there(ev.scatter[1])))
    whole = np.sqrt(np.mean(claim**2, axis=1, keepdims=True)) if claim.size else np.zeros((len(claim), 1))

    leaf = rtol * np.maximum(np.abs(claim), scale)
    component = COMPONENT * rtol * np.abs(claim) + ROUND_OFF * scale
    slack = np.minimum(leaf, component) + np.minimum(residue, rtol * whole) + rest
    off = _excess(n, claim, slack)
    bad = live & (off > 0)
    gap = np.abs(claim - n.value) / (np.abs(claim) + np.abs(n.value))
    relative = float(np.max(np.where(live & (gap > 0), gap, 0.0), initial=0.0))
    bar = float(np.max(np.where(live, n.error / np.maximum(np.abs(claim), scale), 0.0), initial=0.0))
    # Where the smallest steps are quantised, several larger ones may confirm the claim.
    quantised = coarse(n, claim, scale)
    if reference is not None and np.isfinite(reference[usable]).all():
        apart = np.where(usable, np.abs(claim - reference), 0.0)
        far = _far(np.where(usable, claim, 0.0), np.where(usable, reference, 0.0), ev.results, rtol, atol, slack)
        wrong_reference = live & (_excess(n, reference, slack) > 0)
        if far.any() and not ((wrong_reference & ~n.kink).any() and not bad.any()):
            inside = n.kink & ~bad
            if (far & ~inside).any() or bad.any():
                outside = np.where(inside, 0.0, apart)
                return at_worst(ev, "JVP", Verdict.FAIL, Reason.MANUAL_WRONG, claim, reference, outside, bar,
                                outside / slack)
        bad = bad & ~((~(np.abs(claim - reference) > slack)) & quantised)
    else:
        bad = bad & ~quantised
    if lost.any():
        return Finding("JVP", Verdict.FAIL, Reason.NONFINITE, note="the tangent is NaN or infinite")
    excused = np.abs(claim - n.value) <= BARS * n.rough + slack
    bad = bad & ~(excused & n.noisy)
    # Far outside a component's own scale the differences of larger steps may mislead; a direction that moves each
    # in proportion stands beside such a one.
    bad = bad & ~ev.wide[:, None]
    steep = live & ~ev.wide[:, None] & (np.abs(claim) > n.steepest) & (reference is None)
    bad = bad & ~steep
    if bad.any():
        return at_worst(ev, "JVP", Verdict.FAIL, Reason.MANUAL_WRONG, claim, n.value, np.where(bad, off, 0.0), bar,
                        np.where(bad, off / (slack + n.error), 0.0))
    if claim.size and not usable.any():
        reason = Reason.JUMP if n.jump.any() else Reason.DOMAIN
        return Finding("JVP", Verdict.INCONCLUSIVE, reason)
    if steep.any():
        return Finding("JVP", Verdict.INCONCLUSIVE, Reason.NOISE, note=STEEP)
    dark = ~usable.any(axis=0)
    if reference is not None and dark.any() and (
            _far(claim, reference, ev.results, rtol, atol, leaf + rest)[:, dark]).any():
        return Finding("JVP", Verdict.INCONCLUSIVE, Reason.JUMP if n.jump[:, dark].any() else Reason.DOMAIN, note=DARK)
    reason = Reason.KINK if (n.kink & usable).any() else Reason.AGREE
    return Finding("JVP", Verdict.PASS, reason, relative, bar)


def _residue(ev: MapEvidence, scatter: np.ndarray) -> np.ndarray:
    """(D, m) how far a tangent may be off because its terms cancel."""
    noise = np.where(np.isfinite(ev.numeric.noise), ev.numeric.noise, np.inf)
    found = np.maximum(_leaf_rms(scatter, ev.results), scatter)
    return CANCELLED * np.minimum(np.where(np.isfinite(found), found, np.inf), noise)


def _leaf_rms(x: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """(D, m): for every entry the RMS of its leaf in that row; NaN where the leaf is not finite."""
    total, count = _leaf_squares(x, owner)
    return np.sqrt(total / np.maximum(count, 1))[:, owner] if x.size else np.zeros(x.shape)


def _leaf_squares(x: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((D, leaves) sums of squares, entries per leaf)."""
    count = np.bincount(owner)
    edges = np.concatenate([[0], np.cumsum(count)[:-1]])
    filled = np.flatnonzero(count)  # a leaf without entries has no sum; reduceat would take the next one's
    total = np.zeros((len(x), len(count)))
    if filled.size:
        total[:, filled] = np.add.reduceat(x**2, edges[filled], axis=1)
    return total, count


def _far(claim, reference, owner: np.ndarray, rtol: float, atol: float, slack: np.ndarray) -> np.ndarray:
    """(D, m): where two claims differ, leaf by leaf by formula (2) and component by component."""
    norms = [np.sqrt(_leaf_squares(x, owner)[0]) for x in (claim - reference, claim, reference)]
    beyond = norms[0] > rtol * (norms[1] + norms[2]) + atol
    apart = np.abs(claim - reference)
    alone = apart > COMPONENT * rtol * np.maximum(np.abs(claim), np.abs(reference))
    return (apart > slack) & (beyond[:, owner] | alone)


def _at_rest(n) -> np.ndarray:
    """Rounding of a derivative that is zero where the function itself is not at rest (a singular matrix)."""
    return AT_REST * np.where(np.isfinite(n.reach), n.reach, 0.0)


def _excess(n, claim, slack):
    """How far a claim lies outside what the ladder allows; <= 0 inside."""
    smooth = np.abs(claim - n.value) - BARS * n.error - slack
    low = np.minimum(n.left - BARS * n.left_error, n.right - BARS * n.right_error) - slack
    high = np.maximum(n.left + BARS * n.left_error, n.right + BARS * n.right_error) + slack
    return np.where(n.kink, np.maximum(low - claim, claim - high), smooth)


def _cotangents(ev: MapEvidence, trusted, rtol: float, atol: float, vouch) -> Finding:
    """Pull-backs (G, P) by adjointness against trusted tangents, which scatter by so much, or against the ladder."""
    pulled = there(ev.pulled)
    claim = pulled @ ev.directions.T  # (G, D)
    if not np.isfinite(pulled).all():
        known = np.isfinite(ev.numeric.value).all() and (trusted is None or np.isfinite(trusted).all())
        verdict = Verdict.FAIL if known else Verdict.INCONCLUSIVE
        return Finding("VJP", verdict, Reason.NONFINITE, note="the cotangent is NaN or infinite")
    moved = _pulled_residue(ev, there(ev.scatter[2]))
    if ev.pulled_reference is not None and np.isfinite(ev.pulled_reference).all():
        plain = ev.pulled_reference @ ev.directions.T
        own, other = (np.sqrt(x**2 @ (ev.directions**2).T) for x in (pulled, ev.pulled_reference))
        both = np.maximum(moved, _pulled_residue(ev, there(ev.scatter[3])))
        allowed = _slack(ev, own, other, rtol, atol, both)[0]
        far = np.abs(claim - plain) > allowed
        # Autodiff without the rule is believed where the differences do not speak against it.
        if far.any() and _against_ladder(ev, plain, rtol, atol).verdict is Verdict.PASS and not ev.numeric.kink.any():
            apart = np.abs(claim - plain)
            return at_worst(ev, "VJP", Verdict.FAIL, Reason.MANUAL_WRONG, claim, plain, apart, INNER, apart / allowed)
    if trusted is not None and np.isfinite(trusted).all():
        expected = ev.cotangents @ trusted.T
        off = np.abs(claim - expected)
        slack, size = _slack(ev, np.sqrt(pulled**2 @ (ev.directions**2).T),
                             np.sqrt(ev.cotangents**2 @ (trusted**2).T), rtol, atol,
                             moved + np.abs(ev.cotangents) @ _residue(ev, vouch).T)
        bar = INNER
        if (off <= slack).all():
            relative = float(np.max(off / np.where(size > 0, size, 1), initial=0.0))
            return Finding("VJP", Verdict.PASS, Reason.AGREE, relative, bar)
        # Where the point is on a kink, forward and reverse mode may choose different subgradients.
        kinked = ev.numeric.kink.any()
        if not kinked:
            beyond = np.where(off > slack, off, 0.0)
            return at_worst(ev, "VJP", Verdict.FAIL, Reason.MANUAL_WRONG, claim, expected, beyond, bar, beyond / slack)
    return _against_ladder(ev, claim, rtol, atol)


def _pulled_residue(ev: MapEvidence, scatter: np.ndarray) -> np.ndarray:
    """(G, D) how far a projected pull-back may be off because its terms cancel."""
    found = CANCELLED * np.sqrt(scatter**2 @ (ev.directions**2).T)
    return np.where(np.isfinite(found), found, np.inf)


def _slack(ev: MapEvidence, left: np.ndarray, right: np.ndarray, tolerance: float, atol: float, residue: np.ndarray):
    """((G, D) what two inner products may differ by, the size of their terms: what rounding is relative to)."""
    weight = np.abs(ev.cotangents)
    size = np.maximum(np.abs(left), np.abs(right))
    slack = tolerance * size + atol + ROUND_OFF * (weight @ np.abs(ev.outputs))[:, None]
    noise = np.where(np.isfinite(ev.numeric.noise), CANCELLED * ev.numeric.noise, HUGE)
    residue = np.minimum(np.minimum(residue, weight @ noise.T), tolerance * size.max(initial=0.0))
    return slack + weight @ _at_rest(ev.numeric).T + residue, size


def _against_ladder(ev: MapEvidence, claim, rtol: float, atol: float) -> Finding:
    """Projected pull-backs (G, D) against projected differences; kinked outputs allow their whole range.

    A pair of a cotangent and a direction is judged where the differences of every output that it weighs
    are known. Each leaf of the inputs must be seen together with each of the results.
    """
    n = ev.numeric
    usable = np.isfinite(n.value) & np.isfinite(n.error) & ~n.jump
    narrow = usable & ~ev.wide[:, None]  # where none is left, the wide ones must do
    usable = narrow if narrow.any() else usable
    judged = ~((ev.cotangents != 0).astype(float) @ (~usable).T.astype(float) > 0)
    if not _covered(ev, judged):
        return Finding("VJP", Verdict.INCONCLUSIVE, Reason.JUMP if n.jump.any() else Reason.DOMAIN)
    n = dataclasses.replace(n, **{f.name: np.where(usable, getattr(n, f.name), 0) for f in dataclasses.fields(n)
                                  if getattr(n, f.name).shape == usable.shape})
    kink = n.kink.astype(bool)
    centre = np.where(kink, 0.5 * (n.left + n.right), n.value)
    reach = np.where(kink, 0.5 * np.abs(n.left - n.right) + BARS * np.maximum(n.left_error, n.right_error), 0.0)
    expected = ev.cotangents @ centre.T
    error = BARS * np.sqrt(ev.cotangents**2 @ (np.where(kink, 0.0, n.error) ** 2).T)
    error = error + np.abs(ev.cotangents) @ reach.T
    rough = BARS * np.sqrt(ev.cotangents**2 @ (n.rough**2).T)
    terms = np.sqrt(there(ev.pulled)**2 @ (ev.directions**2).T)
    size = np.maximum(terms, np.sqrt(ev.cotangents**2 @ (centre**2).T))
    slack = rtol * size + atol + np.where(n.noisy.any(), np.maximum(error, rough), error)
    steep = _too_steep(ev, n, claim) & judged
    judged &= ~steep
    off = np.where(judged, np.abs(claim - expected), 0.0)
    relative = float(np.max(off / np.where(size > 0, size, 1), initial=0.0))
    bar = float(np.max(np.where(judged, slack / np.where(size > 0, size, 1), 0.0), initial=0.0))
    if (off <= slack).all() and steep.any() and not _covered(ev, judged):
        return Finding("VJP", Verdict.INCONCLUSIVE, Reason.NOISE, note=STEEP)
    if (off <= slack).all():
        return Finding("VJP", Verdict.PASS, Reason.KINK if kink.any() else Reason.AGREE, relative, bar)
    beyond = np.where(off > slack, off, 0.0)
    return at_worst(ev, "VJP", Verdict.FAIL, Reason.MANUAL_WRONG, claim, expected, beyond, bar, beyond / slack)


def _too_steep(ev: MapEvidence, n, claim: np.ndarray) -> np.ndarray:
    """(G, D) whether the differences cannot judge a claim, see `Slopes.steepest`: some of the outputs that it weighs
    scatter, and it is more than what these may move by and the others do."""
    scatters = np.isfinite(n.steepest)
    most = np.where(scatters, n.steepest, np.abs(n.value) + BARS * n.error)
    weighs = (ev.cotangents != 0).astype(float) @ scatters.T.astype(float) > 0
    return weighs & (np.abs(claim) > np.abs(ev.cotangents) @ most.T)


def _covered(ev: MapEvidence, judged: np.ndarray) -> bool:
    """Whether the judged pairs (G, D) see every leaf of the inputs with every leaf of the results."""
    weighs = np.stack([(ev.cotangents[:, ev.results == k] != 0).any(axis=1) for k in np.unique(ev.results)], axis=1) \
        if len(ev.results) else np.ones((len(judged), 1), bool)
    moves = np.stack([(ev.directions[:, ev.inputs == k] != 0).any(axis=1) for k in np.unique(ev.inputs)], axis=1)
    seen = weighs.T.astype(float) @ judged.astype(float) @ moves.astype(float)
    return bool((seen > 0).all())


__all__ = ["Finding", "judge"]
