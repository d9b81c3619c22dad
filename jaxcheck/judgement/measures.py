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


def relative_numbers(ev: LeafEvidence, m: np.ndarray, a: np.ndarray | None) -> tuple[float, float, float, float]:
    """(difference to N, difference to A, relative error bar of N, norm of N)."""
    to_a = NAN if a is None else formula2(m, a)
    n, error = np.full(m.shape, np.nan), np.full(m.shape, np.nan)
    for p in ev.probes:
        if p.directions is None:
            n[:, p.indices], error[:, p.indices] = p.slopes.value.T, p.slopes.error.T
    if m.size and np.isfinite(n).all():
        both = np.linalg.norm(m) + np.linalg.norm(n)
        bar = float(np.linalg.norm(error) / both) if both else NAN
        return formula2(m, n), to_a, bar, float(np.linalg.norm(n))
    dense = [p for p in ev.probes if p.directions is not None]
    if not dense:
        return NAN, to_a, NAN, NAN
    probes = dense[0]
    s = probes.slopes
    good = np.isfinite(s.value) & np.isfinite(s.error)
    if not good.any():
        return NAN, to_a, NAN, NAN
    # With v_i = +-s_i, E (v.r)^2 = sum (s_i r_i)^2: each direction estimates the scaled norms.
    projected = probes.project(m)
    norm_m = np.sqrt(probes.directions**2 @ (m**2).T)
    off = np.sqrt(np.mean((projected - s.value)[good] ** 2))
    norm_n = np.sqrt(np.mean(s.value[good] ** 2))
    size = np.sqrt(np.mean(norm_m[good] ** 2)) + norm_n
    bar = np.sqrt(np.mean(s.error[good] ** 2))
    if size == 0:
        return (0.0 if off == 0 else 1.0), to_a, NAN, 0.0
    return float(off / size), to_a, float(bar / size), NAN
