"""The path that is run: is the gradient in the caller's own dtype what its precision explains? Pure.

Two questions, kept apart. Does the native program compute another formula than the float64 one, but for constants
that were rounded? That is answered in float64, where no rounding blurs it. And is the native run off from its own
formula by more than rounding explains (overflow, underflow)? That is answered by measured round-off, and by
autodiff in the same precision.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxcheck import bars
from jaxcheck.evidence.sketch import typical, units
from jaxcheck.formula import norms
from jaxcheck.result import NAN, Component
from jaxcheck.there import there
from jaxcheck.theta import Leaf


@dataclasses.dataclass(frozen=True, eq=False)
class LeafRun:
    """One leaf of the native run, (G, n) each: `native` as run, `formula` the same program in float64, `wide` what
    was judged in float64; `autodiff` as run and `autodiff_formula` in float64 (None without); bars likewise, and
    what the rounding of constants explains."""

    leaf: Leaf
    values: np.ndarray
    native: np.ndarray
    formula: np.ndarray
    wide: np.ndarray
    least: float  # see `bars.underflow`
    bar: np.ndarray | None = None
    constants: np.ndarray | None = None
    autodiff: np.ndarray | None = None
    autodiff_bar: np.ndarray | None = None
    autodiff_formula: np.ndarray | None = None


def far(x: np.ndarray, y: np.ndarray, values: np.ndarray, part: float, own: float | np.ndarray = 0.0) -> np.ndarray:
    """(G, n) where x differs from y by more than a part of its size and `own`: of each component's or, where that
    is more, its leaf's RMS in its unit. Everywhere if the leaf as a whole does, by norm."""
    allowed = np.maximum(np.abs(y), typical(y, units(values)))
    allowed *= part
    allowed += own
    apart = np.abs(x - y)
    off = ~(apart <= allowed)
    with np.errstate(all="ignore"):
        spare = norms(own) if isinstance(own, np.ndarray) else own * np.sqrt(y.shape[1])
        whole = ~(norms(apart) <= part * norms(y) + spare)
    return off | (whole[:, None] & (x != y)) if whole.any() else off


def explained(bar: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(G, n) what rounding explains of each component: its own bar, and beside it the leaf's RMS of bars."""
    return bar + typical(bar, units(values))


def another_formula(run: LeafRun, reference: np.ndarray | None, spacing: float) -> np.ndarray:
    """(G, n) where the native formula is not the reference (default: what was judged in float64), however its
    constants were rounded."""
    own = 0.0 if run.constants is None else explained(run.constants, run.values)
    wanted = run.wide if reference is None else reference
    return far(run.formula, wanted, run.values, bars.CONSTANTS * spacing, own)


def zeroed(native: np.ndarray, other: np.ndarray, values: np.ndarray, must_catch: float) -> np.ndarray:
    """(G, n) where a run gives 0, or no number, and another a number of some size beside its leaf."""
    size = must_catch * typical(other, units(values))
    return ((native == 0) | ~np.isfinite(native)) & (np.abs(other) > size)


def lost(run: LeafRun, must_catch: float, spacing: float) -> np.ndarray:
    """(G, n) where the native run is off from its formula by more than anybody would call rounding, and more than
    measured round-off explains, once that is known."""
    part = max(must_catch, bars.SPACINGS * spacing)
    zero = zeroed(run.native, run.formula, run.values, must_catch)
    if run.bar is None and run.autodiff_bar is None:
        return far(run.native, run.formula, run.values, part, run.least) | zero
    known = there(run.bar if run.bar is not None else run.autodiff_bar)
    own = bars.ROUNDED * explained(known, run.values) + run.least
    off = far(run.native, run.formula, run.values, part, own) & np.isfinite(known)
    if run.autodiff is None or run.autodiff_formula is None:
        return off
    with np.errstate(all="ignore"):
        beside = own + bars.ROUNDED * explained(there(run.autodiff_bar), run.values)
        off &= far(run.native, run.autodiff, run.values, part, beside)
        # Where autodiff itself is lost in this precision, nobody is to blame.
        sound = ~far(
            run.autodiff,
            run.autodiff_formula,
            run.values,
            part,
            bars.ROUNDED * explained(there(run.autodiff_bar), run.values) + run.least,
        )
        # Of a gradient of which nothing is left, by more than its rounding explains as far as that is known, autodiff
        # keeps nearly all as run: then no precision is to blame. One that is zero but for rounding was not there to be
        # lost: what float64 may leave of it is the measured bar in units of that (none where to round otherwise
        # overflows).
        beyond = np.nan_to_num(norms(known), nan=0.0, posinf=0.0) * np.finfo(np.float64).eps / spacing
        real = norms(run.formula) > bars.ROUNDED * beyond
        gone = real & ~(norms(run.native - run.formula) <= bars.NOTHING_LEFT * norms(run.formula))
        gone &= ~(np.isfinite(known).all(axis=1) & (norms(run.native - run.formula) <= bars.ROUNDED * norms(known)))
        loses = norms(run.autodiff - run.autodiff_formula)
        kept = loses <= max(part, bars.NEARLY_ALL) * norms(run.autodiff_formula)
        sound |= (gone & kept)[:, None]
        off |= (gone & kept)[:, None] & (run.native != run.formula)
        # The same of single components that are 0 as run, and more than their own rounding.
        alone = zero & ~(np.abs(run.formula) <= bars.ROUNDED * np.where(np.isfinite(known), known, 0.0))
        alone &= np.abs(run.autodiff - run.autodiff_formula) <= bars.NEARLY_ALL * np.abs(run.autodiff_formula)
        off, sound = off | alone, sound | alone
    return off & sound


def apart(run: LeafRun, must_catch: float, spacing: float) -> np.ndarray:
    """(G, n) where the native run is off from autodiff, as run, by more than `lost` lets pass, and by more than the
    bars explain as far as they are known."""
    own = run.least
    if run.bar is not None and run.autodiff_bar is not None:
        own = own + bars.ROUNDED * (explained(run.bar, run.values) + explained(run.autodiff_bar, run.values))
    autodiff = there(run.autodiff)
    # A bias before a normalisation has a gradient of rounding alone, and that may be 0.
    zero = zeroed(run.native, autodiff, run.values, must_catch) & ~(np.abs(autodiff) <= own)
    return far(run.native, autodiff, run.values, max(must_catch, bars.SPACINGS * spacing), own) | zero


def gone(run: LeafRun, error: np.ndarray) -> bool:
    """Whether nothing is left of a gradient that is more than its own rounding in float64, `error`: of no output, where
    there are several. A cotangent may weigh one that is next to nothing beside the others."""
    with np.errstate(all="ignore"):
        real = norms(run.formula) > bars.ROUNDED * norms(error)
        lost = norms(run.native - run.formula) > bars.NOTHING_LEFT * norms(run.formula)
        return bool(real.any() and lost[real].all())


def said(run: LeafRun, where: np.ndarray, reference: np.ndarray | None = None) -> str:
    """The numbers of all that spoke, at the component that is off most.

    Args:
        reference: what the formula should be, where it is the formula that is wrong.
    """
    column, flat = worst(run, where)
    at = _entries(run, column, flat)
    dtype = run.leaf.native
    what = "another formula is run" if reference is not None else "more is lost than rounding explains"
    text = (
        f"right in float64, but in {dtype} {what}: {name(run.leaf, flat)} is {at['native']:.7g} as run, "
        f"{at['wide']:.7g} in float64"
    )
    if run.autodiff is not None:
        text += f", and {at['autodiff']:.7g} by autodiff in {dtype}"
    if reference is not None:
        explains = _off(run, run.formula, reference, there(run.constants), column, flat)
        return f"{text}; before any rounding {explains} explain"
    bar = there(run.bar if run.bar is not None else run.autodiff_bar)
    return f"{text}; {_off(run, run.native, run.formula, bar, column, flat)} explains"


def _off(run: LeafRun, x: np.ndarray, y: np.ndarray, bar: np.ndarray, column: int, flat: int) -> str:
    """How far one component is off, and how much of that is explained."""
    known = float(explained(bar, run.values)[column, flat])
    whose = "rounded constants" if bar is run.constants else "rounding"
    return f"it is off by {abs(float(x[column, flat] - y[column, flat])):.2g}, of which {known:.1g} is what {whose}"


def worst(run: LeafRun, where: np.ndarray) -> tuple[int, int]:
    """(column, real component) that is off most, relative to its size."""
    size = np.maximum(np.abs(run.wide), typical(run.wide, units(run.values)))
    with np.errstate(all="ignore"):
        off = np.where(where, np.abs(run.native - run.wide) / np.where(size > 0, size, 1), -1.0)
    off = np.where(np.isnan(off), np.inf, off)
    column, flat = np.unravel_index(int(np.argmax(off)), off.shape)
    return int(column), int(flat)


def components(run: LeafRun, where: np.ndarray, numeric, count: int = 5) -> tuple[Component, ...]:
    """The components that are off most: M and A as run, N, and M in float64 in the note.

    Args:
        numeric: (column, real component) -> (N, its bar).
    """
    size = run.leaf.size
    column, _ = worst(run, where)
    off = np.where(where[column], np.abs(run.native[column] - run.wide[column]), 0.0)
    off = np.where(np.isnan(off), np.inf, off)
    off = np.maximum(off[:size], off[size:]) if run.leaf.is_complex else off
    found = []
    for flat in np.argsort(-off, kind="stable")[:count]:
        if not off[flat] > 0:
            continue
        at = _entries(run, column, int(flat))
        n, error = numeric(column, int(flat))
        if run.leaf.is_complex:
            imaginary, other = numeric(column, int(flat) + size)
            n, error = complex(n, -imaginary), math.hypot(error, other)
        parameter = run.values[flat] if not run.leaf.is_complex else complex(run.values[flat], run.values[flat + size])
        found.append(
            Component(
                path=run.leaf.path,
                index=_index(run.leaf, int(flat)),
                parameter=_number(parameter),
                manual=at["native"],
                numeric=n,
                numeric_error=error,
                autodiff=at["autodiff"],
                note=f"M and A as run in {run.leaf.native}; M in float64: {at['wide']:.7g}",
            )
        )
    return tuple(found)


def name(leaf: Leaf, flat: int) -> str:
    index = _index(leaf, flat)
    return leaf.path + (f"[{','.join(map(str, index))}]" if index else "")


def _index(leaf: Leaf, flat: int) -> tuple[int, ...]:
    flat = flat % leaf.size
    return tuple(int(i) for i in np.unravel_index(flat, leaf.shape)) if leaf.shape else ()


def _entries(run: LeafRun, column: int, flat: int) -> dict[str, complex]:
    """M as run, M in float64 and A as run of one component, in the caller's convention."""
    size = run.leaf.size
    flat = flat % size

    def entry(g):
        if g is None:
            return NAN
        return complex(g[column, flat], -g[column, flat + size]) if run.leaf.is_complex else float(g[column, flat])

    return {"native": entry(run.native), "wide": entry(run.wide), "autodiff": entry(run.autodiff)}


def _number(x):
    return complex(x) if isinstance(x, complex) else float(x)
