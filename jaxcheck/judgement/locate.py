"""Which components are wrong, with the three values of each."""

from __future__ import annotations

import numpy as np

from jaxcheck.bars import ROUND_OFF
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.judgement.measures import nearest
from jaxcheck.judgement.vote import Opinion
from jaxcheck.result import NAN, Component


def _entry(leaf, column_values: np.ndarray, flat: int):
    """Value of one entry in the caller's convention, from the real view of one column."""
    size = leaf.size
    if not leaf.is_complex:
        return float(column_values[flat])
    return complex(column_values[flat], -column_values[flat + size])


def suspicion(ev: LeafEvidence, opinion: Opinion) -> np.ndarray:
    """(G, n) how wrong each component is believed to be in each column, absolute; NaN-free."""
    r = np.abs(opinion.residual)
    if not np.isfinite(r).all():
        r = np.zeros(ev.m.shape)
        r[~np.isfinite(ev.m)] = np.inf
        for probes in ev.probes:
            if probes.directions is None:
                off = np.abs(probes.project(ev.m) - nearest(probes, ev.m))
                off = np.where(np.isfinite(off), off - probes.slopes.error, 0.0)
                r[:, probes.at] = np.maximum(r[:, probes.at], np.maximum(off, 0.0).T)
    return r


def numeric_component(ev: LeafEvidence, column: int, flat: int) -> tuple[float, float]:
    """N of one real component and its bar, where some probe looked at that component alone."""
    best = (NAN, NAN)
    for probes in ev.probes:
        if probes.directions is None:
            where = np.flatnonzero(probes.at == flat)
            if where.size:
                k = where[-1]
                value, error = float(probes.slopes.value[k, column]), float(probes.slopes.error[k, column])
                if not np.isfinite(best[1]) or error <= best[1]:
                    best = (value, error)
    return best


def worst(ev: LeafEvidence, opinion: Opinion, count: int) -> tuple[Component, ...]:
    """The `count` most suspicious components, worst first; beside one that is off, none that agrees with N and A."""
    leaf = ev.leaf
    by_column = suspicion(ev, opinion)
    if leaf.is_complex:
        by_column = np.maximum(by_column[:, : leaf.size], by_column[:, leaf.size :])
    if not by_column.size:
        return ()
    suspect = by_column.max(axis=0)
    order = np.argsort(-suspect, kind="stable")[:count]
    out = []
    for flat in order:
        if not suspect[flat] > 0:
            continue
        column = int(by_column[:, flat].argmax())
        n, n_error = numeric_component(ev, column, int(flat))
        numeric: complex = n
        if leaf.is_complex:
            imaginary, other = numeric_component(ev, column, int(flat) + leaf.size)
            numeric, n_error = complex(n, -imaginary), float(np.hypot(n_error, other))
        values = ev.values
        parameter = complex(values[flat], values[flat + leaf.size]) if leaf.is_complex else float(values[flat])
        out.append(
            Component(
                path=leaf.path,
                index=tuple(int(i) for i in np.unravel_index(int(flat), leaf.shape)) if leaf.shape else (),
                parameter=parameter,
                manual=_entry(leaf, ev.m[column], int(flat)),
                numeric=numeric,
                numeric_error=n_error,
                autodiff=NAN if ev.a is None else _entry(leaf, ev.a[column], int(flat)),
            )
        )
    return tuple(out[:1] + [one for one in out[1:] if not _agreed(one)])


def _agreed(one: Component) -> bool:
    """Whether the differences and autodiff both say the same as M: what is left is rounding."""
    rounding = ROUND_OFF * (abs(one.manual) + abs(one.autodiff))
    return abs(one.manual - one.autodiff) <= rounding and abs(one.manual - one.numeric) <= one.numeric_error
