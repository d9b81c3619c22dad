"""Many points at once: seeds, initialisations, checkpoints, in one compiled, vmapped program."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxcheck import bars
from jaxcheck.door import door
from jaxcheck.engine import examine
from jaxcheck.evidence import as_run, batched, batched_sides
from jaxcheck.evidence.points import Batch, collect
from jaxcheck.evidence.prepare import prepare
from jaxcheck.evidence.user import copies, to_array
from jaxcheck.options import Exhaustive, Sketch, Tolerance
from jaxcheck.program.ask import Refused, ask
from jaxcheck.result import Point, Report, Verdict
from jaxcheck.settings import Settings
from jaxcheck.theta import take_apart

# Failing points that are examined one by one for the report; the others are counted and listed.
EXAMINED = 8
MOST_STATISTICS = 20


@door
def check_batch(
    loss: Callable[..., Any],
    points: Any = None,
    grad: Any = None,
    *,
    init: Callable[..., Any] | None = None,
    n: int | None = None,
    train_step: Callable[..., Any] | None = None,
    steps: Sequence[int] | None = None,
    args: Sequence[Any] = (),
    has_aux: bool = False,
    mode: Exhaustive | Sketch | Literal["exhaustive", "sketch"] | None = None,
    tolerance: Tolerance | float | None = None,
    must_catch: float | None = None,
    precision: Literal["float64", "native"] = "float64",
    surrogate: Any = False,
    seed: int = 0,
    name: str | None = None,
) -> Report:
    """Check a gradient at many points in one program. Options are those of `check_grad`.

    The points are one of:
        points: a pytree with a leading axis on every leaf (n points), or a list of pytrees;
        init, n: `init(key) -> params`, drawn n times from `seed`;
        init (or points: one pytree), train_step, steps: `train_step(params) -> params`; the points are
            the parameters after each number of steps, e.g. steps=[0, 100].

    Each point gets directions along every leaf (two rungs of the ladder fewer than `check_grad` are
    not spent: the same ladder is used); a point that does not clearly agree is checked again alone.

    The path that is run, where loss or gradient choose by dtype, is held to its own differences and autodiff at
    every point; what rounding, overflow and underflow do to the native run is looked at where a point is
    checked alone, at the first and the worst one at least.

    Returns:
        A `Report` of the worst point (`report.point`), whose `points` name those that did not pass
        (worst first) with a line that reproduces each, and whose notes give shares and statistics.

    Raises:
        TypeError, ValueError: as `check_grad`; or the points do not stack.
    """
    start = time.perf_counter()
    settings = Settings.make(mode, tolerance, must_catch, surrogate, seed, precision)
    if isinstance(settings.mode, Exhaustive):
        raise ValueError("check_batch looks along random directions; use mode=Sketch(...) or leave mode out")
    batch = collect(points, init, n, train_step, steps, seed, lambda tree: _accepts(loss, tree, args))
    # The line names the caller's own arguments; only what differs from the defaults is repeated.
    given = {"grad": grad is not None, "args": bool(args), "has_aux": has_aux, "mode": mode is not None,
             "tolerance": tolerance is not None, "must_catch": must_catch is not None,
             "precision": precision != "float64", "surrogate": surrogate is not False, "seed": seed != 0}
    more = "".join(f", {key}={key}" for key, wanted in given.items() if wanted)
    batch = dataclasses.replace(batch, lines=tuple(f"jaxcheck.check_grad(loss, {x}{more})" for x in batch.lines))
    problem, preface = prepare(loss, batch.tree(0), grad, args, has_aux, precision)
    label = name or preface.name

    def alone(index: int) -> Report:
        # The first point has been prepared already.
        one, front = (problem, preface) if index == 0 else prepare(
            loss, batch.tree(index), grad, args, has_aux, precision)
        title = f"{label} at {batch.labels[index]}"
        return examine(one, front, settings, kind="check_grad", name=title, start=time.perf_counter())

    alike = problem.manual is not None and batch.carried_alike(problem)
    if problem.primal is None or not alike or preface.structure or not preface.repeatable:
        return _one_by_one(batch, alone, label, settings, start)
    rows = batch.theta_rows(problem)
    table = batched.measure(problem, rows, settings.seed, _directions(settings))
    clear = batched.clear(table, settings.tolerance, settings.must_catch, problem.sharp)
    kinked = np.flatnonzero(~clear & table.kink.any(axis=1) & table.finite)
    if len(kinked) and problem.autodiff is not None:
        # Another choice than autodiff's is right where it is that of an adjacent piece.
        adjacent = np.zeros(len(batch), bool)
        granted = settings.tolerance.between_programs(problem.sharp)
        adjacent[kinked], more, new = batched_sides.adjacent(problem, rows[kinked], granted, settings.seed)
        clear = batched.clear(table, settings.tolerance, settings.must_catch, problem.sharp, adjacent)
        table = dataclasses.replace(table, evaluations=table.evaluations + more, compiled=table.compiled + new)
    run, path = preface.run, None
    if run is not None and not problem.is_autodiff and not as_run.one_formula(problem, run):
        other = as_run.without_rounding(problem, run)
        if other is not None:
            path = batched.measure(other, rows, settings.seed, _directions(settings))
            granted = max(settings.tolerance.bound, bars.CONSTANTS * run.unit)
            clear &= batched.clear(path, Tolerance(granted, settings.tolerance.atol),
                                   max(settings.must_catch, 2 * granted), sharp=False)
    return _report(batch, problem, table, path, clear, alone, label, settings, start, run is not None)


def _accepts(loss: Callable, tree: Any, args: Any) -> bool:
    """Whether the loss takes `tree` as its parameters, as far as shapes tell."""
    theta, rest = take_apart(tree), take_apart(tuple(args), "args", differentiated=False)
    leaves = [to_array(x) for x in (*theta.inexact(), *rest.inexact())]
    count = len(theta.leaves)
    try:  # traced, as the check itself will: under a trace NumPy's arrays have the methods of JAX's
        ask(jax.eval_shape, lambda *flat: loss(theta.rebuild(flat[:count]), *rest.rebuild(flat[count:])), *leaves)
    except Refused:
        try:
            ask(loss, copies(tree), *copies(args))
        except Refused:
            return False
    return True


def _directions(settings: Settings) -> int:
    return settings.mode.directions if isinstance(settings.mode, Sketch) else 1


def _point(batch: Batch, index: int, report: Report) -> Point:
    worst = next((x.path for x in report.leaves if x.verdict is report.verdict), "")
    return Point(index, batch.labels[index], report.verdict, report.difference, worst, batch.lines[index])


def _one_by_one(batch: Batch, alone: Callable, label: str, settings: Settings, start: float) -> Report:
    """Points that cannot share a program (host functions, gradients given as numbers)."""
    reports = [alone(i) for i in range(len(batch))]
    order = sorted(range(len(batch)), key=lambda i: _badness(reports[i]), reverse=True)
    points = tuple(_point(batch, i, reports[i]) for i in order if reports[i].verdict is not Verdict.PASS)
    shown = dataclasses.replace(
        reports[order[0]], evaluations=sum(r.evaluations for r in reports), compiled=sum(r.compiled for r in reports))
    return _written(batch, order[0], shown, [r.verdict for r in reports], points, (), label, start)


def _written(batch, shown: int, report: Report, verdicts, points, more, label, start) -> Report:
    """The report of one point, made that of the batch: every number in it still is of that point, but
    for the counts, what was spent, and the notes that say otherwise."""
    count = {v: sum(x is v for x in verdicts) for v in Verdict}
    passed, failed, unsure = count[Verdict.PASS], count[Verdict.FAIL], count[Verdict.INCONCLUSIVE]
    total, at = len(verdicts), batch.labels[shown]
    shares = f"{total} points: {passed} pass, {failed} fail ({failed / total:.1%}), {unsure} inconclusive"
    worst = points[0] if points else None
    where = f"worst: {at}" + (f", at leaf `{worst.leaf}`" if worst and worst.leaf else "")
    notes = (shares, f"{where}; the numbers of leaves and differences are those of {at} alone", *more, *report.notes)
    return dataclasses.replace(
        report, kind="check_batch", name=label, points=points, notes=notes, point=at, points_passed=passed,
        points_failed=failed, points_inconclusive=unsure, seconds=time.perf_counter() - start)


def _badness(report: Report) -> tuple[int, float]:
    rank = {Verdict.FAIL: 2, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 0}[report.verdict]
    return rank, float(np.nan_to_num(report.difference, nan=np.inf))


def _report(batch, problem, table: batched.Table, path: batched.Table | None, clear, alone, label, settings, start,
            runs: bool) -> Report:
    """Examine the unclear points alone (the first few), settle the others by the batch's own numbers.

    Args:
        path: the numbers of the path that is run, where that is another one.
        runs: whether there is a native run, which is looked at where a point is checked alone.
    """
    badness = table.badness() if path is None else np.fmax(table.badness(), path.badness())
    unclear = np.flatnonzero(~clear)
    order = unclear[np.argsort(-badness[unclear], kind="stable")]
    verdicts = [Verdict.PASS] * len(batch)
    reports: dict[int, Report] = {}
    by_numbers = in_float64 = batched.fails(table, settings.tolerance.bound, settings.tolerance.atol)
    if path is not None:
        by_numbers = in_float64 | batched.fails(path, bars.COUNTED, settings.tolerance.atol)
    if settings.surrogate:
        by_numbers = np.zeros_like(by_numbers)  # only a check of its own knows what is declared
    for index in map(int, order):
        # Gross failures of a kind already examined need no second opinion; anything doubtful gets one.
        if len(reports) >= EXAMINED and by_numbers[index] and Verdict.FAIL in verdicts:
            verdicts[index] = Verdict.FAIL
            continue
        reports[index] = alone(index)
        verdicts[index] = reports[index].verdict
    if not reports:
        worst = int(np.argmax(badness))
        reports[worst] = alone(worst)
        if runs and worst:
            reports[0] = alone(0)
            verdicts[0] = reports[0].verdict
        verdicts[worst] = reports[worst].verdict
    shown = max(reports, key=lambda i: _badness(reports[i]))
    # By the batch's own measure those that only it has judged are less bad than the ones examined.
    ranked = sorted(reports, key=lambda i: _badness(reports[i]), reverse=True)
    examined = [_point(batch, i, reports[i]) for i in ranked if reports[i].verdict is not Verdict.PASS]
    counted = [_counted(batch, problem, table if in_float64[i] or path is None else path, i)
               for i in map(int, order) if i not in reports]
    failed = [p for p in examined if p.verdict is Verdict.FAIL]
    points = (*failed, *counted, *(p for p in examined if p.verdict is not Verdict.FAIL))
    best = reports[shown]
    best = dataclasses.replace(
        best, evaluations=table.evaluations + sum(r.evaluations for r in reports.values()),
        compiled=table.compiled + sum(r.compiled for r in reports.values()),
        why_mode=f"{batch.labels[shown]}: {best.why_mode}; all points: random directions in one program"
        if best.why_mode else "all points: random directions in one program")
    return _written(batch, shown, best, verdicts, points, _statistics(batch, problem, table), label, start)


def _counted(batch: Batch, problem, table: batched.Table, index: int) -> Point:
    """A point that failed by the batch's numbers alone."""
    off = table.difference_a[index] if np.isfinite(table.difference_a[index]).any() else table.difference[index]
    leaf = _columns(problem)[int(np.argmax(np.nan_to_num(off, nan=0.0)))].path
    return Point(index, batch.labels[index], Verdict.FAIL, float(table.whole[index]), leaf, batch.lines[index])


def _columns(problem) -> list:
    """The leaves that a table's columns stand for: empty ones have none."""
    return [leaf for leaf in problem.theta.leaves if leaf.size]


def _statistics(batch: Batch, problem, table: batched.Table) -> list[str]:
    """One sentence per leaf on the differences at all points, which are coarser than those of one point alone."""
    said = []
    for k, leaf in enumerate(_columns(problem)[:MOST_STATISTICS]):
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
        said.append(f"`{leaf.path}` over the batch, by coarser differences: median {np.median(values):.1e}, {most}"
                    f"largest {values.max():.1e}{around} at {batch.labels[largest]}{left}")
    return said


check_batch.__module__ = "jaxcheck"
