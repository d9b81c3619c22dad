"""Pull-backs judged: as gradients of what their cotangents make of the results, and by adjointness. Pure."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import BARS, GROSS, OBVIOUS, ROUND_OFF
from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.evidence.measured import Probes
from jaxcheck.evidence.projected import exact, projected
from jaxcheck.formula import norms, norms_along
from jaxcheck.judgement.findings import Finding, at_worst
from jaxcheck.judgement.held import Held, leaf_evidence, unless_steep, worst_of
from jaxcheck.judgement.measures import steep, unbounded
from jaxcheck.judgement.unseen import partly, unseen
from jaxcheck.result import Reason, Verdict
from jaxcheck.there import there


def cotangents(ev: MapEvidence, trusted: np.ndarray | None, held: Held) -> Finding:
    """Pull-backs (G, P) beside the slopes of their projections, and tangents that are trusted."""
    pulled, g, v = there(ev.pulled), ev.cotangents, ev.directions
    seen = projected(ev.numeric if np.isfinite(pulled).all() else _bounded(ev.numeric), g)
    kinked = bool((ev.numeric.kink & np.isfinite(ev.numeric.value)).any())
    m_error = _rounding_of_pulled(ev)

    def said(probes: Probes, strictly: Probes | None = None) -> Finding:
        leaf, other = (
            None if p is None else leaf_evidence(ev.point, pulled, ev.pulled_reference, m_error, (p,), ev.own)
            for p in (probes, strictly)
        )
        return unless_steep(worst_of("VJP", [held.vote(there(leaf), other)]), steep(there(leaf)))

    if trusted is not None and np.isfinite(trusted).all():
        # By adjointness: known far better than differences.
        own = ROUND_OFF * norms_along(trusted, g)
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
    judges = Probes(seen[narrow], directions=v[narrow])
    finding = said(judges)
    if finding.verdict is Verdict.PASS and not _covered(ev, seen):
        jumps = Reason.JUMP if ev.numeric.jump.any() else Reason.DOMAIN
        return dataclasses.replace(finding, verdict=Verdict.INCONCLUSIVE, reason=jumps, doubtful=True)
    leaf = leaf_evidence(ev.point, pulled, ev.pulled_reference, m_error, (judges,), ev.own)
    finding = partly(finding, np.asarray(unseen(leaf, held.must_see).any(axis=0)), held.must_see)
    return _where(ev, finding, seen, held)


def _bounded(s: Slopes) -> Slopes:
    """The slopes less those that are no number in the end: what is none either is right there."""
    return dataclasses.replace(s, value=np.where(unbounded(s), np.nan, s.value))


def _rounding_of_pulled(ev: MapEvidence) -> np.ndarray:
    """(G, P) the rounding of pull-backs: a number's own, and that of its leaf of the inputs."""
    pulled = there(ev.pulled)
    error = np.abs(pulled)
    for k in np.unique(ev.inputs):
        at = ev.inputs == k
        error[:, at] = np.maximum(error[:, at], norms(pulled[:, at])[:, None] / np.sqrt(at.sum()))
    return ROUND_OFF * error


def _obvious(ev: MapEvidence, claim: np.ndarray, known: np.ndarray, seen: Slopes) -> bool:
    """Whether projections (G, D) are off from those of trusted tangents, which the ladder supports, by far more than
    pull-backs scatter between inputs that differ by rounding alone."""
    if ev.scatter[1] is None:
        return False
    moves, size = (norms_along(x, ev.directions) for x in (ev.scatter[1], there(ev.pulled)))
    off = np.abs(claim - known) > np.maximum(OBVIOUS * moves, GROSS * size)
    return bool((off & (np.abs(known - seen.value.T) <= BARS * seen.error.T)).any())


def _where(ev: MapEvidence, finding: Finding, seen: Slopes, held: Held) -> Finding:
    """The finding on pull-backs that are wrong, with the projection (G, D) that is off most."""
    pulled, a, v = there(ev.pulled), ev.pulled_reference, ev.directions
    against, error = seen.value.T, seen.error.T
    if finding.verdict is not Verdict.FAIL or not np.isfinite(pulled).all():
        return finding
    claim = pulled @ v.T
    if a is not None and np.isfinite(a).all() and held.apart(claim, a @ v.T).any():
        against, error = a @ v.T, np.zeros(claim.shape)
    error = error + norms_along(_rounding_of_pulled(ev), v)
    allowed = held.allowed(norms_along(pulled, v), against, error)
    return at_worst(ev, finding, claim, against, np.where(np.isfinite(against), np.abs(claim - against), 0.0), allowed)


def _covered(ev: MapEvidence, seen: Slopes) -> bool:
    """Whether the pairs (G, D) that were judged see every leaf of the inputs with every leaf of the results."""
    if not len(ev.results) or not len(ev.inputs):
        return True
    judged = (np.isfinite(seen.value) & np.isfinite(seen.error)).T
    weighs = np.stack([(ev.cotangents[:, ev.results == k] != 0).any(axis=1) for k in np.unique(ev.results)], axis=1)
    moves = np.stack([(ev.directions[:, ev.inputs == k] != 0).any(axis=1) for k in np.unique(ev.inputs)], axis=1)
    together = weighs.T.astype(float) @ judged.astype(float) @ moves.astype(float)
    return bool((together > 0).all())
