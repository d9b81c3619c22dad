"""Random directions, leaf by leaf, and the scale at which a component may move.

For r = grad - gradtrue and v with independent +-s_i entries, E[(v.r)^2] = sum s_i^2 r_i^2
(Hutchinson 1990, Commun. Stat. Simul. 19(2):433): a few directions estimate the whole leaf's error.
"""

from __future__ import annotations

import zlib

import numpy as np

from jaxcheck.evidence.differences import Ladder
from jaxcheck.theta import Leaf

# Moved by more than 1 / SPAN of its own size, a component is seen at its own scale by the finer half of the
# ladder's steps at most.
SPAN = float(Ladder().steps[Ladder().count // 2] / Ladder().first)
# Least scale in the directions that follow the components' own sizes, relative to the RMS.
PROPORTION = 1e-3
# How far a component that is zero, and has no size of its own, moves at least, relative to the RMS. A choice.
ZERO_MOVES = 1e-2


def component_scale(values: np.ndarray, floor: float) -> np.ndarray:
    """How far each component may move: its own size, at least `floor` of the leaf's RMS; 1 in a zero leaf."""
    size = np.abs(values)
    if not size.size:
        return size
    peak = size.max()
    if not np.isfinite(peak) or peak == 0:
        return np.ones_like(size)
    rms = peak * np.sqrt(np.mean((size / peak) ** 2))
    # A zero component has no size of its own.
    return np.where(size == 0, max(floor, ZERO_MOVES) * rms, np.maximum(size, floor * rms))


def own_scale(values: np.ndarray, floor: float) -> np.ndarray:
    """`component_scale` within each unit: components far below the RMS have an RMS of their own.

    A flat vector of parameters may hold lengths of 1e6 beside rates of 1e-6. Moved by a part of the leaf's
    RMS the small ones would jump over all that the function does. A zero moves with the smallest unit.
    """
    scale = component_scale(values, floor)
    size = np.abs(values)
    rest = (size > 0) & (size < SPAN * scale)
    if not rest.any():
        return scale
    while rest.any():
        scale[rest] = component_scale(values[rest], floor)
        smallest = scale[rest].min()
        rest = rest & (size < SPAN * scale)
    return np.where(size == 0, smallest, scale)


def own_scales(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((n, m) `own_scale` of one leaf at each of n points, its RMS the floor; (n,) where it has several units).

    A leaf of one unit, as most are, has its scales all at once.
    """
    size = np.abs(points)
    with np.errstate(all="ignore"):
        peak = size.max(axis=1, keepdims=True)
        rms = peak * np.sqrt(np.mean((size / peak) ** 2, axis=1, keepdims=True))
        one = np.isfinite(peak[:, 0]) & (peak[:, 0] > 0) & ~((size > 0) & (size < SPAN * rms)).any(axis=1)
    scales, mixed = np.where(size == 0, rms, np.maximum(size, rms)), np.zeros(len(points), bool)
    for i in np.flatnonzero(~one):
        scales[i] = own_scale(points[i], 1.0)
        mixed[i] = len(np.unique(units(points[i]))) > 1
    return scales, mixed


def units(values: np.ndarray, zero: str = "smallest") -> np.ndarray:
    """(n,) the size of the unit that each component has: the RMS of those that are not far below it.

    Args:
        zero: "smallest" or "largest", the unit of components that are zero and show none.
    """
    size = np.abs(values)
    out = np.ones_like(size)
    rest = (size > 0) & np.isfinite(size)
    while rest.any():
        peak = size[rest].max()
        rms = peak * np.sqrt(np.mean((size[rest] / peak) ** 2))
        mine = rest & (size >= SPAN * rms)
        out[mine] = rms
        rest &= ~mine
    shown = out[(size > 0) & np.isfinite(size)]
    if shown.size:
        out[size == 0] = shown.min() if zero == "smallest" else shown.max()
    return out


def _rms(g: np.ndarray) -> np.ndarray:
    """(G,) of (G, n), safe against overflow and underflow."""
    peak = np.abs(g).max(axis=1, initial=0.0)
    safe = np.where(peak > 0, peak, 1.0)
    return safe * np.sqrt(np.mean((g / safe[:, None]) ** 2, axis=1))


def typical(g: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """(G, n) the size to which the rounding of each component is relative: the leaf's RMS, or, where the leaf
    mixes units and that is less, what the most influential unit's RMS is in the component's own unit.

    Args:
        g: (G, n); unit: (n,), see `units`.
    """
    known = np.where(np.isfinite(g), g, 0.0)
    if not known.size:
        return known
    rms = np.broadcast_to(_rms(known)[:, None], known.shape)
    if unit.min() == unit.max():
        return rms
    sizes = np.unique(unit)
    influence = np.max([s * _rms(known[:, unit == s]) for s in sizes], axis=0)
    return np.minimum(rms, influence[:, None] / unit)


def directions(leaf: Leaf, values: np.ndarray, count: int, seed: int, apart: bool = False) -> np.ndarray:
    """(count or more, n) directions on one leaf, n its real length.

    Signs come from the seed and the leaf's path, so that adding a leaf does not change another's. Every
    second direction is scaled by the components themselves (a floor of 1e-3 of the RMS): components
    near the edge of a domain, far smaller than their neighbours, are then moved in proportion. The RMS is
    that of each unit.

    Args:
        apart: move each unit alone as well, where there are several: what the small ones do may be
            nothing beside what the large ones do.
    """
    n = leaf.stop - leaf.start
    rng = np.random.default_rng([seed, zlib.crc32(leaf.path.encode())])
    scales = [own_scale(values, 1.0 if k % 2 == 0 else PROPORTION) for k in range(count)]
    sizes = units(values)
    several = np.unique(sizes)
    if apart and len(several) > 1:
        scales += [np.where(sizes == s, own_scale(values, 1.0), 0.0) for s in several]
    out = np.empty((len(scales), n))
    for k, scale in enumerate(scales):
        out[k] = (2.0 * rng.integers(0, 2, n, dtype=np.int8) - 1) * rng.uniform(0.5, 1.5, n) * scale
    return out
