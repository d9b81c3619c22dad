"""How far a component may move: by its own size, as far as it has one."""

from __future__ import annotations

import numpy as np

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
