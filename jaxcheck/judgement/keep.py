"""What of the evidence a report keeps, so that it can be drawn: no program is run for it, and its size is bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxcheck.bars import BARS, HUGE
from jaxcheck.evidence.measured import LeafEvidence, Probes
from jaxcheck.judgement.looks import round_off
from jaxcheck.records_drawn import Curve, Grid, Numbers, Sample
from jaxcheck.result import NAN, LeafResult, Reason, Verdict

# Curves of doubtful directions, at most; of a leaf, while others wait.
CURVES, EACH = 8, 2
# Components of a doubtful leaf, and of all such together, which share them; the same of leaves that are plainly right.
LEAF, ALL = 4096, 8192
QUIET, QUIET_ALL = 128, 1024
# A leaf that cannot have so many has none.
LEAST = 32
# Cells of a grid, each way; and grids.
CELLS, GRIDS = 64, 8
# Digits that are kept: for a picture.
DIGITS = 6


class Kept(NamedTuple):
    curves: tuple[Curve, ...]
    samples: tuple[Sample, ...]
    grids: tuple[Grid, ...]


class _One(NamedTuple):
    ev: LeafEvidence
    result: LeafResult
    doubtful: bool


def kept(evidence: Sequence[LeafEvidence], results: Sequence[LeafResult]) -> Kept:
    """The most doubtful directions, and components of the leaves: of those that are in doubt more."""
    ones = [
        _One(ev, r, r.verdict is not Verdict.PASS or r.reason not in (Reason.AGREE, Reason.SURROGATE))
        for ev, r in zip(evidence, results, strict=True)
        if ev.m.size
    ]
    ones.sort(key=lambda one: (not one.doubtful, one.result.verdict is not Verdict.FAIL))
    with np.errstate(all="ignore"):
        return Kept(tuple(_curves(ones)), tuple(_samples(ones)), tuple(_grids(ones)))


def _curves(ones: list[_One]) -> Iterator[Curve]:
    """Of every doubtful leaf the directions that speak most against it; where no leaf is, the worst of all."""
    doubtful = [one for one in ones if one.doubtful][:CURVES]
    if not doubtful:
        known = [one for one in ones if math.isfinite(one.result.difference)]
        worst = max(known, key=lambda one: one.result.difference, default=None)
        yield from [] if worst is None else _directions(worst.ev)[:1]
        return
    found = [_directions(one.ev)[: EACH if len(doubtful) > 1 else CURVES // 2] for one in doubtful]
    in_turn = [some[k] for k in range(CURVES) for some in found if k < len(some)]
    yield from in_turn[:CURVES]


def _directions(ev: LeafEvidence) -> list[Curve]:
    """The directions with a ladder, those first that lie the most bars from M."""
    ranked = []
    for which, probes in enumerate(ev.probes):
        s = probes.slopes
        if s.steps is None or not len(s.value):
            continue
        claim = probes.project(ev.m)
        bars = s.error + BARS * probes.project_error(round_off(ev, ev.m_error) + ev.m_given)
        off = np.abs(claim - s.value) / np.maximum(bars, np.finfo(float).tiny)
        off = np.where(np.isfinite(off), off, -1.0) + np.where(s.kink | s.jump, HUGE, 0.0)
        columns = np.argmax(off, axis=1)
        ranked += [(float(off[row, column]), which, row, int(column)) for row, column in enumerate(columns)]
    ranked.sort(key=lambda one: -one[0])
    return [
        curve
        for _, which, row, column in ranked[:CURVES]
        if (curve := _curve(ev, ev.probes[which], row, column)) is not None
    ]


def _curve(ev: LeafEvidence, probes: Probes, row: int, column: int) -> Curve | None:
    s = probes.slopes[row : row + 1]
    if s.steps is None or s.increments is None:
        return None
    steps, (right, left) = s.steps[0, column], s.increments[0, column]
    if not (np.isfinite(right) | np.isfinite(left)).any():
        return None
    smooth = NAN
    if probes.smooth is not None:
        count = int(probes.smooth[row])
        smooth = float(steps[-count]) if count else 0.0
    a = NAN if ev.a is None else float(probes.project(ev.a)[row, column])
    name = _component(ev, int(probes.at[row])) if probes.directions is None else f"{ev.leaf.path} along direction {row}"
    return Curve(
        ev.leaf.path,
        name,
        _exactly(steps),
        _exactly(right),
        _exactly(left),
        float(probes.project(ev.m)[row, column]),
        float(s.value[0, column]),
        float(s.error[0, column]),
        a,
        float(s.noise[0, column]),
        smooth,
    )


def _component(ev: LeafEvidence, flat: int) -> str:
    """`W[0,2]`, as `Component.name` has it; the imaginary part of a complex one is marked."""
    leaf, imaginary = ev.leaf, flat >= ev.leaf.size
    at = ",".join(str(int(i)) for i in np.unravel_index(flat % max(leaf.size, 1), leaf.shape)) if leaf.shape else ""
    return leaf.path + (f"[{at}]" if at else "") + (" (imaginary)" if imaginary else "")


def _samples(ones: list[_One]) -> Iterator[Sample]:
    for doubtful, each, together in ((True, LEAF, ALL), (False, QUIET, QUIET_ALL)):
        some = [one for one in ones if one.doubtful is doubtful][: together // LEAST]
        most = min(each, together // max(len(some), 1))
        yield from (_sample(one.ev, most) for one in some)


def _sample(ev: LeafEvidence, most: int) -> Sample:
    n = ev.m.shape[1]
    (m, a), columns, chosen = _most_off(ev), _columns(ev), np.arange(n)
    if n > most:
        # Half of them those that are off most, half from everywhere.
        off = np.abs(m) if a is None else np.abs(m - a)
        worst = np.argpartition(-np.nan_to_num(off, posinf=np.finfo(float).max), most // 2)[: most // 2]
        chosen = np.union1d(worst, np.linspace(0, n - 1, most - len(worst)).astype(int))
    numeric, errors = _numeric(ev, columns)
    nothing = np.full(len(chosen), np.nan)
    return Sample(
        ev.leaf.path,
        Numbers(int(i) for i in chosen),
        _rounded(m[chosen]),
        _rounded(numeric[chosen]),
        _rounded(errors[chosen]),
        _rounded(nothing if a is None else a[chosen]),
    )


def _grids(ones: list[_One]) -> Iterator[Grid]:
    """Of the leaves that are matrices or more: those in doubt, and the quiet ones that are small."""
    wanted = [
        one
        for one in ones
        if len(one.ev.leaf.shape) > 1 and one.ev.leaf.size > 1 and (one.doubtful or one.ev.m.shape[1] <= LEAF)
    ]
    for one in wanted[:GRIDS]:
        grid = _grid(one.ev)
        if grid is not None:
            yield grid


def _grid(ev: LeafEvidence) -> Grid | None:
    (m, a), leaf = _most_off(ev), ev.leaf
    truth, witness = (_numeric(ev, _columns(ev))[0], "N") if a is None else (a, "A")
    off = np.abs(m - truth)
    if not np.isfinite(truth).any():
        return None
    if leaf.is_complex:
        off = np.hypot(off[: leaf.size], off[leaf.size :])
    across = leaf.shape[-1]
    down = leaf.size // across
    cells = off.reshape(down, across)
    for axis in (0, 1):
        cells = _coarser(cells, axis)
    rows, columns = cells.shape
    scale = float(np.nanmax(np.abs(truth)))
    return Grid(leaf.path, rows, columns, _rounded(cells.ravel(), 3), witness, _digits(scale), (down, across))


def _coarser(cells: np.ndarray, axis: int) -> np.ndarray:
    """The largest of neighbours, where there are more than `CELLS`; NaN where none is known."""
    count = cells.shape[axis]
    if count <= CELLS:
        return cells
    starts = np.arange(CELLS) * count // CELLS
    return np.fmax.reduceat(cells, starts, axis=axis)


def _columns(ev: LeafEvidence) -> np.ndarray:
    """(n,) the output in which each component is off most."""
    if len(ev.m) == 1:
        return np.broadcast_to(0, ev.m.shape[1])
    off = np.abs(ev.m - ev.a) if ev.a is not None else np.abs(ev.m)
    return np.argmax(np.nan_to_num(off, posinf=np.finfo(float).max), axis=0)


def _most_off(ev: LeafEvidence) -> tuple[np.ndarray, np.ndarray | None]:
    """(n,) M and A of each component, in the output in which it is off most."""
    if len(ev.m) == 1:
        return ev.m[0], None if ev.a is None else ev.a[0]
    columns, every = _columns(ev), np.arange(ev.m.shape[1])
    return ev.m[columns, every], None if ev.a is None else ev.a[columns, every]


def _numeric(ev: LeafEvidence, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) N of single components and its bars; where one was looked at twice, the narrower."""
    n = ev.m.shape[1]
    value, error = np.full(n, np.nan), np.full(n, np.nan)
    for p in ev.probes:
        if p.directions is None:
            here = np.arange(len(p.at)), columns[p.at]
            keep = ~(error[p.at] < p.slopes.error[here])
            value[p.at] = np.where(keep, p.slopes.value[here], value[p.at])
            error[p.at] = np.where(keep, p.slopes.error[here], error[p.at])
    return value, error


def _exactly(values: np.ndarray) -> Numbers:
    """Every digit: what is drawn of a curve is what is left when its slope is taken off."""
    return Numbers(float(x) for x in values)


def _rounded(values: np.ndarray, digits: int = DIGITS) -> Numbers:
    return Numbers(_digits(float(x), digits) for x in values)


def _digits(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}")
