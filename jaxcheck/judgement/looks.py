"""What one set of differences says of the claims M and A, number by number. Pure: no program is run here.

A claim agrees with a difference when it lies within `BARS` error bars plus the tolerance, and contradicts it otherwise;
a difference whose bar is wider than the quantity says nothing. NaN agrees with nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import ALIKE, BARS, GROSS, SCATTER, SCATTER_ON_KINK, UNITS
from jaxcheck.evidence.measured import LeafEvidence, Probes
from jaxcheck.formula import norms, norms_along
from jaxcheck.judgement import ranges
from jaxcheck.judgement.measures import coarse, reference
from jaxcheck.options import Tolerance
from jaxcheck.there import there


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """One set of differences beside the claims, arrays (D, G): directions and columns.

    Attributes:
        usable: the difference may judge M.
        contradicts_m, contradicts_a: it contradicts the claim.
        gross: it contradicts M by far more than its bar may be off by.
        excused, excused_a: the function's visible roughness explains the distance to the claim.
        slack: what the claim may be off by.
        coarse: several larger steps confirm M, see `measures.coarse`.
        kink: the one-sided slopes differ, and the difference may judge.
        noisy: the values scatter far above their rounding.
        filled: the component has one slope, alike on both sides of a decision that falls at the point, which is that of
            the pieces there; and the claim, which contradicts it grossly, is what autodiff makes of the formula that is
            taken at the point alone.
    """

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
    filled: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), bool))


def look(ev: LeafEvidence, probes: Probes, m: np.ndarray, a: np.ndarray | None, tolerance: Tolerance) -> Look:
    s = probes.slopes
    pm = probes.project(m)
    pm_error = probes.project_error(round_off(ev, ev.m_error) + ev.m_given)
    largest = np.abs(m) if a is None else np.maximum(np.abs(m), np.abs(a))
    if probes.directions is None:
        scale = reference(ev, largest)[:, probes.at].T
    else:
        scale = norms_along(probes.along, largest)
    slack = tolerance.bound * scale + tolerance.atol
    usable = np.isfinite(s.value) & np.isfinite(s.error) & ~s.jump
    low = np.minimum(s.left - BARS * s.left_error, s.right - BARS * s.right_error) - slack
    high = np.maximum(s.left + BARS * s.left_error, s.right + BARS * s.right_error) + slack

    def contradicts(claim: np.ndarray, claim_error: np.ndarray) -> np.ndarray:
        off = ~(np.abs(claim - s.value) <= BARS * (s.error + claim_error) + slack)
        outside = ~((low - claim_error <= claim) & (claim <= high + claim_error))
        return usable & ~(np.abs(claim) > s.steepest) & np.where(s.kink, outside, off)

    def excuses(claim: np.ndarray) -> np.ndarray:
        return np.abs(claim - s.value) <= BARS * s.rough + slack

    off_m, excused = contradicts(pm, pm_error), excuses(pm)
    off_a, excused_a = np.zeros_like(off_m), excused
    if a is not None:
        pa = probes.project(a)
        off_a, excused_a = contradicts(pa, probes.project_error(round_off(ev, there(ev.a_error)))), excuses(pa)
    distance = np.where(s.kink, np.maximum(low - pm, pm - high), np.abs(pm - s.value))
    gross = off_m & ~(distance <= np.maximum(4 * BARS * s.error, GROSS * scale))
    usable &= ~(np.abs(pm) > s.steepest)
    allowed, kink = slack + BARS * (s.error + pm_error), s.kink & usable
    return Look(usable, off_m, off_a, gross, excused, excused_a, allowed, coarse(s, pm, scale), kink, s.noisy)


def on_kinks(
    ev: LeafEvidence, looks: list[Look], m: np.ndarray, a: np.ndarray | None, tolerance: Tolerance
) -> tuple[list[Look], np.ndarray]:
    """What the looks say where kinks meet: no single slope of a component whose range is known from the pieces, nor
    of directions across kinks once that of the components is, nor of those along which independent ones cancel. And
    (G, n) the components on a kink whose gradient lies in their range."""
    explained = np.zeros(m.shape, bool)
    for probes, one in zip(ev.probes, looks, strict=True):
        if probes.directions is None:
            explained[:, probes.at] |= (one.kink & ~one.contradicts_m).T
    if ev.pieces is None and all(p.directions is not None for p in ev.probes):
        return looks, explained
    found = ranges.ranges(ev)
    slack = BARS * (round_off(ev, ev.m_error) + ev.m_given)
    slack = slack + tolerance.bound * reference(ev, np.abs(m)) + tolerance.atol
    free = np.zeros(m.shape, bool) if ev.pieces is None else ev.pieces[2]
    # Autodiff's own choice may be none of the pieces' (of many kinks at once): it alone is excused beside them, and not
    # what lies between; but where all pieces are one, it is another than the function's slope, and that is said.
    own = a if a is not None else ev.m if ev.is_autodiff else np.full(m.shape, np.nan)
    choice = np.abs(m - own) <= slack + ALIKE * np.abs(own)
    inside = found.holds(m, slack)
    held, filled = [free & (inside | choice), free], free & choice & ~inside
    explained = explained | held[0]
    out = []
    for p, one in zip(ev.probes, looks, strict=True):
        if p.directions is None:
            cleared, usable = [h[:, p.at].T for h in held], one.usable
            one = dataclasses.replace(one, filled=one.gross & _between(p, m, found, filled, ev.alone))
        else:
            claims = ((m, explained), (m if a is None else a, ~np.isnan(found.low)))
            cleared = [one.kink | ranges.reached(p, claim, on, found, one.slack) for claim, on in claims]
            usable = one.usable & ~one.kink
            if ev.alone:  # each component's slopes are those of the pieces, whichever way all go
                one = dataclasses.replace(one, filled=np.tile(_alike(m, found, filled), (len(one.kink), 1)))
        out.append(
            dataclasses.replace(
                one,
                usable=usable,
                contradicts_m=one.contradicts_m & ~cleared[0],
                contradicts_a=one.contradicts_a & ~cleared[1],
            )
        )
    return out, explained


def _between(probes: Probes, m: np.ndarray, found: ranges.Ranges, those: np.ndarray, alone: bool) -> np.ndarray:
    """(D, G) which of `those` components lie between pieces that are one and the same: their gradients are nearer to
    the slope than to the claim, and differ by less than these two do: in that component, where each decides `alone`,
    else in any, of which a decision that is shared may be (of a median, one component's slopes say nothing). Where
    such pieces differ by less than the claim is outside of them, they are as one beside it (a relu less a part of
    another, as a leaky one is written, has its choice nearer than that)."""
    low, high, claim, those = (x[:, probes.at].T for x in (found.low, found.high, m, those))
    with np.errstate(all="ignore"):
        off = np.abs(claim - probes.slopes.value)
        near = [np.abs(x - probes.slopes.value) < np.abs(x - claim) for x in (low, high)]
        spread = found.high - found.low
        most = spread[:, probes.at].T if alone else np.fmax.reduce(spread, axis=1, initial=0.0)
        smooth = ~probes.slopes.kink & near[0] & near[1] & (most < off)
        return those & (smooth | (alone & probes.slopes.kink & (np.maximum(low - claim, claim - high) > most)))


def _alike(m: np.ndarray, found: ranges.Ranges, those: np.ndarray) -> np.ndarray:
    """(G,) whether `those` components that are further from their pieces than these are from each other are more than
    so small a part of the leaf that nobody is asked about it."""
    with np.errstate(all="ignore"):
        off = np.maximum(found.low - m, m - found.high)
        off = np.where(those & (found.high - found.low < off), off, 0.0)
        return norms(off) > GROSS * norms(m)


def count(ev: LeafEvidence, looks: list[Look]) -> int:
    """Components on a kink, or, where none was found alone, directions across one."""
    found: np.ndarray = np.zeros(ev.m.shape[1], bool) if ev.pieces is None else np.asarray(ev.pieces[2].any(axis=0))
    for p, one in zip(ev.probes, looks, strict=True):
        if p.directions is None:
            found[p.at] |= one.kink.any(axis=1)
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
    return np.minimum(scatter, cap * ev.typical)
