"""What kind of mistake: match the wrong gradient against the classic errors of hand-written backprop.

A hint is stated with its evidence, and only where it explains the leaf to `EXPLAINS` of its norm; or about all of the
error, with a bar, where nothing explains it whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxcheck.bars import ABOUT, BARS, EXPLAINS, FITS, MOST_OF_IT, RATIO, READABLE
from jaxcheck.evidence.measured import LeafEvidence, Probes
from jaxcheck.formula import norm2
from jaxcheck.judgement import kinds, kinds_partial
from jaxcheck.judgement.measures import nearest
from jaxcheck.judgement.ranges import ranges
from jaxcheck.judgement.side_by_side import View
from jaxcheck.problem.beside import Beside


def truth(ev: LeafEvidence) -> np.ndarray | None:
    """The reference gradient (G, n): autodiff, unless the differences speak against it; or the differences
    when every component was looked at, and so sharply that a ratio can be read off them. On a kink, of what is right
    there what is nearest."""
    found = _truth(ev)
    return None if found is None else found[0]


def _truth(ev: LeafEvidence) -> tuple[np.ndarray, np.ndarray] | None:
    """(the reference gradient, the bars of what M is off from it), (G, n)."""
    if ev.a is not None and np.isfinite(ev.a).all() and _unopposed(ev, ev.a):
        kink = ranges(ev)
        t = np.where(np.isfinite(kink.low), np.clip(ev.m, kink.low, kink.high), ev.a)
        return t, ev.m_error + (0.0 if ev.a_error is None else ev.a_error)
    for probes in ev.probes:
        if probes.directions is None and len(probes.at) == ev.m.shape[1]:
            n, error = np.empty_like(ev.m), np.empty_like(ev.m)
            n[:, probes.at], error[:, probes.at] = nearest(probes, ev.m).T, probes.slopes.error.T
            sharp = norm2(error) <= READABLE * EXPLAINS * norm2(n)
            return (n, ev.m_error + error) if np.isfinite(n).all() and sharp else None
    return None


def _unopposed(ev: LeafEvidence, claim: np.ndarray) -> bool:
    """Whether no smooth difference contradicts a claim grossly."""
    for probes in ev.probes:
        s = probes.slopes
        with np.errstate(all="ignore"):
            off = np.abs(probes.project(claim) - s.value)
            far = off > BARS * s.error + FITS * np.abs(s.value)
            if (far & ~s.kink & ~s.jump & np.isfinite(s.error)).any():
                return False
    return True


# In tiers: what a later one says follows from what an earlier one said, or is more often true by chance.
TIERS: tuple[tuple[Callable[[View], Iterator[str]], ...], ...] = (
    (kinds.zero,),
    (kinds.ratio,),
    (kinds.of_complex, kinds.turned, kinds.swapped, kinds_partial.moved, kinds.proportional),
    (kinds.elementwise, kinds_partial.permuted, kinds_partial.summed),
    (kinds.rounded,),
    (kinds_partial.partial,),
)
TOGETHER = "each entry is right by itself, but not all together: they share a kink (a tie)"
OUTSIDE = "on a kink: not between the slopes of its two sides"
# Entries from which on a factor that fits is no accident.
ENOUGH = 8


@np.errstate(all="ignore")  # what overflows fits nothing
def hint(ev: LeafEvidence, others: Sequence[LeafEvidence] = (), beside: Beside | None = None) -> str:
    """What kind of mistake is in this leaf, three statements at most, or "".

    Args:
        others: the other leaves, to spot swapped ones.
        beside: dimensions, indices and outputs, to name a ratio and what is wrong.
    """
    beside = beside or Beside()
    found = _truth(ev)
    if found is None:
        return sampled(ev)
    t, bars = found
    if not np.isfinite(ev.m).all() or not t.any():
        return ""
    known = [(other, theirs) for other in others if (theirs := truth(other)) is not None]
    v, only = _of_wrong_outputs(View(ev, ev.m, t, bars, known, beside))
    on_kinks = _on_kinks(v)
    if on_kinks is not None:
        return ": ".join(filter(None, (only, on_kinks)))
    for tier in TIERS:
        said = [sentence for kind in tier for sentence in kind(v)]
        if said:
            return ": ".join(filter(None, (only, "; or ".join(said[:3]))))
    return ": ".join(filter(None, (only, _about(v))))


def _on_kinks(v: View) -> str | None:
    """What to say where all that is wrong stands on kinks, or nothing is wrong by itself; None where that is not so."""
    if not any(p.slopes.kink.any() for p in v.ev.probes):
        return None
    wrong = kinds_partial.wrong_entries(v)
    if not wrong.any():
        return TOGETHER
    kink = np.isfinite(ranges(v.ev).low).any(axis=0)
    return OUTSIDE if v.m.any() and bool((kink | ~wrong).all()) else None


def sampled(ev: LeafEvidence) -> str:
    """What single components say of a leaf that only they, and random directions, were looked at of."""
    n, error = np.full(ev.m.shape[1], np.nan), np.full(ev.m.shape[1], np.inf)
    if len(ev.m) > 1 or ev.leaf.is_complex:
        return ""
    for p in ev.probes:
        if p.directions is None:
            closer = p.slopes.error[:, 0] < error[p.at]
            n[p.at[closer]], error[p.at[closer]] = p.slopes.value[closer, 0], p.slopes.error[closer, 0]
    known = np.flatnonzero(error <= RATIO * np.abs(n))
    off = np.where(np.isfinite(n), ev.m[0] - n, 0.0)
    wrong = known[np.abs(off[known]) > BARS * error[known] + FITS * np.abs(n[known])]
    if not wrong.size:
        return ""
    ratios = ev.m[0, wrong] / n[wrong]
    alike = np.ptp(ratios) <= RATIO * np.abs(ratios - 1).max() + 2 * BARS * np.max(error[wrong] / np.abs(n[wrong]))
    dense, every = [p for p in ev.probes if p.directions is not None], len(wrong) == ev.m.shape[1]
    if all(_explained(p, ev, off) for p in dense):
        named = [f"[{','.join(map(str, np.unravel_index(i, ev.leaf.shape)))}]" for i in wrong[:5]]
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        alone = all(_nothing_else(p, ev, off) for p in dense) if dense else _all_others_right(wrong, off, error)
        how = "" if not alike else f": ratio {kinds.number(float(ratios.mean()))}" if ratios.any() else ": zero there"
        if every:
            return f"all {len(wrong)} components are wrong{how}"
        those = f"{', '.join(named)}{more} {'is' if len(wrong) == 1 else 'are'} wrong"
        if alone and 2 * len(wrong) <= ev.m.shape[1]:
            return f"of {ev.m.shape[1]} components only {those}, as far as directions see{how}"
        return f"of {ev.m.shape[1]} components at least {those}{how}"
    if alike and len(wrong) == len(known) >= ENOUGH:
        if not ratios.any():
            return f"zero at all {len(wrong)} components that were looked at, where it should not be"
        return f"ratio {kinds.number(float(ratios.mean()))} at all {len(wrong)} components that were looked at"
    return ""


def _explained(p: Probes, ev: LeafEvidence, off: np.ndarray) -> bool:
    """Whether directions see what components are off by, and nothing else."""
    with np.errstate(all="ignore"):
        left = np.abs(p.project(ev.m - off[None]) - p.slopes.value)
        return bool((left <= BARS * (p.slopes.error + p.project_error(ev.m_error))).all())


def _nothing_else(p: Probes, ev: LeafEvidence, off: np.ndarray) -> bool:
    """Whether directions would see it if what components are off by were not nearly all of the error."""
    with np.errstate(all="ignore"):
        bars = BARS * (p.slopes.error + p.project_error(ev.m_error))
        return bool((np.sqrt(np.sum(bars**2)) <= MOST_OF_IT * np.sqrt(np.sum(p.project(off[None]) ** 2))).all())


def _all_others_right(wrong: np.ndarray, off: np.ndarray, error: np.ndarray) -> bool:
    """The same where every component was looked at by itself."""
    others = np.setdiff1d(np.arange(len(off)), wrong)
    left = norm2(off[others]) + BARS * norm2(error[others])
    return bool(left <= MOST_OF_IT * norm2(off[wrong]))


def _of_wrong_outputs(v: View) -> tuple[View, str]:
    """(the view of the cotangents of the one output that is pulled back wrong, where others are right; a sentence on
    that, or "")."""
    outputs = np.array(v.beside.columns)
    if len(outputs) != len(v.m) or len(set(outputs[outputs >= 0])) < 2:
        return v, ""
    wrong = np.array([kinds.formula2(m, t) > EXPLAINS for m, t in zip(v.m, v.t, strict=True)])
    bad = {int(k) for k in outputs[wrong] if k >= 0}
    if len(bad) != 1 or not (~wrong[outputs >= 0]).any():
        return v, ""
    (k,) = bad
    mine = outputs == k
    only = f"only for the cotangent of output {k} (they count from 0)"
    if not v.t[mine].any():
        return v, f"{only}, which it does not depend on"
    others = [(ev, t[mine]) for ev, t in v.others]
    return View(v.ev, v.m[mine], v.t[mine], v.bars[mine], others, v.beside), only


def _about(v: View) -> str:
    """A plain factor that explains most of the error, with its bar."""
    if v.m.size < ENOUGH:
        return ""
    r = kinds.ratio_of(v.m, v.t)
    rest = v.m - r * v.t
    left = float(norm2(rest) / norm2(v.residual))
    bar = float(norm2(rest) / norm2(v.t) / np.sqrt(v.m.size - 1))
    if left > MOST_OF_IT or not bar <= ABOUT * abs(r) or v.live.sum() < ENOUGH:
        return ""
    plain = [x for size in {2, v.beside.batch} if size > 1 for x in (float(size), 1 / size)]
    for x in (*plain, *(-x for x in plain), -1.0):
        if abs(r - x) <= 2 * bar:
            meant = kinds.meaning(x, v.beside)
            return f"ratio about {kinds.number(x)} ({r:.4g}, bar {bar:.1g}){meant}: {1 - left:.0%} of the error"
    return ""
