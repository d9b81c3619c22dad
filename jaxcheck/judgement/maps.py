"""The judgement of a map: what was measured of it as the evidence of leaves, judged by the one table. Pure.

A leaf of a map's results is to its tangents what a leaf of parameters is to a gradient: its real numbers are the
components, the directions are the columns, and the slopes along them are differences of single components. The
pull-backs are gradients of what their cotangents make of the results, seen along the same directions.

What stays apart: one program measures many maps at once, so the bars of tangents and pull-backs are not measured here,
and whoever is not plainly right is `doubtful`: examined as a problem of its own before anyone is blamed
(`jaxcheck/again.py`). Outputs that are infinite by design are left out. A pull-back is also held to tangents that the
differences have confirmed, by adjointness: they are known far better than differences. And one that was seen with some
of the results alone is not said to be right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxcheck.bars import BARS, GROSS, MUST_CATCH, OBVIOUS, ROUND_OFF
from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.evidence.problem import LeafEvidence, Probes
from jaxcheck.evidence.projected import exact, projected, transposed
from jaxcheck.evidence.sketch import typical, units
from jaxcheck.judgement.findings import Finding, at_worst
from jaxcheck.judgement.measures import steep
from jaxcheck.judgement.vote import Opinion, beyond_rounding
from jaxcheck.judgement.vote import judge as vote
from jaxcheck.options import Tolerance
from jaxcheck.result import Reason, Verdict
from jaxcheck.there import there
from jaxcheck.theta import Leaf

DARK = "of some outputs there are no differences, and there autodiff without the rule says otherwise"
STEEP = (
    "by the derivative under test the function would move more, within the smallest steps, than it does at any: "
    "it may live on a smaller scale than theirs"
)
ORDER = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)


@dataclasses.dataclass(frozen=True)
class _Held:
    """What a claim is held to: the caller's bounds, and what is granted of each number, relative."""

    tolerance: Tolerance
    must_catch: float
    granted: float

    def vote(self, leaf: LeafEvidence, strictly: LeafEvidence | None = None) -> Opinion:
        """The opinion on a leaf.

        Args:
            strictly: the leaf without the rounding of large outputs in its bars. What passes by that alone is in doubt:
                it may be rounding, or a mistake in a small leaf, and is to be measured.
        """
        given = self.granted / BARS * np.abs(leaf.m)
        found = vote(dataclasses.replace(leaf, m_given=given), self.tolerance, must_catch=self.must_catch)
        if strictly is None or found.verdict is not Verdict.PASS or self.vote(strictly).verdict is Verdict.PASS:
            return found
        return dataclasses.replace(found, doubtful=True)

    def allowed(self, claim: np.ndarray, against: np.ndarray, error: np.ndarray) -> np.ndarray:
        """What two sizes may differ by, where their error is known."""
        size = np.maximum(np.abs(claim), np.abs(against))
        return max(self.tolerance.bound, self.granted) * size + self.tolerance.atol + BARS * error

    def apart(self, claim: np.ndarray, reference: np.ndarray) -> np.ndarray:
        bound = max(self.tolerance.bound, self.granted)
        return np.abs(claim - reference) > bound * np.maximum(np.abs(claim), np.abs(reference))


def judge(ev: MapEvidence, tolerance: Tolerance, must_catch: float = MUST_CATCH, granted: float = 0.0) -> list[Finding]:
    """Findings on the JVP and on the VJP, as far as they were asked for.

    Args:
        granted: what each number of a claim may be off by, relative, beside its bars.


    Outputs that are infinite or NaN at the point (a mask of -inf is no mistake) have no differences and are left out;
    of the others nothing is taken away.
    """
    finite, held = np.isfinite(ev.outputs), _Held(tolerance, must_catch, granted)
    if finite.all():
        return _judged(ev, held)
    asked = [what for what, claim in (("JVP", ev.tangent), ("VJP", ev.pulled)) if claim is not None]
    if not finite.any():
        return [
            Finding(what, Verdict.INCONCLUSIVE, Reason.NONFINITE, note="every output is infinite or NaN at this point")
            for what in asked
        ]
    found = _judged(_part(ev, finite), held)
    said = f"{int((~finite).sum())} of {finite.size} outputs are infinite or NaN at this point and were left out"
    at = np.flatnonzero(finite)
    return [
        dataclasses.replace(_blameless(f), output=int(at[f.output]) if f.output >= 0 else -1, left_out=said)
        for f in found
    ]


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
        ev,
        outputs=ev.outputs[keep],
        numeric=ev.numeric[:, keep],
        tangent=columns(ev.tangent),
        reference=columns(ev.reference),
        cotangents=columns(ev.cotangents),
        results=ev.results[keep],
        scatter=(columns(ev.scatter[0]), ev.scatter[1]),
    )


def _judged(ev: MapEvidence, held: _Held) -> list[Finding]:
    with np.errstate(all="ignore"):
        findings, trusted = [], ev.reference
        if ev.tangent is not None:
            findings.append(_tangents(ev, ev.tangent, ev.reference, held))
            trusted = ev.tangent if trusted is None and findings[0].verdict is Verdict.PASS else trusted
        elif trusted is not None:
            # Reverse mode alone is asked for: what vouches for it must itself agree with the ladder.
            vouched = _tangents(ev, trusted, None, held).verdict is not Verdict.FAIL
            trusted = trusted if vouched else None
        if ev.pulled is not None:
            found = _cotangents(ev, trusted, held)
            # Where the ladder contradicts what was to vouch for it, or cannot tell, nothing has.
            unsure = ev.reference is not None and trusted is None and found.reason is not Reason.NONFINITE
            findings.append(dataclasses.replace(found, doubtful=found.doubtful or unsure))
        return findings


def _tangents(ev: MapEvidence, claim: np.ndarray, reference: np.ndarray | None, held: _Held) -> Finding:
    """A claimed tangent (D, m) beside the ladder's slopes and autodiff without the rules, leaf by leaf."""
    jumps = np.asarray(ev.numeric.jump.any(axis=0))
    if jumps.any() and not jumps.all():
        return _beside_jumps(ev, claim, reference, held, jumps)
    found = []
    for k in np.unique(ev.results):
        at = np.flatnonzero(ev.results == k)
        m, a = claim[:, at], None if reference is None else reference[:, at]
        largest = np.abs(m).max(axis=0)
        # What one output of a leaf is in the unit of another: each shows its own in its tangents.
        values = np.where(largest > 0, largest.max(initial=0.0) / largest, 0.0)
        values = np.where(np.isfinite(values), values, 0.0)
        rounding = ROUND_OFF * typical(m, units(values))
        probes = (Probes(transposed(ev.numeric[:, at]), indices=np.arange(len(at))),)
        leaf, strictly = (
            _evidence(values, m, a, rounding + more, probes, ev.own)
            for more in (ROUND_OFF * np.abs(ev.outputs[at]), 0.0)
        )
        opinion, moves = held.vote(leaf, strictly), ev.scatter[0] if claim is ev.tangent else None
        known = None if moves is None else dataclasses.replace(leaf, m_error=leaf.m_error + moves[:, at])
        found.append((opinion, at, steep(leaf), known is not None and beyond_rounding(known, opinion)))
    finding = _unless_steep(worst_of("JVP", [opinion for opinion, *_ in found]), any(x[2] for x in found))
    finding = dataclasses.replace(finding, doubtful=finding.doubtful and not any(x[3] for x in found))
    if finding.verdict is not Verdict.FAIL or not np.isfinite(claim).all():
        return finding
    bad = np.zeros(claim.shape[1], bool)
    for opinion, at, *_ in found:
        bad[at] = opinion.verdict is Verdict.FAIL
    n, by_autodiff = ev.numeric, False if reference is None else held.apart(claim, reference)
    against = n.value if reference is None else np.where(by_autodiff, reference, n.value)
    allowed = held.allowed(claim, against, np.where(by_autodiff, 0.0, n.error) + ROUND_OFF * np.abs(ev.outputs))
    off = np.where(bad & np.isfinite(against), np.abs(claim - against), 0.0)
    return _placed(ev, finding, claim, against, off, allowed)


def _beside_jumps(
    ev: MapEvidence, claim: np.ndarray, reference: np.ndarray | None, held: _Held, jumps: np.ndarray
) -> Finding:
    """Outputs that jump at the point have no differences; where autodiff does not object they are left out."""
    said = f"{int(jumps.sum())} of {jumps.size} outputs jump at this point and were left out"
    rest = None if reference is None else reference[:, ~jumps]
    found = _tangents(_part(ev, ~jumps), claim[:, ~jumps], rest, held)
    output = int(np.flatnonzero(~jumps)[found.output]) if found.output >= 0 else -1
    found = dataclasses.replace(found, output=output, left_out=said)
    if found.verdict is Verdict.PASS and reference is not None and held.apart(claim, reference)[:, jumps].any():
        return dataclasses.replace(found, verdict=Verdict.INCONCLUSIVE, reason=Reason.JUMP, note=DARK, doubtful=False)
    return found


def _cotangents(ev: MapEvidence, trusted: np.ndarray | None, held: _Held) -> Finding:
    """Pull-backs (G, P) beside the slopes of their projections, and tangents that are trusted."""
    pulled, g, v = there(ev.pulled), ev.cotangents, ev.directions
    seen = projected(ev.numeric, g)
    kinked = bool((ev.numeric.kink & np.isfinite(ev.numeric.value)).any())
    m_error = _rounding_of_pulled(ev)

    def said(probes: Probes, strictly: Probes | None = None) -> Finding:
        leaf, other = (
            None if p is None else _evidence(ev.point, pulled, ev.pulled_reference, m_error, (p,), ev.own)
            for p in (probes, strictly)
        )
        return _unless_steep(worst_of("VJP", [held.vote(there(leaf), other)]), steep(there(leaf)))

    if trusted is not None and np.isfinite(trusted).all():
        # By adjointness: known far better than differences.
        own = ROUND_OFF * np.sqrt(trusted**2 @ (g**2).T)
        known = exact(trusted @ g.T, own + ROUND_OFF * (np.abs(ev.outputs) @ np.abs(g).T))
        finding = said(Probes(known, directions=v), Probes(exact(known.value, own), directions=v))
        if finding.verdict is Verdict.PASS and kinked:
            # Tangents that are trusted on a kink are themselves but one of many right ones.
            return dataclasses.replace(finding, reason=Reason.KINK)
        # There, forward and reverse mode may choose different subgradients.
        if not kinked:
            plain = finding.verdict is Verdict.FAIL and _obvious(ev, pulled @ v.T, known.value.T, seen)
            doubtful = finding.doubtful and not plain
            return _where(ev, dataclasses.replace(finding, doubtful=doubtful), known, held)
    narrow = ~ev.wide if (np.isfinite(seen.value).any(axis=1) & ~ev.wide).any() else np.ones(len(v), bool)
    finding = said(Probes(seen[narrow], directions=v[narrow]))
    if finding.verdict is Verdict.PASS and not _covered(ev, seen):
        jumps = Reason.JUMP if ev.numeric.jump.any() else Reason.DOMAIN
        return dataclasses.replace(finding, verdict=Verdict.INCONCLUSIVE, reason=jumps, doubtful=True)
    return _where(ev, finding, seen, held)


def _rounding_of_pulled(ev: MapEvidence) -> np.ndarray:
    """(G, P) the rounding of pull-backs: a number's own, and that of its leaf of the inputs."""
    pulled = there(ev.pulled)
    error = np.abs(pulled)
    for k in np.unique(ev.inputs):
        at = ev.inputs == k
        error[:, at] = np.maximum(error[:, at], np.sqrt(np.mean(pulled[:, at] ** 2, axis=1, keepdims=True)))
    return ROUND_OFF * error


def _obvious(ev: MapEvidence, claim: np.ndarray, known: np.ndarray, seen: Slopes) -> bool:
    """Whether projections (G, D) are off from those of trusted tangents, which the ladder supports, by far more than
    pull-backs scatter between inputs that differ by rounding alone."""
    if ev.scatter[1] is None:
        return False
    moves, size = (np.sqrt(x**2 @ (ev.directions**2).T) for x in (ev.scatter[1], there(ev.pulled)))
    off = np.abs(claim - known) > np.maximum(OBVIOUS * moves, GROSS * size)
    return bool((off & (np.abs(known - seen.value.T) <= BARS * seen.error.T)).any())


def _where(ev: MapEvidence, finding: Finding, seen: Slopes, held: _Held) -> Finding:
    """The finding on pull-backs that are wrong, with the projection (G, D) that is off most."""
    pulled, a, v = there(ev.pulled), ev.pulled_reference, ev.directions
    against, error = seen.value.T, seen.error.T
    if finding.verdict is not Verdict.FAIL or not np.isfinite(pulled).all():
        return finding
    claim = pulled @ v.T
    if a is not None and np.isfinite(a).all() and held.apart(claim, a @ v.T).any():
        against, error = a @ v.T, np.zeros(claim.shape)
    error = error + np.sqrt(_rounding_of_pulled(ev) ** 2 @ (v**2).T)
    allowed = held.allowed(np.sqrt(pulled**2 @ (v**2).T), against, error)
    return _placed(ev, finding, claim, against, np.where(np.isfinite(against), np.abs(claim - against), 0.0), allowed)


def _unless_steep(finding: Finding, beyond: bool) -> Finding:
    if not beyond or finding.verdict is not Verdict.PASS:
        return finding
    return dataclasses.replace(finding, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE, note=STEEP, doubtful=True)


def _placed(ev: MapEvidence, finding: Finding, claim, against, off, allowed) -> Finding:
    worst = at_worst(
        ev,
        finding.what,
        finding.verdict,
        finding.reason,
        claim,
        against,
        off,
        finding.bar,
        off / np.where(allowed > 0, allowed, 1.0),
    )
    return dataclasses.replace(worst, note=finding.note, doubtful=finding.doubtful)


def _evidence(
    values: np.ndarray, m: np.ndarray, a: np.ndarray | None, rounding: np.ndarray, probes: tuple[Probes, ...], own: bool
) -> LeafEvidence:
    leaf = Leaf("", (len(values),), "float64", "float64", False, 0, 0, len(values))
    bars = np.broadcast_to(rounding, m.shape)
    return LeafEvidence(
        leaf, values, m, bars, a, None if a is None else bars, probes, np.zeros_like(m), is_autodiff=own
    )


def worst_of(what: str, opinions: Sequence[Opinion]) -> Finding:
    """The finding of the leaf that is worst."""
    if not opinions:
        return Finding(what, Verdict.PASS, Reason.AGREE)

    def rank(one: Opinion) -> tuple:
        return ORDER.index(one.verdict), one.reason is Reason.AGREE, -np.nan_to_num(one.difference)

    worst = min(opinions, key=rank)
    known = [o.difference for o in opinions if np.isfinite(o.difference)]
    bars = [o.error_bar for o in opinions if np.isfinite(o.error_bar)]
    # A NaN is no matter of bars.
    plain = worst.reason is Reason.NONFINITE or all(
        o.verdict is Verdict.PASS and o.reason in (Reason.AGREE, Reason.KINK) and not o.doubtful for o in opinions
    )
    return Finding(
        what,
        worst.verdict,
        worst.reason,
        max(known, default=np.nan),
        max(bars, default=np.nan),
        note="" if worst.reason in (Reason.AGREE, Reason.MANUAL_WRONG) else worst.note,
        doubtful=not plain,
    )


def _covered(ev: MapEvidence, seen: Slopes) -> bool:
    """Whether the pairs (G, D) that were judged see every leaf of the inputs with every leaf of the results."""
    if not len(ev.results) or not len(ev.inputs):
        return True
    judged = (np.isfinite(seen.value) & np.isfinite(seen.error)).T
    weighs = np.stack([(ev.cotangents[:, ev.results == k] != 0).any(axis=1) for k in np.unique(ev.results)], axis=1)
    moves = np.stack([(ev.directions[:, ev.inputs == k] != 0).any(axis=1) for k in np.unique(ev.inputs)], axis=1)
    together = weighs.T.astype(float) @ judged.astype(float) @ moves.astype(float)
    return bool((together > 0).all())


__all__ = ["Finding", "judge", "worst_of"]
