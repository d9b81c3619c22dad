"""What differences that are alone cannot tell: what lies within their bars and must be caught. Pure."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import BARS, FAINT, OBVIOUS
from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.formula import norms, norms_along
from jaxcheck.judgement.findings import Finding
from jaxcheck.judgement.measures import own_size, reference
from jaxcheck.result import Reason, Verdict

KNOWN = (Reason.AGREE, Reason.KINK)


def unseen(ev: LeafEvidence, must_catch: float, moved: float | None = None) -> np.ndarray:
    """(G, n) the numbers of a leaf of which no difference would tell an error of `must_catch`, relative to what each
    counts for in the leaf; none where another autodiff than M itself speaks.

    A column that is zero but for its rounding has no scale of its own: what it would do to the function is relative to
    the function itself, then.

    Args:
        moved: how far a component moves where it moves by its own size; default that size.
    """
    if ev.a is not None and np.isfinite(ev.a).all() and not ev.is_autodiff:
        return np.zeros(ev.m.shape, bool)
    blind = np.ones(ev.m.shape, bool)
    with np.errstate(all="ignore"):
        zero, size = norms(ev.m) <= OBVIOUS * norms(ev.m_error), reference(ev, ev.m, apart=False)
        for p in ev.probes:
            s = p.slopes
            if p.directions is None:
                counts, by = size[:, p.at].T, own_size(ev)[p.at][:, None] if moved is None else moved
            else:
                counts, by = norms_along(p.along, ev.m), 1.0
            told = tells(s, must_catch * np.where(zero, s.size / by, counts)) & ~(np.abs(p.project(ev.m)) > s.steepest)
            if p.directions is None:
                blind[:, p.at] &= ~told.T
            else:
                blind &= ~(told.T.astype(float) @ (p.along != 0) > 0)
    return blind


def tells(s: Slopes, enough: np.ndarray) -> np.ndarray:
    """Whether differences are known to `enough`; on a kink they know a range, of which any number may be right."""
    return np.isfinite(s.value) & (s.kink | (BARS * s.error <= enough))


def poor(s: Slopes, must_catch: float) -> np.ndarray:
    """(m,) the outputs whose own differences (D, m) would not tell an error of `must_catch` along some direction."""
    with np.errstate(all="ignore"):
        return ~np.asarray(tells(s, must_catch * np.maximum(np.abs(s.value), FAINT * s.size)).all(axis=0))


def dark(ev: MapEvidence, blind: np.ndarray) -> np.ndarray:
    """(m,) the outputs that are not seen (D, m) together with every leaf of the inputs."""
    if not len(ev.inputs):
        return np.zeros(blind.shape[1], bool)
    moves = np.stack([(ev.directions[:, ev.inputs == k] != 0).any(axis=1) for k in np.unique(ev.inputs)])
    return ~np.asarray(((moves.astype(float) @ (~blind).astype(float)) > 0).all(axis=0))


def partly(finding: Finding, blind: np.ndarray, must_catch: float) -> Finding:
    """The finding on numbers some of which, `blind`, could not be judged: of all, it is no PASS; and in doubt, for a
    closer look may tell more."""
    if finding.verdict is not Verdict.PASS or finding.reason not in KNOWN or not blind.any():
        return finding
    numbers = "outputs" if finding.what == "JVP" else "components"
    which = f"all {numbers}" if blind.all() else f"{int(blind.sum())} of {blind.size} {numbers}"
    said = f"differences alone judge it, and of {which} their bars are too wide to catch an error of {must_catch:.0e}"
    if blind.all():
        return dataclasses.replace(
            finding, verdict=Verdict.INCONCLUSIVE, reason=Reason.VACUOUS, note=said, doubtful=True
        )
    return dataclasses.replace(finding, poor=said, doubtful=True)


def within_kinks(ev: LeafEvidence, must_catch: float) -> bool:
    """Whether some components of a leaf, of which no autodiff speaks, are judged by nothing but wide ranges: all that
    looks at them crosses kinks of many at once, and M lies within the two slopes there, but not in the middle, where it
    is if each component is in the middle of its own. An error of `must_catch` of the leaf in one of them may hide.
    """
    if ev.a is not None or ev.is_autodiff or all(p.directions is None for p in ev.probes):
        return False
    seen = np.zeros(ev.m.shape, bool)
    with np.errstate(all="ignore"):
        for p in ev.probes:
            s = p.slopes
            if p.directions is None:
                seen[:, p.at] |= np.isfinite(s.value).T
                continue
            middle = np.abs(p.project(ev.m) - (s.left + s.right) / 2)
            bars = BARS * (np.maximum(s.left_error, s.right_error) + p.project_error(ev.m_error + ev.m_given))
            hides = bars + np.where(s.kink, middle, 0.0)
            for d, g in np.argwhere(np.isfinite(hides)):
                seen[g] |= hides[d, g] <= must_catch * norms(ev.m[g : g + 1])[0] * np.abs(p.along[d])
    return not seen.all()
