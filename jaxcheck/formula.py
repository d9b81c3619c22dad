"""The textbook's measure of how far two gradients are apart."""

from __future__ import annotations

import numpy as np

from jaxcheck.records import NAN

# Numbers whose squares, and sums of many of them, lie within what float64 holds. A choice.
SQUARES = 1e-140


def norm2(x: np.ndarray) -> np.floating:
    """The 2-norm of all entries, safe against overflow and underflow of their squares."""
    with np.errstate(all="ignore"):
        found = np.linalg.norm(x)
        if SQUARES < found < 1 / SQUARES:
            return found
        peak = np.abs(x).max(initial=0.0)
        return found if peak == 0 or not np.isfinite(peak) else peak * np.linalg.norm(np.asarray(x) / peak)


def formula2(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b|| / (||a|| + ||b||), the textbook's `difference`; 0 when both are exactly zero, NaN if not finite.

    Scaled by the largest entry first so that gradients of 1e-200 or 1e200 neither vanish nor overflow.
    """
    a = np.asarray(a).ravel()
    b = np.asarray(b).ravel()
    scale = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    if scale == 0:
        return 0.0
    if not np.isfinite(scale):
        return NAN
    a, b = a / scale, b / scale
    return float(np.linalg.norm(a - b) / (np.linalg.norm(a) + np.linalg.norm(b)))
