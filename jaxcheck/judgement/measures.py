"""The numbers of a leaf's judgement: norms, formula (2) against each witness, and the differences' bar."""

from __future__ import annotations

import numpy as np

from jaxcheck.evidence.witnesses import LeafEvidence
from jaxcheck.result import NAN, formula2


def norms(g: np.ndarray) -> np.ndarray:
    """Column 2-norms of (G, n), safe against overflow."""
    peak = np.abs(g).max(axis=1, initial=0.0)
    safe = np.where((peak > 0) & np.isfinite(peak), peak, 1.0)
    return np.linalg.norm(g / safe[:, None], axis=1) * safe


# A column that is smaller than the largest by this factor is nothing but its rounding.
RESIDUE = 1e-13


def by_column(a: np.ndarray, b: np.ndarray) -> float:
    """Formula (2) of the column of (G, n) that is off most: each cotangent has its own scale."""
    sizes = norms(a) + norms(b)
    told = ~(sizes <= RESIDUE * np.max(sizes, initial=0.0))
    if len(a) == 1 or not told.any():
        return formula2(a, b)
    return float(np.max([formula2(x, y) for x, y in zip(a[told], b[told], strict=True)]))


def relative_numbers(ev: LeafEvidence, m: np.ndarray, a: np.ndarray | None) -> tuple[float, float, float, float]:
    """(difference to N, difference to A, relative error bar of N, norm of N)."""
    to_a = NAN if a is None else by_column(m, a)
    n, error = np.full(m.shape, np.nan), np.full(m.shape, np.nan)
    for p in ev.probes:
        if p.directions is None:
            n[:, p.indices], error[:, p.indices] = p.slopes.value.T, p.slopes.error.T
    if m.size and np.isfinite(n).all():
        both = np.linalg.norm(m) + np.linalg.norm(n)
        bar = float(np.linalg.norm(error) / both) if both else NAN
        return by_column(m, n), to_a, bar, float(np.linalg.norm(n))
    dense = [p for p in ev.probes if p.directions is not None]
    if not dense:
        return NAN, to_a, NAN, NAN
    probes = dense[0]
    s = probes.slopes
    good = np.isfinite(s.value) & np.isfinite(s.error)
    if not good.any():
        return NAN, to_a, NAN, NAN
    # With v_i = +-s_i, E (v.r)^2 = sum (s_i r_i)^2: each direction estimates the scaled norms.
    projected, norm_m = probes.project(m), np.sqrt(probes.directions**2 @ (m**2).T)
    off, size, bar, norm_n = (np.zeros(len(m)) for _ in range(4))
    for k, known in enumerate(good.T):
        if known.any():
            norm_n[k] = _rms(s.value[known, k])
            off[k], bar[k] = _rms(projected[known, k] - s.value[known, k]), _rms(s.error[known, k])
            size[k] = _rms(norm_m[known, k]) + norm_n[k]
    told = size > RESIDUE * size.max()
    if not told.any():
        return (0.0 if not off.any() else 1.0), to_a, NAN, 0.0
    k = int(np.argmax(np.where(told, off / np.where(told, size, 1.0), -1.0)))
    return float(off[k] / size[k]), to_a, float(bar[k] / size[k]), NAN


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))
