"""The judgement of a map: what was measured of it as the evidence of leaves, judged by the one table. Pure.

A leaf of a map's results is to its tangents what a leaf of parameters is to a gradient: its real numbers are the
components, the directions are the columns, and the slopes along them are differences of single components. The
pull-backs are gradients of what their cotangents make of the results, seen along the same directions.

What stays apart: one program measures many maps at once, so the bars of tangents and pull-backs are not measured here,
and whoever is not plainly right is `doubtful`: examined as a problem of its own before anyone is blamed
(`check/doubts/again.py`). Outputs that are infinite by design are left out. A pull-back is also held to tangents that
the differences have confirmed, by adjointness: they are known far better than differences. And one that was seen with
some of the results alone is not said to be right.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import MUST_CATCH, ROUND_OFF
from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.evidence.measured import Probes
from jaxcheck.evidence.projected import transposed
from jaxcheck.evidence.sketch import typical, units
from jaxcheck.judgement.findings import Finding, at_worst
from jaxcheck.judgement.held import Held, leaf_evidence, unless_steep, worst_of
from jaxcheck.judgement.measures import steep
from jaxcheck.judgement.pull_backs import cotangents
from jaxcheck.judgement.unseen import dark, partly, unseen
from jaxcheck.judgement.vote import beyond_rounding
from jaxcheck.options import Tolerance
from jaxcheck.result import Reason, Verdict

DARK = "of some outputs there are no differences, and there autodiff without the rule says otherwise"


def judge(
    ev: MapEvidence,
    tolerance: Tolerance,
    must_catch: float = MUST_CATCH,
    granted: float = 0.0,
    must_see: float | None = None,
) -> list[Finding]:
    """Findings on the JVP and on the VJP, as far as they were asked for.

    Args:
        granted: what each number of a claim may be off by, relative, beside its bars.
        must_see: what differences that are alone must be able to tell; default `must_catch`.

    Outputs that are infinite or NaN at the point (a mask of -inf is no mistake) have no differences and are left out;
    of the others nothing is taken away.
    """
    finite = np.isfinite(ev.outputs)
    held = Held(tolerance, must_catch, granted, must_catch if must_see is None else must_see)
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
    return [dataclasses.replace(_of_all(_blameless(f), finite), left_out=said) for f in found]


def _of_all(finding: Finding, keep: np.ndarray) -> Finding:
    """A finding on some of the outputs, said of all of them."""
    output = int(np.flatnonzero(keep)[finding.output]) if finding.output >= 0 else -1
    if finding.what != "JVP" or finding.blind is None:
        return dataclasses.replace(finding, output=output)
    blind = np.zeros((len(finding.blind), len(keep)), bool)
    blind[:, keep] = finding.blind
    return dataclasses.replace(finding, output=output, blind=blind)


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


def _judged(ev: MapEvidence, held: Held) -> list[Finding]:
    with np.errstate(all="ignore"):
        findings, trusted, vouching = [], ev.reference, None
        if ev.tangent is not None:
            findings.append(_tangents(ev, ev.tangent, ev.reference, held))
            if findings[0].reason is Reason.NUMERIC_SUSPECT:
                trusted = None  # the differences speak against both
            elif trusted is None and findings[0].verdict is Verdict.PASS:
                trusted = ev.tangent
        elif trusted is not None:
            # Reverse mode alone is asked for: what vouches for it must itself agree with the ladder.
            vouching = _tangents(ev, trusted, None, held)
            trusted = trusted if vouching.verdict is not Verdict.FAIL else None
        if ev.pulled is not None:
            found = cotangents(ev, trusted, held)
            # Where the ladder contradicts what was to vouch for it, or cannot tell, nothing has.
            unsure = ev.reference is not None and trusted is None and found.reason is not Reason.NONFINITE
            findings.append(dataclasses.replace(found, doubtful=found.doubtful or unsure))
            if ev.own and vouching is not None and vouching.blind is not None:
                # JAX's forward and reverse mode may be deceived alike, and so vouch for nothing.
                findings[-1] = partly(findings[-1], dark(ev, vouching.blind), held.must_see)
        return findings


def _tangents(ev: MapEvidence, claim: np.ndarray, reference: np.ndarray | None, held: Held) -> Finding:
    """A claimed tangent (D, m) beside the ladder's slopes and autodiff without the rules, leaf by leaf."""
    jumps = np.asarray(ev.numeric.jump.any(axis=0))
    if jumps.any() and not jumps.all():
        return _beside_jumps(ev, claim, reference, held, jumps)
    found, blind = [], np.zeros(claim.shape, bool)
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
            leaf_evidence(values, m, a, rounding + more, probes, ev.own)
            for more in (ROUND_OFF * np.abs(ev.outputs[at]), 0.0)
        )
        opinion, moves = held.vote(leaf, strictly), ev.scatter[0] if claim is ev.tangent else None
        known = None if moves is None else dataclasses.replace(leaf, m_error=leaf.m_error + moves[:, at])
        found.append((opinion, at, steep(leaf), known is not None and beyond_rounding(known, opinion)))
        blind[:, at] = unseen(leaf, held.must_see, moved=1.0)
    finding = unless_steep(worst_of("JVP", [opinion for opinion, *_ in found]), any(x[2] for x in found))
    finding = dataclasses.replace(finding, doubtful=finding.doubtful and not any(x[3] for x in found), blind=blind)
    finding = partly(finding, dark(ev, blind), held.must_see)
    if finding.verdict is not Verdict.FAIL or not np.isfinite(claim).all():
        return finding
    bad = np.zeros(claim.shape[1], bool)
    for opinion, at, *_ in found:
        bad[at] = opinion.verdict is Verdict.FAIL
    n, by_autodiff = ev.numeric, False if reference is None else held.apart(claim, reference)
    against = n.value if reference is None else np.where(by_autodiff, reference, n.value)
    allowed = held.allowed(claim, against, np.where(by_autodiff, 0.0, n.error) + ROUND_OFF * np.abs(ev.outputs))
    off = np.where(bad & np.isfinite(against), np.abs(claim - against), 0.0)
    return at_worst(ev, finding, claim, against, off, allowed)


def _beside_jumps(
    ev: MapEvidence, claim: np.ndarray, reference: np.ndarray | None, held: Held, jumps: np.ndarray
) -> Finding:
    """Outputs that jump at the point have no differences; where autodiff does not object they are left out."""
    said = f"{int(jumps.sum())} of {jumps.size} outputs jump at this point and were left out"
    rest = None if reference is None else reference[:, ~jumps]
    found = _tangents(_part(ev, ~jumps), claim[:, ~jumps], rest, held)
    found = dataclasses.replace(_of_all(found, ~jumps), left_out=said)
    if found.verdict is Verdict.PASS and reference is not None and held.apart(claim, reference)[:, jumps].any():
        return dataclasses.replace(found, verdict=Verdict.INCONCLUSIVE, reason=Reason.JUMP, note=DARK, doubtful=False)
    return found


__all__ = ["Finding", "judge"]
