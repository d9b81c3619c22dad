"""Many points at once: seeds, initialisations, checkpoints, in one compiled, vmapped program."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.engine import examine
from jaxcheck.evidence import batched
from jaxcheck.evidence.points import Batch, collect
from jaxcheck.evidence.prepare import Preface, prepare
from jaxcheck.options import Exhaustive, Sketch, Tolerance
from jaxcheck.program.calm import calmly
from jaxcheck.result import LeafResult, Point, Report, Verdict
from jaxcheck.settings import Settings

# Failing points that are examined one by one for the report; the others are counted and listed.
EXAMINED = 8


@calmly
def check_batch(
    loss: Callable,
    points: Any = None,
    grad: Any = None,
    *,
    init: Callable | None = None,
    n: int | None = None,
    train_step: Callable | None = None,
    steps: Sequence[int] | None = None,
    args: tuple = (),
    has_aux: bool = False,
    mode: Exhaustive | Sketch | str | None = None,
    tolerance: Tolerance | None = None,
    must_catch: float = 1e-3,
    precision: str = "float64",
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

    Returns:
        A `Report` whose leaves hold the worst over the points, whose `points` name the failing ones
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
             "tolerance": tolerance is not None, "must_catch": must_catch != 1e-3,
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
    table = batched.measure(problem, batch.theta_rows(problem), settings.seed, _directions(settings))
    clear = batched.clear(table, settings.tolerance.rtol, settings.tolerance.atol, settings.must_catch)
    return _report(batch, problem, preface, table, clear, alone, label, settings, start)


def _accepts(loss: Callable, tree: Any, args: Any) -> bool:
    """Whether the loss takes `tree` as its parameters, as far as shapes tell."""
    try:
        jax.eval_shape(lambda: loss(tree, *args))
    except Exception:
        try:
            loss(tree, *args)
        except Exception:
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
    worst = reports[order[0]]
    points = tuple(_point(batch, i, reports[i]) for i in order if reports[i].verdict is not Verdict.PASS)
    note = _shares([r.verdict for r in reports])
    return dataclasses.replace(
        worst, kind="check_batch", name=label, points=points, notes=(note, *worst.notes),
        evaluations=sum(r.evaluations for r in reports), compiled=sum(r.compiled for r in reports),
        seconds=time.perf_counter() - start)


def _badness(report: Report) -> tuple[int, float]:
    rank = {Verdict.FAIL: 2, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 0}[report.verdict]
    return rank, float(np.nan_to_num(report.difference, nan=np.inf))


def _shares(verdicts: Sequence[Verdict]) -> str:
    count = {v: sum(x is v for x in verdicts) for v in Verdict}
    return (f"{len(verdicts)} points: {count[Verdict.PASS]} pass, {count[Verdict.FAIL]} fail "
            f"({count[Verdict.FAIL] / len(verdicts):.1%}), {count[Verdict.INCONCLUSIVE]} inconclusive")


def _report(batch, problem, preface: Preface, table: batched.Table, clear, alone, label, settings, start) -> Report:
    """Examine the unclear points alone (the first few), settle the others by the batch's own numbers."""
    unclear = np.flatnonzero(~clear)
    order = unclear[np.argsort(-table.badness()[unclear], kind="stable")]
    verdicts = [Verdict.PASS] * len(batch)
    reports: dict[int, Report] = {}
    by_numbers = batched.fails(table, settings.tolerance.rtol, settings.tolerance.atol)
    if settings.surrogate:
        by_numbers[:] = False  # only a check of its own knows what is declared
    spent = compiled = 0
    examined = 0
    for index in order:
        # Gross failures of a kind already examined need no second opinion; anything doubtful gets one.
        if examined >= EXAMINED and by_numbers[index] and Verdict.FAIL in verdicts:
            verdicts[index] = Verdict.FAIL
            continue
        reports[index] = alone(int(index))
        verdicts[index] = reports[index].verdict
        spent += reports[index].evaluations
        compiled += reports[index].compiled
        examined += 1
    points = []
    for index in order:
        if verdicts[index] is Verdict.PASS:
            continue
        if index in reports:
            points.append(_point(batch, int(index), reports[index]))
        else:
            leaf = problem.theta.leaves[int(np.nanargmax(np.nan_to_num(table.difference_a[index], nan=0.0)))].path
            points.append(Point(int(index), batch.labels[index], verdicts[index], float(table.whole[index]), leaf,
                                batch.lines[index]))
    best = alone(0) if not reports else max(reports.values(), key=_badness)
    compiled += best.compiled if not reports else 0
    # A report that stopped early (a loss that is NaN) has no leaves.
    leaves = tuple(_leaf(leaf, best, table, k) for k, leaf in enumerate(problem.theta.leaves)) if best.leaves else ()
    notes = [_shares(verdicts)]
    if points:
        notes.append(f"worst: {points[0].label}, at leaf `{points[0].leaf}`")
    notes += [_statistics(leaf.path, table.difference[:, k]) for k, leaf in enumerate(problem.theta.leaves)][:20]
    return dataclasses.replace(
        best, kind="check_batch", name=label, leaves=leaves, points=tuple(points), notes=(*notes, *preface.notes),
        mode="sketch", why_mode="many points share one program",
        difference=float(np.nanmax(table.whole)) if np.isfinite(table.whole).any() else best.difference,
        evaluations=table.evaluations + spent, compiled=table.compiled + compiled,
        seconds=time.perf_counter() - start)


def _leaf(leaf, best: Report, table, k: int) -> LeafResult:
    worst = float(np.nanmax(table.difference[:, k])) if np.isfinite(table.difference[:, k]).any() else float("nan")
    return dataclasses.replace(best.leaf(leaf.path), difference=worst)


def _statistics(path: str, values: np.ndarray) -> str:
    good = values[np.isfinite(values)]
    if not good.size:
        return f"`{path}`: no finite difference at any point"
    return (f"`{path}`: difference median {np.median(good):.1e}, 99 % {np.quantile(good, 0.99):.1e}, "
            f"largest {good.max():.1e}")


check_batch.__module__ = "jaxcheck"
