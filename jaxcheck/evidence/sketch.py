"""Random directions, leaf by leaf, and the scale at which a component may move.

For r = grad - gradtrue and v with independent +-s_i entries, E[(v.r)^2] = sum s_i^2 r_i^2
(Hutchinson 1990, Commun. Stat. Simul. 19(2):433): a few directions estimate the whole leaf's error.
"""

from __future__ import annotations

import zlib

import numpy as np

from jaxcheck.theta import Leaf


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
    return np.where(size == 0, max(floor, 1e-2) * rms, np.maximum(size, floor * rms))


def directions(leaf: Leaf, values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(count, n) directions on one leaf, n its real length.

    Signs come from the seed and the leaf's path, so that adding a leaf does not change another's. Every
    second direction is scaled by the components themselves (a floor of 1e-3 of the RMS): components
    near the edge of a domain, far smaller than their neighbours, are then moved in proportion.
    """
    n = leaf.stop - leaf.start
    rng = np.random.default_rng([seed, zlib.crc32(leaf.path.encode())])
    out = np.empty((count, n))
    for k in range(count):
        signs = rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 1.5, n)
        out[k] = signs * component_scale(values, 1.0 if k % 2 == 0 else 1e-3)
    return out
