"""Random directions, leaf by leaf, and the scale at which a component may move.

For r = grad - gradtrue and v with independent +-s_i entries, E[(v.r)^2] = sum s_i^2 r_i^2
(Hutchinson 1990, Commun. Stat. Simul. 19(2):433): a few directions estimate the whole leaf's error.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib

import numpy as np

from jaxcheck.budget import current
from jaxcheck.evidence.differences import Ladder
from jaxcheck.formula import norm2, norms
from jaxcheck.problem.scale import component_scale
from jaxcheck.there import there
from jaxcheck.theta import Leaf

# Moved by more than 1 / SPAN of its own size, a component is seen at its own scale by the finer half of the
# ladder's steps at most.
SPAN = float(Ladder().steps[Ladder().count // 2] / Ladder().first)
# Directions that are drawn before the clock is asked again: some hundredths of a second's worth. A choice.
OFTEN = 1024
# Least scale in the directions that follow the components' own sizes, relative to the RMS.
PROPORTION = 1e-3


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
        mixed[i] = len(units(points[i]).levels) > 1
    return scales, mixed


@dataclasses.dataclass(frozen=True, eq=False)
class Units:
    """The units of a leaf's components, told apart by their sizes.

    Attributes:
        sizes: (n,) the size of each component's unit: the RMS of those that are not far below it. Not to be written to.
        levels: (size, indices of the components of this unit and of all smaller ones; None where that is all), the
            largest first.
    """

    sizes: np.ndarray
    levels: tuple[tuple[float, np.ndarray | None], ...]

    @functools.cached_property
    def members(self) -> tuple[np.ndarray, ...]:
        """The components of each unit."""
        return tuple(np.flatnonzero(self.sizes == size) for size, _ in self.levels)


def units(values: np.ndarray, zero: str = "smallest") -> Units:
    """The unit that each component has.

    Args:
        zero: "smallest" or "largest", the unit of components that are zero and show none.
    """
    size = np.abs(values)
    if size.size and not np.isfinite(size.max()):
        size = np.where(np.isfinite(size), size, 0.0)  # such have no size either
    levels: list[tuple[float, np.ndarray | None]] = []
    left, within = size, None
    while left.any():
        rms = float(norm2(left) / np.sqrt(np.count_nonzero(left)))
        levels.append((rms, within))
        below = np.flatnonzero(left < SPAN * rms if zero == "smallest" else (left > 0) & (left < SPAN * rms))
        left, within = left[below], below if within is None else within[below]
    if not levels:
        levels = [(1.0, None)]
    sizes = np.broadcast_to(levels[0][0], size.shape)
    if len(levels) > 1:
        sizes = sizes.copy()
        for rms, those in levels[1:]:
            sizes[those] = rms
    return Units(sizes, tuple(levels))


def typical(g: np.ndarray, unit: Units) -> np.ndarray:
    """(G, n) the size to which the rounding of each component is relative: the leaf's RMS, or, where the leaf
    mixes units and that is less, what the most influential unit's RMS is in the component's own unit.

    Args:
        g: (G, n); what is not finite counts for nothing.
    """
    if not g.size:
        return np.where(np.isfinite(g), g, 0.0)
    whole = norms(g)
    if not np.isfinite(whole).all():
        g = np.where(np.isfinite(g), g, 0.0)
        whole = norms(g)
    rms = whole / np.sqrt(g.shape[1])
    if len(unit.levels) == 1:
        return np.broadcast_to(rms[:, None], g.shape)
    within = [whole, *(norms(g[:, those]) for _, those in unit.levels[1:]), np.zeros_like(whole)]
    counts = [g.shape[1], *(len(there(those)) for _, those in unit.levels[1:]), 0]
    influence = np.zeros_like(whole)
    for k, (size, _) in enumerate(unit.levels):
        # What is left of the squares once those of the smaller units are taken off, unless these are most of them.
        part = (within[k + 1] / np.where(within[k] > 0, within[k], 1.0)) ** 2
        mine = within[k] * np.sqrt(1 - part) if (part <= 0.5).all() else norms(g[:, unit.members[k]])
        influence = np.maximum(influence, size * mine / np.sqrt(counts[k] - counts[k + 1]))
    out = np.empty(g.shape)
    for size, those in unit.levels:
        out[:, slice(None) if those is None else those] = np.minimum(rms, influence / size)[:, None]
    return out


def directions(leaf: Leaf, values: np.ndarray, count: int, seed: int, apart: bool = False) -> np.ndarray:
    """(count or more, n) directions on one leaf, n its real length.

    Signs come from the seed and the leaf's path, so that adding a leaf does not change another's. Every
    second direction is scaled by the components themselves (a floor of 1e-3 of the RMS): components
    near the edge of a domain, far smaller than their neighbours, are then moved in proportion. The RMS is
    that of each unit.

    Args:
        apart: move each unit alone as well, where there are several: what the small ones do may be
            nothing beside what the large ones do.

    Raises:
        budget.Stopped: the time is spent.
    """
    n = leaf.stop - leaf.start
    rng = np.random.default_rng([seed, zlib.crc32(leaf.path.encode())])
    both = own_scale(values, 1.0), own_scale(values, PROPORTION)
    scales = [both[k % 2] for k in range(count)]
    found = units(values)
    if apart and len(found.levels) > 1:
        several = sorted(size for size, _ in found.levels)
        scales += [np.where(found.sizes == s, own_scale(values, 1.0), 0.0) for s in several]
    out = np.empty((len(scales), n))
    for k, scale in enumerate(scales):
        if k % OFTEN == 0:
            current().ask()
        out[k] = (2.0 * rng.integers(0, 2, n, dtype=np.int8) - 1) * rng.uniform(0.5, 1.5, n) * scale
    return out
