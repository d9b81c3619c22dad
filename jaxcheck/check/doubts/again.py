"""A map's derivative that is in doubt, examined as a problem of its own before anyone is blamed or believed.

The tangents along the directions of the evidence, or the pull-backs of its cotangents, go through the same machine as
the gradient of a loss: their round-off is measured, finer steps are taken, loops are run on, kinks are named, and the
one table says the verdict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxcheck.check.doubts import implicit, limits_maps
from jaxcheck.check.engine import opinions_of
from jaxcheck.check.settings import Settings
from jaxcheck.evidence import map_problem
from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.judgement.findings import Finding
from jaxcheck.judgement.held import STEEP, worst_of
from jaxcheck.judgement.measures import steep
from jaxcheck.judgement.unseen import dark, partly, poor, unseen
from jaxcheck.judgement.vote import Opinion
from jaxcheck.problem.map import Map
from jaxcheck.problem.problem import Problem
from jaxcheck.program.ask import Refused, ask
from jaxcheck.result import Reason, Verdict
from jaxcheck.there import there

# Outputs that are examined: those that are off most.
MOST = 1024


def settled(one: Map, ev: MapEvidence, findings: Sequence[Finding], settings: Settings) -> list[Finding]:
    """The findings on a map, those in doubt after a closer look; after one that is wrong, nobody else is looked at."""
    found: list[Finding] = []
    for finding in findings:
        wrong = any(f.verdict is Verdict.FAIL for f in found)
        found.append(_closer(one, ev, finding, settings) if not wrong and _in_doubt(one, finding) else finding)
    return found


def _in_doubt(one: Map, finding: Finding) -> bool:
    """A loop that stops at a tolerance may be off by its stopping error, however far."""
    wrong = finding.verdict is Verdict.FAIL and finding.reason is not Reason.NONFINITE
    return finding.doubtful or (wrong and (implicit.of_map(one.primal) or limits_maps.stops(one)))


def _closer(one: Map, ev: MapEvidence, first: Finding, settings: Settings) -> Finding:
    if implicit.of_map(one.primal):
        return implicit.unjudged(first)
    try:
        problem = ask(_problem, one, ev, first, settings)
        if problem is None:
            return first
        case, leaves, opinions = ask(opinions_of, problem, settings)
    except Refused:  # a derivative that cannot be run this way, too
        return first
    found = _said(ev, first, leaves, opinions, settings) if opinions else first
    return dataclasses.replace(found, evaluations=case.evaluations, compiled=case.compiled)


def _problem(one: Map, ev: MapEvidence, first: Finding, settings: Settings) -> Problem | None:
    if first.what == "VJP":
        names = [f"input {k}" for k in range(len(one.point))]
        if _by_bars(first):
            # What is known of some outputs is not to drown in the bars of others.
            hard = poor(ev.numeric, settings.must_catch)
            g = ev.cotangents
            ev = dataclasses.replace(ev, cotangents=np.concatenate([g, g * hard, g * ~hard]))
        return map_problem.problem_of(one, ev, map_problem.theta_of(one, names), reverse=True, own=True)
    return map_problem.along(one, ev, _chosen(ev))


def _by_bars(first: Finding) -> bool:
    """Whether it is bars that are too wide for which a finding is in doubt."""
    return bool(first.poor) or first.reason is Reason.VACUOUS


def _chosen(ev: MapEvidence) -> np.ndarray:
    """The outputs that are examined."""
    jumps = ev.numeric.jump.any(axis=0)
    at = np.flatnonzero(np.isfinite(ev.outputs) & (jumps.all() | ~jumps))
    return at if len(at) <= MOST else np.sort(at[np.argsort(-_off(ev)[at], kind="stable")[:MOST]])


def _off(ev: MapEvidence) -> np.ndarray:
    """(m,) how far the tangents of each output are off, in units of what is known of them."""
    with np.errstate(all="ignore"):
        claim, n = there(ev.tangent), ev.numeric
        off = np.abs(claim - n.value) / (n.error + np.finfo(float).eps * np.abs(claim))
        if ev.reference is not None:
            off = np.fmax(off, np.abs(claim - ev.reference) / (np.finfo(float).eps * np.abs(claim)))
        return np.nan_to_num(off, nan=0.0).max(axis=0)


def _said(
    ev: MapEvidence, first: Finding, leaves: Sequence[LeafEvidence], opinions: Sequence[Opinion], settings: Settings
) -> Finding:
    second = worst_of(first.what, opinions)
    if second.verdict is Verdict.PASS and any(map(steep, leaves)):
        second = dataclasses.replace(second, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE, note=STEEP)
    if second.verdict is not Verdict.FAIL:
        second = _in_part(ev, first, second, leaves, settings.must_catch)
        return dataclasses.replace(second, left_out=first.left_out, doubtful=False)
    if first.verdict is Verdict.FAIL:
        # Where it is off most was seen already.
        return dataclasses.replace(first, reason=second.reason, note=second.note, doubtful=False)
    return dataclasses.replace(second, left_out=first.left_out, doubtful=False)


def _in_part(
    ev: MapEvidence, first: Finding, second: Finding, leaves: Sequence[LeafEvidence], must_catch: float
) -> Finding:
    """What passed, with what could still not be judged of it."""
    if first.what == "VJP":
        blind = np.concatenate([unseen(leaf, must_catch).any(axis=0) for leaf in leaves])
        return partly(second, blind, must_catch)
    if first.blind is None:
        return second
    blind, at = first.blind.copy(), _chosen(ev)
    blind[:, at] &= np.concatenate([unseen(leaf, must_catch, moved=1.0).T for leaf in leaves])
    return partly(second, dark(ev, blind), must_catch)
