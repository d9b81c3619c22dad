"""What kind of mistake: match the wrong gradient against the classic errors of hand-written backprop.

A hint is stated with its evidence and only where it explains the leaf to `EXPLAINS` of its norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcheck.bars import BARS, ENTRY, EXPLAINS, FITS, LEAVES, NEXT_TO_NOTHING, RATIO, READABLE
from jaxcheck.evidence.problem import LeafEvidence
from jaxcheck.result import formula2


def truth(ev: LeafEvidence) -> np.ndarray | None:
    """The reference gradient (G, n): autodiff, unless the differences speak against it; or the differences
    when every component was looked at, and so sharply that a ratio can be read off them."""
    n = _differences(ev)
    if ev.a is not None and np.isfinite(ev.a).all() and _unopposed(ev, ev.a):
        return ev.a
    return n


def _differences(ev: LeafEvidence) -> np.ndarray | None:
    for probes in ev.probes:
        if probes.directions is None and len(probes.at) == ev.m.shape[1]:
            n, error = np.empty_like(ev.m), np.empty_like(ev.m)
            n[:, probes.at], error[:, probes.at] = probes.slopes.value.T, probes.slopes.error.T
            sharp = np.linalg.norm(error) <= READABLE * EXPLAINS * np.linalg.norm(n)
            return n if np.isfinite(n).all() and sharp else None
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


def hint(ev: LeafEvidence, others: Sequence[LeafEvidence] = (), sizes: Sequence[int] = ()) -> str:
    """One sentence on the kind of mistake in this leaf, or "".

    Args:
        others: the other leaves, to spot swapped ones.
        sizes: known dimensions (batch size, leaf dimensions), to name a ratio.
    """
    t = truth(ev)
    if t is None or not np.isfinite(ev.m).all() or not t.any():
        return ""
    m, leaf = ev.m, ev.leaf
    if not m.any():
        # On a kink it may be a choice.
        kinked = any(p.slopes.kink.any() for p in ev.probes)
        return "the gradient is exactly zero" + ("" if kinked else " (stop_gradient, or never accumulated)")
    live = np.abs(t) > ENTRY * np.abs(t).max()
    ratio = _ratio(m, t)
    # A small error is close to many guesses; one that explains it leaves little of it.
    close = min(EXPLAINS, LEAVES * formula2(m, t))
    if formula2(m, ratio * t) < close:
        return f"ratio {_number(ratio)} on {_entries(m, ratio * t, live, leaf)}{_meaning(ratio, sizes)}"
    if leaf.is_complex:
        half = leaf.size
        if formula2(np.concatenate([m[:, :half], -m[:, half:]], axis=1), t) < close:
            return "conjugated: JAX's gradient of a complex parameter is dJ/dx - i dJ/dy (torch's is its conjugate)"
    residual = m - t
    shaped = [x.reshape(-1, *leaf.shape) for x in (m, t, residual)] if not leaf.is_complex else None
    if shaped is not None and len(leaf.shape) >= 2:
        found = _transposed(shaped[0], shaped[1], close)
        if found:
            return found
    for other in others:
        if other.m.shape == m.shape and other.leaf.shape == leaf.shape and other.leaf.path != leaf.path:
            theirs = truth(other)
            if theirs is not None and formula2(m, theirs) < close:
                return f"this is the gradient of leaf `{other.leaf.path}` (swapped)"
    if ev.values.any():
        coefficient = float((residual @ ev.values).sum() / (ev.values @ ev.values) / len(residual))
        if coefficient and formula2(residual, np.broadcast_to(coefficient * ev.values, residual.shape)) < RATIO:
            kind = "missing" if coefficient < 0 else "extra"
            where = _entries(residual, coefficient * ev.values[None], np.abs(ev.values)[None] > 0, leaf)
            return f"{kind} term {_number(abs(coefficient))} x parameter on {where} (regularisation)"
    if shaped is not None:
        mine, true, rest = shaped
        return _partial(mine, true, rest, live.reshape(-1, *leaf.shape)) or _moved(m, t, shaped, close) or ""
    return ""


def _entries(found: np.ndarray, explained: np.ndarray, live: np.ndarray, leaf) -> str:
    """On how many entries of the leaf an explanation holds, of those where it says something (`live`).

    Entries of the caller's leaf are counted: not once per cotangent, not twice for a complex number.
    """
    with np.errstate(all="ignore"):
        holds = np.abs(found - explained) <= FITS * np.abs(explained)
    live = np.broadcast_to(live, found.shape)
    some, every = np.asarray(live.any(axis=0)), np.asarray((holds | ~live).all(axis=0))
    if leaf.is_complex:
        some, every = some[: leaf.size] | some[leaf.size :], every[: leaf.size] & every[leaf.size :]
    count, total = int((some & every).sum()), int(some.sum())
    if leaf.size == 1:
        return "its one entry"
    if count < total:
        return f"{count} of {leaf.size} entries"
    return f"all {total} entries" + ("" if total == leaf.size else f" that are not near zero, of {leaf.size}")


def _ratio(m: np.ndarray, t: np.ndarray) -> float:
    peak = np.abs(t).max()
    return float(((m / peak) * (t / peak)).sum() / ((t / peak) ** 2).sum())


def _number(x: float) -> str:
    if 0 < abs(x - 1) < FITS:
        return f"1{x - 1:+.2g}"
    return f"{x:.4g}" if abs(x - round(x)) > ENTRY or x == 0 else f"{x:.3f}"


def _meaning(ratio: float, sizes: Sequence[int]) -> str:
    def near(x):
        return abs(ratio - x) <= RATIO * abs(x)

    if near(-1):
        return " (sign flipped)"
    for size in sorted({int(s) for s in sizes if s > 2}):
        for text, value in ((f"{size}", size), (f"1/{size}", 1 / size)):
            if near(value):
                return f" (= {text}, and a dimension here has size {size}: sum against mean?)"
        for text, value in ((f"sqrt({size})", size**0.5), (f"1/sqrt({size})", size**-0.5)):
            if near(value) and not float(size**0.5).is_integer():
                return f" (= {text}, and a dimension here has size {size})"
    return ""


def _transposed(m: np.ndarray, t: np.ndarray, close: float) -> str:
    rows, columns = t.shape[-2:]
    if rows > 1 and columns > 1:
        if rows == columns and formula2(m, np.swapaxes(t, -1, -2)) < close:
            return "transposed"
        if formula2(m.reshape(m.shape[0], -1), np.swapaxes(t, -1, -2).reshape(m.shape[0], -1)) < close:
            return "transposed before the reshape"
    return ""


def _partial(m: np.ndarray, t: np.ndarray, residual: np.ndarray, live: np.ndarray) -> str:
    """Some entries wrong, the rest right: which row, column or entries, and how."""
    scale = np.abs(t).max()
    wrong = (np.abs(residual) > ENTRY * np.maximum(np.abs(t), np.abs(m)) + NEXT_TO_NOTHING * scale).any(axis=0)
    count, size = int(wrong.sum()), wrong.size
    if not 0 < count < size:
        return ""
    how = ""
    both = wrong[None] & live
    if both.any():
        ratios = m[both] / t[both]
        if np.ptp(ratios) <= RATIO * np.abs(ratios).max():
            how = "; they are zero" if not m[both].any() else f"; ratio {_number(float(ratios.mean()))} there"
    for axis in range(wrong.ndim):
        rest = tuple(i for i in range(wrong.ndim) if i != axis)
        lines = wrong.any(axis=rest)
        # Entries of the line that carry no gradient cannot be wrong and are not counted against it.
        if wrong.ndim > 1 and int(lines.sum()) == 1:
            index = int(np.flatnonzero(lines)[0])
            name = ("row", "column")[axis] if wrong.ndim == 2 else f"index on axis {axis}"
            return f"only {name} {index} is wrong ({count} of {size} entries){how}"
    if (t[~live] == 0).all() and bool((wrong >= live.any(axis=0)).all()):
        return ""
    if np.array_equal(wrong, (m < 0).any(axis=0)) or np.array_equal(wrong, (t < 0).any(axis=0)):
        how += " (exactly those with a negative gradient)"
    return f"{count} of {size} entries are wrong, the others are right{how}"


def _moved(m: np.ndarray, t: np.ndarray, shaped, close: float) -> str:
    sm, st = shaped[:2]
    for axis in range(1, st.ndim):
        for shift in range(1, min(st.shape[axis], 9)):
            for signed in (shift, -shift):
                if formula2(sm, np.roll(st, signed, axis)) < close:
                    return f"rolled by {signed} along axis {axis - 1}"
        if st.shape[axis] > 1 and formula2(sm, np.flip(st, axis)) < close:
            return f"reversed along axis {axis - 1}"
    if m.shape[1] > 1 and formula2(np.sort(m, axis=1), np.sort(t, axis=1)) < close:
        return "the right values in another order (a permutation)"
    for axis in range(1, st.ndim):
        if st.shape[axis] > 1:
            total = st.sum(axis=axis, keepdims=True)
            for name, value in (("summed", total), ("averaged", total / st.shape[axis])):
                if formula2(sm, np.broadcast_to(value, sm.shape)) < close:
                    return f"{name} over axis {axis - 1} and broadcast back"
    return ""
