"""What rounding does to a rule at a point, measured before the rule is called wrong: by Monte Carlo arithmetic."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcheck.bars import FINE_UNIT, ROUNDED, SHARP
from jaxcheck.check.laws.run import Answer, Job
from jaxcheck.check.laws.site import finite, norm
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.converge import iterates
from jaxcheck.program.rounding import round_off
from jaxcheck.program.run.compile import Program
from jaxcheck.result import Row

EXPLAINED = "off by {:.2g}, by rounding: measured"
UNKNOWN = "off by {:.2g}, where what rounding does cannot be measured: next to the edge of its domain?"


def rounding(closed: Any, values: Sequence[Any]) -> list[np.ndarray] | None:
    """How far each entry of each result may be off, in the dtypes of the program, NaN where that is unknown; None where
    it cannot be run so."""
    if closed is None:
        return None
    try:
        free = [not iterates(closed)]
        ((_, bars),) = ask(round_off, "rule", [Program.of(closed)], list, list, list(values), free)[0]
    except Refused:
        return None
    return [np.asarray(bar, np.float64) for bar in bars]


def of_leaf(leaf: int, closed: Any, values: Sequence[Any]) -> float:
    """How far one of the results may be off, as a norm; NaN where that is unknown."""
    measured = rounding(closed, values)
    return float("nan") if measured is None else ROUNDED * norm(measured[leaf])


def with_rounding(jobs: dict[str, Job], answers: dict[str, Answer], wanted: dict[str, list[int]]):
    """The answers of `jobs` with how far some of their rows may be off: those `wanted`, or all. What is not known is
    taken for nothing."""
    found = {}
    for name, job in jobs.items():
        answer, bars = answers[name], []
        for k, row in enumerate(answer.rows):
            measured = rounding(answer.closed, [*job.fixed, *job.rows[k]]) if k in wanted.get(name, [k]) else None
            bars.append([0.0] * len(row) if measured is None else [ROUNDED * norm(m[np.isfinite(m)]) for m in measured])
        found[name] = dataclasses.replace(answer, off=bars)
    return answers | found


def at_points(closed: Any, points: Sequence[Sequence[Any]], stacked: bool) -> list[np.ndarray] | None:
    """The same at several points, `stacked` as a transformation stacks their results."""
    found = [rounding(closed, point) for point in points]
    known = [bars for bars in found if bars is not None]
    if len(known) < len(found):
        return None
    return [np.stack(leaf) for leaf in zip(*known, strict=True)] if stacked else known[0]


def allowed(wanted: Sequence[Any], unit: float) -> list[float]:
    """Per leaf, what two runs of one gradient may differ by before anybody measures its rounding."""
    sizes = [norm(w) if finite([w]) else 0.0 for w in wanted]
    # A leaf whose gradient is nothing but rounding has the rounding of the others for its bar.
    floor = 64 * unit * max(sizes, default=0.0)
    loose = 4096 * unit if unit > FINE_UNIT else SHARP
    return [loose * s + floor for s in sizes]


def settled(
    row: Row,
    found: Sequence[Any],
    wanted: Sequence[Any],
    bars: Sequence[float],
    measured: Sequence[np.ndarray] | None,
    runs: int = 1,
) -> Row:
    """The row that says WRONG, unless rounding explains it, or may.

    Args:
        bars: per leaf, what the two may differ by beside rounding.
        measured: as `rounding` gives it. None: the row stays.
        runs: how many of the two are off by it.
    """
    if measured is None:
        return row
    doubtful, largest = False, 0.0
    for a, b, bar, m in zip(found, wanted, bars, measured, strict=True):
        if a.shape != b.shape:
            return row
        known, off = np.isfinite(m), a - b
        if not norm(off[known]) <= bar + runs * ROUNDED * norm(m[known]):
            return row
        if not norm(off[~known]) <= bar:
            doubtful = True
        size = norm(b)
        largest = max(largest, norm(off) / size if size else 0.0)
    text = (UNKNOWN if doubtful else EXPLAINED).format(largest)
    return dataclasses.replace(row, status="UNSUPPORTED" if doubtful else "OK", difference=largest, detail=text)
