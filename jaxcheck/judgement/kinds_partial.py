"""Kinds of mistake that concern some entries of a leaf, or where they stand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxcheck.bars import BARS, RATIO, UNITS
from jaxcheck.formula import formula2
from jaxcheck.judgement.side_by_side import View, number

# Shifts that are tried, and entries that a mask must have and leave to say something.
SHIFTS, TELLING = 9, 3


def moved(v: View) -> Iterator[str]:
    """Rolled, reversed, or shifted with zeros coming in."""
    m, t = v.shaped(v.m), v.shaped(v.t)
    for axis in range(1, t.ndim):
        size = t.shape[axis]
        for shift in range(1, min(size, SHIFTS)):
            for signed in (shift, -shift):
                if _close(v, m, np.roll(t, signed, axis)):
                    yield f"rolled by {signed} along axis {axis - 1}"
                    return
                if _close(v, m, _shifted(t, signed, axis)):
                    yield f"shifted by {signed} along axis {axis - 1}, zeros in what is left (one step off?)"
                    return
        if size > 1 and _close(v, m, np.flip(t, axis)):
            yield f"reversed along axis {axis - 1}"
            return


def _close(v: View, m: np.ndarray, guess: np.ndarray) -> bool:
    return formula2(m, guess) < v.close


def _shifted(t: np.ndarray, by: int, axis: int) -> np.ndarray:
    """Moved along an axis, with zeros where nothing comes from."""
    out = np.roll(t, by, axis)
    gone = [slice(None)] * t.ndim
    gone[axis] = slice(0, by) if by > 0 else slice(by, None)
    out[tuple(gone)] = 0
    return out


def permuted(v: View) -> Iterator[str]:
    """The right values in other places: whole lines, or single entries."""
    if v.ev.leaf.is_complex or v.m.shape[1] < 2:
        return
    m, t, wrong = v.shaped(v.m), v.shaped(v.t), _wrong(v)
    for axis in range(1, t.ndim if t.ndim > 2 else 1):
        off = np.asarray(wrong.any(axis=tuple(i for i in range(wrong.ndim) if i != axis - 1)))
        a, b = (np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)[off] for x in (m, t))
        order = [np.lexsort(x.T[::-1]) for x in (a, b)]
        if len(a) > 1 and formula2(a[order[0]], b[order[1]]) < v.close:
            yield f"the right {_lines(v, axis - 1, plural=True)}, in another order (a permutation)"
            return
    # Of those that are wrong: among many values one that is wrong only pushes the others on by next to nothing.
    m, t = m[:, wrong], t[:, wrong]
    if m.shape[1] > 1 and formula2(np.sort(m, axis=1), np.sort(t, axis=1)) < v.close:
        yield "the right values in another order (a permutation)"


def wrong_entries(v: View) -> np.ndarray:
    """(n,) which numbers of a leaf are off by more than their bars, and than the rounding of numbers that are given."""
    rounding = UNITS * v.ev.unit * (np.abs(v.m) + np.abs(v.t).max())
    return np.any(np.abs(v.residual) > BARS * v.bars + rounding + 2 * v.ev.m_given.max(axis=0, initial=0.0), axis=0)


def _wrong(v: View) -> np.ndarray:
    """(*shape) which entries of a leaf are wrong."""
    return v.shaped(wrong_entries(v)[None])[0]


def _lines(v: View, axis: int, plural: bool = False) -> str:
    s = "s" if plural else ""
    if len(v.ev.leaf.shape) == 2:
        return ("row", "column")[axis] + s
    return ("indices" if plural else "index") + f" on axis {axis}"


def summed(v: View) -> Iterator[str]:
    """Summed over an axis that it should have kept."""
    m, t = v.shaped(v.m), v.shaped(v.t)
    for axis in range(1, t.ndim):
        if t.shape[axis] > 1:
            total = t.sum(axis=axis, keepdims=True)
            for name, value in (("summed", total), ("averaged", total / t.shape[axis])):
                if _close(v, m, np.broadcast_to(value, m.shape)):
                    yield f"{name} over axis {axis - 1} and broadcast back"
                    return
            if _close(v, m, np.cumsum(t, axis)) or _close(v, m, np.flip(np.cumsum(np.flip(t, axis), axis), axis)):
                yield f"its running sums along axis {axis - 1}"
                return


def partial(v: View) -> Iterator[str]:
    """Some entries wrong, the rest right: which row, column or entries, and how."""
    m, t, live = map(v.shaped, (v.m, v.t, v.live))
    wrong = _wrong(v)
    count, size = int(wrong.sum()), wrong.size
    if not 0 < count < size:
        return
    how = _how(m, t, wrong, live)
    for axis in range(wrong.ndim):
        rest = tuple(i for i in range(wrong.ndim) if i != axis)
        lines, alive = np.asarray(wrong.any(axis=rest)), live.any(axis=(0, *(i + 1 for i in rest)))
        repeated = _repeated(v, len(lines))
        # Lines that carry no gradient cannot be wrong and are not counted against it.
        # And what was overwritten is another number in each entry: no part of it is right, nor off by one factor.
        whole = wrong.ndim == 1 or (not how and bool((wrong | ~np.expand_dims(lines, rest) | ~live.any(axis=0)).all()))
        if whole and any(np.array_equal(lines, r & alive) for r in repeated) and lines.sum() < alive.sum():
            yield (
                f"wrong are the {_lines(v, axis, plural=True)} that an array of indices holds more than once "
                f"({', '.join(map(str, np.flatnonzero(lines)[:5]))}): not accumulated{how}"
            )
            return
        if count > 1 and wrong.ndim > 1 and len(lines) > 1 and int(lines.sum()) == 1:
            index = int(np.flatnonzero(lines)[0])
            name = _lines(v, axis) + f" {index}" if wrong.ndim == 2 else f"index {index} on axis {axis}"
            yield f"only {name} is wrong ({count} of {size} entries){how}"
            return
    if (t[~live] == 0).all() and bool((wrong >= live.any(axis=0)).all()):
        return
    how += _mask(v, m, t, wrong, np.asarray(live.any(axis=0)))
    are = "is" if count == 1 else "are"
    yield f"{count} of {size} entries {are} wrong, the others are right{how}"


def _how(m: np.ndarray, t: np.ndarray, wrong: np.ndarray, live: np.ndarray) -> str:
    """What the wrong entries have in common, as far as something should stand there."""
    both = wrong[None] & live
    some = int(both.any(axis=0).sum())
    if not some:
        return ""
    off = m[both] / t[both] - 1
    # Of what they are off by: so near to 1 all ratios are alike.
    apart = max(np.hypot(np.ptp(off.real), np.ptp(off.imag)), np.abs(off.imag).max())
    if apart > RATIO * np.abs(off).max():
        return ""
    off = off.real
    all_of_them = some == wrong.sum()
    if m[both].any():
        return f"; ratio {number(1 + float(off.mean()))} {'there' if all_of_them else f'at {some} of them'}"
    return f"; {'it is' if some == 1 and all_of_them else 'they are' if all_of_them else f'{some} of them are'} zero"


def _repeated(v: View, length: int) -> Iterator[np.ndarray]:
    """Which indices of an axis an array of indices holds more than once."""
    for given in v.beside.indices:
        x = np.asarray(given).ravel()
        if x.size and x.min() >= 0 and x.max() < length:
            yield np.bincount(x, minlength=length) > 1


def _mask(v: View, m: np.ndarray, t: np.ndarray, wrong: np.ndarray, live: np.ndarray) -> str:
    """What sets the wrong entries apart."""
    if v.ev.leaf.is_complex:
        return ""
    if np.array_equal(wrong, (m < 0).any(axis=0)) or np.array_equal(wrong, (t < 0).any(axis=0)):
        return " (exactly those with a negative gradient)"
    values = v.ev.values.reshape(wrong.shape)
    masks = (("negative", values < 0), ("positive", values > 0), ("zero", values == 0))
    for name, mask in masks:
        # Where there is no gradient nothing can be wrong.
        if np.array_equal(wrong[live], mask[live]) and min(wrong[live].sum(), (~wrong[live]).sum()) >= TELLING:
            return f" (exactly those whose parameter is {name})"
    return ""
