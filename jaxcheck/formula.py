"""The textbook's measure of how far two gradients are apart."""

from __future__ import annotations

import numpy as np

from jaxcheck.records import NAN

# Numbers whose squares, and sums of many of them, lie within what float64 holds. A choice.
SQUARES = 1e-140


# Numbers from which on passes over memory are what a norm takes, and arrays of that length between are too many.
LONG = 1 << 16


def norm2(x: np.ndarray) -> np.floating:
    """The 2-norm of all entries, safe against overflow and underflow of their squares."""
    with np.errstate(all="ignore"):
        found = np.linalg.norm(x)
        if SQUARES < found < 1 / SQUARES:
            return found
        peak = np.abs(x).max(initial=0.0)
        return found if peak == 0 or not np.isfinite(peak) else peak * np.linalg.norm(np.asarray(x) / peak)


def norms(g: np.ndarray) -> np.ndarray:
    """Column 2-norms of (G, n), safe against overflow."""
    if g.size >= LONG:
        with np.errstate(all="ignore"):
            found = np.sqrt(np.einsum("gn,gn->g", g, g)).astype(float)  # what bounds squares is no float32
        if ((found > SQUARES) & (found < 1 / SQUARES)).all():
            return found
    peak = np.abs(g).max(axis=1, initial=0.0)
    safe = np.where((peak > 0) & np.isfinite(peak), peak, 1.0)
    return np.linalg.norm(g / safe[:, None], axis=1) * safe


def norms_along(directions: np.ndarray, g: np.ndarray) -> np.ndarray:
    """(D, G) 2-norms of (G, n) gradients, each component times that of one of the (D, n) directions; safe against
    overflow and underflow of their squares."""
    with np.errstate(all="ignore"):
        if g.size < LONG:
            found = np.sqrt(directions**2 @ (g**2).T)
        else:
            found = np.stack([np.sqrt(np.einsum("gn,gn->g", x, x)) for x in (d * g for d in directions)])
        lost = ~((found > SQUARES) & (found < 1 / SQUARES))
        if lost.any():  # where both are something: what is nothing is known
            lost &= (directions != 0).astype(float) @ (g != 0).astype(float).T > 0
        for d, k in np.argwhere(lost):
            found[d, k] = norm2(directions[d] * g[k])
        return found


def formula2(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b|| / (||a|| + ||b||), the textbook's `difference`; 0 when both are exactly zero, NaN if not finite.

    Scaled by the largest entry first, where that is needed, so that gradients of 1e-200 or 1e200 neither vanish nor
    overflow.
    """
    a = np.asarray(a).ravel()
    b = np.asarray(b).ravel()
    if a.size >= LONG:
        with np.errstate(all="ignore"):
            one, other, apart = (float(np.linalg.norm(x)) for x in (a, b, a - b))  # what bounds squares is no float32
        if all(SQUARES < x < 1 / SQUARES for x in (one, other)):
            return float(apart / (one + other))
    scale = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    if scale == 0:
        return 0.0
    if not np.isfinite(scale):
        return NAN
    a, b = a / scale, b / scale
    return float(np.linalg.norm(a - b) / (np.linalg.norm(a) + np.linalg.norm(b)))
