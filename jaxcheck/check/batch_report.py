"""From the reports of single points, and the numbers of all, to the report of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxcheck.budget import current
from jaxcheck.check.batch_numbers import Numbers
from jaxcheck.check.settings import Settings
from jaxcheck.check.stopping import unprepared
from jaxcheck.evidence import batched
from jaxcheck.problem.points import Batch
from jaxcheck.problem.problem import Problem
from jaxcheck.result import NAN, Point, Reason, Report, Verdict

# Failing points that are examined one by one for the report; the others are counted and listed.
EXAMINED = 8
MOST_STATISTICS = 20


def one_by_one(batch: Batch, alone: Callable, label: str, settings: Settings) -> Report:
    """Points that cannot share a program (host functions, gradients given as numbers)."""
    found = [alone(i) for i in range(len(batch))]
    reports = {i: report for i, report in enumerate(found) if report is not None}
    if not reports:
        return unprepared("check_batch", label, batch.tree(0), settings.seed)
    order = sorted(reports, key=lambda i: badness(reports[i]), reverse=True)
    points = tuple(point(batch, i, reports[i]) for i in order if reports[i].verdict is not Verdict.PASS)
    points += tuple(open_point(batch, i) for i, report in enumerate(found) if report is None)
    shown = _with_spent(reports[order[0]], reports)
    verdicts = [Verdict.INCONCLUSIVE if report is None else report.verdict for report in found]
    return left_open(written(batch, order[0], shown, verdicts, points, (), label), verdicts)


def settled(
    batch: Batch, problem: Problem, numbers: Numbers, alone: Callable, label: str, settings: Settings, runs: bool
) -> Report:
    """Examine the unclear points alone (the first few), settle the others by the batch's own numbers.

    Args:
        alone: the report of one point by its index; None where the check was stopped before anything was known.
        runs: whether there is a native run, which is looked at where a point is checked alone.
    """
    table, clear, bad = numbers.table, numbers.clear, numbers.badness()
    unclear = np.flatnonzero(~clear)
    order = unclear[np.argsort(-bad[unclear], kind="stable")]
    verdicts = [Verdict.PASS] * len(clear) + [Verdict.INCONCLUSIVE] * (len(batch) - len(clear))
    looked_at = _examined(order, numbers.kinds, verdicts, alone)
    if not any(looked_at.values()):
        worst = int(np.argmax(bad))
        looked_at |= {index: alone(index) for index in ((worst, 0) if runs and worst else (worst,))}
    reports = {index: report for index, report in looked_at.items() if report is not None}
    for index, report in reports.items():
        verdicts[index] = report.verdict
    unknown = [*(i for i in looked_at if i not in reports and not clear[i]), *range(len(clear), len(batch))]
    counted = [
        of_numbers(batch, problem, table if numbers.in_float64[i] or numbers.path is None else numbers.path, i)
        for i in map(int, order)
        if i not in reports and i not in unknown
    ]
    points = _points(batch, reports, counted, unknown)
    said = statistics(batch, problem, table)
    if accused := sum(bool(numbers.kinds[i]) for i in unknown if i < len(clear)):
        said = [f"{accused} of the points left look wrong by the batch's own numbers", *said]
    shown = max(reports, key=lambda i: badness(reports[i]), default=0)
    best = reports[shown] if reports else unprepared("check_batch", label, batch.tree(0), settings.seed)
    why = f"{batch.labels[shown]}: {best.why_mode}; " if best.why_mode else ""
    best = dataclasses.replace(
        _with_spent(best, reports, table.evaluations + numbers.evaluations, table.compiled + numbers.compiled),
        why_mode=f"{why}all points: random directions in one program",
    )
    whole = written(batch, shown, best, verdicts, points, said, label)
    return left_open(whole, verdicts) if unknown else whole


def _points(batch: Batch, reports: dict[int, Report], counted: list[Point], unknown: list[int]) -> tuple[Point, ...]:
    """The points that did not pass: by the batch's own measure those that only it has judged (`counted`) are less bad
    than the ones examined."""
    ranked = sorted(reports, key=lambda i: badness(reports[i]), reverse=True)
    examined = [point(batch, i, reports[i]) for i in ranked if reports[i].verdict is not Verdict.PASS]
    failed, unsure = ([p for p in examined if (p.verdict is Verdict.FAIL) is yes] for yes in (True, False))
    return (*failed, *counted, *unsure, *(open_point(batch, i) for i in sorted(unknown)))


def _with_spent(report: Report, reports: dict[int, Report], evaluations: int = 0, compiled: int = 0) -> Report:
    """A report of one point with what was spent on all of them, and besides."""
    return dataclasses.replace(
        report,
        evaluations=evaluations + sum(r.evaluations for r in reports.values()),
        compiled=compiled + sum(r.compiled for r in reports.values()),
    )


def _examined(
    order: np.ndarray, kinds: np.ndarray, verdicts: list[Verdict], alone: Callable
) -> dict[int, Report | None]:
    """The reports of unclear points, the worst first; None where the check was stopped. `verdicts` are set, those of
    points that only numbers judge as well."""
    found: dict[int, Report | None] = {}
    seen: dict[int, list[Verdict]] = {int(kind): [] for kind in np.unique(kinds)}
    for index in map(int, order):
        kind = int(kinds[index])
        # Failures of a kind already examined, and found to be such each time, need no second opinion; anything
        # doubtful gets one.
        enough = sum(map(len, seen.values())) >= EXAMINED or current().stopped
        if enough and kind and seen[kind] and all(v is Verdict.FAIL for v in seen[kind]):
            verdicts[index] = Verdict.FAIL
            continue
        found[index] = report = alone(index)
        verdicts[index] = Verdict.INCONCLUSIVE if report is None else report.verdict
        if report is not None and report.reason is not Reason.INTERRUPTED:
            seen[kind].append(report.verdict)
    return found


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
        around = f" (bar {bar:.1e})" if np.isfinite(bar) else ""
        left = f"; left out: {len(good) - good.sum()} on a kink or not finite" if not good.all() else ""
        most = f"99 % {np.quantile(values, 0.99, method='lower'):.1e}, " if len(values) >= 100 else ""
        said.append(
            f"`{leaf.path}` over the batch, by coarser differences: median {np.median(values):.1e}, {most}"
            f"largest {values.max():.1e}{around} at {batch.labels[largest]}{left}"
        )
    return said
