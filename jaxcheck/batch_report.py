"""From the reports of single points, and the numbers of all, to the report of a batch."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.evidence import batched
from jaxcheck.evidence.points import Batch
from jaxcheck.result import NAN, Point, Reason, Report, Verdict

MOST_STATISTICS = 20


def point(batch: Batch, index: int, report: Report) -> Point:
    worst = next((x.path for x in report.leaves if x.verdict is report.verdict), "")
    return Point(index, batch.labels[index], report.verdict, report.difference, worst, batch.lines[index])


def open_point(batch: Batch, index: int) -> Point:
    """A point that time left without a look, or without the second look that it needs."""
    return Point(index, batch.labels[index], Verdict.INCONCLUSIVE, NAN, "", batch.lines[index])


def left_open(report: Report, verdicts) -> Report:
    """The report of a batch of which points were left: it does not pass."""
    if report.verdict is Verdict.PASS and Verdict.INCONCLUSIVE in verdicts:
        return dataclasses.replace(report, verdict=Verdict.INCONCLUSIVE, reason=Reason.INTERRUPTED)
    return report


def written(batch, shown: int, report: Report, verdicts, points, more, label) -> Report:
    """The report of one point, made that of the batch: every number in it still is of that point, but
    for the counts, what was spent, and the notes that say otherwise."""
    count = {v: sum(x is v for x in verdicts) for v in Verdict}
    passed, failed, unsure = count[Verdict.PASS], count[Verdict.FAIL], count[Verdict.INCONCLUSIVE]
    total, at = len(verdicts), batch.labels[shown]
    shares = f"{total} points: {passed} pass, {failed} fail ({failed / total:.1%}), {unsure} inconclusive"
    worst = points[0] if points else None
    where = f"worst: {at}" + (f", at leaf `{worst.leaf}`" if worst and worst.leaf else "")
    notes = (
        shares,
        f"{where}; the numbers of leaves and differences are those of {at} alone",
        *batch.notes,
        *more,
        *report.notes,
    )
    return dataclasses.replace(
        report,
        kind="check_batch",
        name=label,
        points=points,
        notes=notes,
        point=at,
        points_passed=passed,
        points_failed=failed,
        points_inconclusive=unsure,
    )


def badness(report: Report) -> tuple[int, float]:
    rank = {Verdict.FAIL: 2, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 0}[report.verdict]
    return rank, float(np.nan_to_num(report.difference, nan=np.inf))


def of_numbers(batch: Batch, problem, table: batched.Table, index: int) -> Point:
    """A point that failed by the batch's numbers alone."""
    off = table.difference_a[index] if np.isfinite(table.difference_a[index]).any() else table.difference[index]
    leaf = columns(problem)[int(np.argmax(np.nan_to_num(off, nan=0.0)))].path
    return Point(index, batch.labels[index], Verdict.FAIL, float(table.whole[index]), leaf, batch.lines[index])


def columns(problem) -> list:
    """The leaves that a table's columns stand for: empty ones have none."""
    return [leaf for leaf in problem.theta.leaves if leaf.size]


def statistics(batch: Batch, problem, table: batched.Table) -> list[str]:
    """One sentence per leaf on the differences at all points, which are coarser than those of one point alone."""
    said = []
    for k, leaf in enumerate(columns(problem)[:MOST_STATISTICS]):
        good = np.isfinite(table.difference[:, k]) & ~table.kink[:, k]
        if not good.any():
            said.append(f"`{leaf.path}` over the batch: no smooth, finite difference at any point")
            continue
        values = table.difference[good, k]
        largest = int(np.flatnonzero(good)[np.argmax(values)])
        bar = table.bar[largest, k]
        around = f" +-{bar:.1e}" if np.isfinite(bar) else ""
        left = f"; left out: {len(good) - good.sum()} on a kink or not finite" if not good.all() else ""
        most = f"99 % {np.quantile(values, 0.99, method='lower'):.1e}, " if len(values) >= 100 else ""
        said.append(
            f"`{leaf.path}` over the batch, by coarser differences: median {np.median(values):.1e}, {most}"
            f"largest {values.max():.1e}{around} at {batch.labels[largest]}{left}"
        )
    return said
