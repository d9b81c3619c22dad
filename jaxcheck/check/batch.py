"""Many points at once: seeds, initialisations, checkpoints, in one compiled, vmapped program."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxcheck import bars
from jaxcheck.budget import SECONDS, current, running, until_stopped
from jaxcheck.check import batch_numbers, batch_report
from jaxcheck.check.arguments import AS_THE_LOSS, Called, beside, first_and
from jaxcheck.check.door import door
from jaxcheck.check.engine import examine
from jaxcheck.check.resume import Call, Resumed, resuming
from jaxcheck.check.settings import Settings
from jaxcheck.check.stopping import finished
from jaxcheck.evidence import as_run, batched, batched_beside, batched_pieces, batched_sides
from jaxcheck.options import Exhaustive, Sketch, Tolerance
from jaxcheck.problem.of_loss import prepare
from jaxcheck.problem.points import Batch, collect
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.refused import refuse_tracing
from jaxcheck.problem.run import Run
from jaxcheck.problem.subject import name_of
from jaxcheck.problem.user import copies, refuse_no_tuple, to_array
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.run import hosts, spread
from jaxcheck.result import Reason, Report, Verdict
from jaxcheck.theta import argument_paths, no_leaf, take_apart
from jaxcheck.tracebacks import OnError


@door
def check_batch(
    loss: Callable[..., Any],
    points: Any = None,
    grad: Any = None,
    *,
    init: Callable[[Any], Any] | None = None,
    n: int | None = None,
    train_step: Callable[[Any], Any] | None = None,
    steps: Sequence[int] | None = None,
    args: Sequence[Any] = (),
    has_aux: bool = False,
    mode: Sketch | Literal["sketch"] | None = None,
    tolerance: Tolerance | float | None = None,
    must_catch: float | None = None,
    precision: Literal["float64", "native"] = "float64",
    surrogate: Any = False,
    seed: int = 0,
    name: str | None = None,
    budget: float | None = SECONDS,
    progress: Callable[..., Any] | bool | None = None,
    resume: str | os.PathLike[str] | None = None,
    devices: Any = None,
) -> Report:
    """Check a gradient at many points in one program.

    Args:
        loss, grad, args, has_aux and the options below: as in `check_grad`; kwargs, argnums and where are its alone.
        points: a pytree with a leading axis on every leaf; or a list of pytrees (a tuple that could be either is one).
        init, n: in place of `points`: `init(key) -> params`, drawn n times from `seed`.
        train_step, steps: `train_step(params) -> params`, from `init` or from `points` as one pytree; the points are
            the parameters after each number of steps, e.g. steps=[0, 100].

    Each point gets random directions along every leaf; one that does not clearly agree is checked again alone.
    What rounding, overflow and underflow do to the run in the caller's dtypes is looked at where a point is checked
    alone, at the first and the worst one at least. Where the `budget` ends, or Ctrl-C is pressed, the points that
    were not looked at are INCONCLUSIVE.

    Returns:
        A `Report` of the worst point (`report.point`), whose `points` name those that did not pass
        (worst first) with a line that reproduces each, and whose notes give shares and statistics.

    Raises:
        TypeError, ValueError, OSError: as `check_grad`; the points do not stack; or mode="exhaustive".
    """
    refuse_no_tuple(args)
    refuse_tracing(points=points, args=args)
    settings = Settings.make(mode, tolerance, must_catch, surrogate, seed, precision)
    if isinstance(settings.mode, Exhaustive):
        raise ValueError("check_batch looks along random directions; use mode=Sketch(...) or leave mode out")
    # The line names the caller's own arguments; only what differs from the defaults is repeated.
    given = {
        "grad": grad is not None,
        "args": bool(args),
        "has_aux": has_aux,
        "mode": mode is not None,
        "tolerance": tolerance is not None,
        "must_catch": must_catch is not None,
        "precision": precision != "float64",
        "surrogate": surrogate is not False,
        "seed": seed != 0,
    }
    more = "".join(f", {key}={key}" for key, wanted in given.items() if wanted)
    with (
        running(budget, hosts.watch(progress)) as clock,
        spread.over(devices, args, points=points),
        resuming(resume, clock) as file,
    ):
        report = None
        with until_stopped(), Called(beside, (loss, grad), first_and(points, args), of_others=AS_THE_LOSS):
            with Called(lambda names: "init takes a key, train_step the parameters", (init, train_step), (points,)):
                batch = collect(points, init, n, train_step, steps, seed, lambda tree: _accepts(loss, tree, args))
            batch = dataclasses.replace(
                batch, lines=tuple(f"jaxcheck.check_grad(loss, {x}{more})" for x in batch.lines)
            )
            report = _check(loss, batch, grad, tuple(args), has_aux, settings, name, file)
        if report is None:
            report = Report(
                "check_batch", name_of(loss, name), Verdict.INCONCLUSIVE, Reason.INTERRUPTED, seed=settings.seed
            )
        if file.answered:
            return report
        return hosts.same(file.after(finished(report, grad if callable(grad) else loss)))


def _check(
    loss: Callable,
    batch: Batch,
    grad: Any,
    args: tuple,
    has_aux: bool,
    settings: Settings,
    name: str | None,
    file: Resumed,
) -> Report:
    problem, preface = _first(loss, batch, grad, args, has_aux, settings.precision)
    label = name or preface.name
    points = batch.stacked if batch.listed is None else batch.listed
    call = Call(loss, grad, points, args, "check_batch")
    earlier = file.before(call, problem, preface, settings, name=label)
    if earlier is not None:
        return earlier

    def alone(index: int) -> Report | None:
        """None where the check was stopped before anything was known."""
        with until_stopped():
            current().ask()
            # The first point has been prepared already.
            one, front = (
                (problem, preface)
                if index == 0
                else prepare(loss, batch.tree(index), grad, args, has_aux, settings.precision)
            )
            title = f"{label} at {batch.labels[index]}"
            return examine(one, front, settings, kind="check_grad", name=title, start=time.perf_counter())
        return None

    batch.refuse_others(problem.theta)
    alike = problem.manual is not None and batch.alike(problem)
    if problem.primal is None or not alike or preface.structure or preface.random:
        return batch_report.one_by_one(batch, alone, label, settings)
    numbers = _numbers(problem, preface.run, batch.theta_rows(problem), settings)
    return batch_report.settled(batch, problem, numbers, alone, label, settings, preface.run is not None)


def _numbers(problem: Problem, run: Run | None, rows: np.ndarray, settings: Settings) -> batch_numbers.Numbers:
    """What one program says of all points, and one of the path that is run where that is another."""
    directions, path = _directions(settings), None
    table = batched.measure(problem, rows, settings.seed, directions)
    table, clear = _beside_kinks(problem, rows, table, settings, directions)
    if run is not None and not problem.is_autodiff and not as_run.one_formula(problem, run):
        other = as_run.without_rounding(problem, run)
        if other is not None:
            path = batched.measure(other, rows[: len(clear)], settings.seed, directions)
            table, clear = batched.first(table, len(path.whole)), clear[: len(path.whole)]
            granted = max(settings.tolerance.bound, bars.CONSTANTS * run.unit)
            clear &= batched.clear(
                path, Tolerance(granted, settings.tolerance.atol), max(settings.must_catch, 2 * granted), sharp=False
            )
    return batch_numbers.judged(problem, rows, table, path, clear, settings, directions, batch_report.EXAMINED)


def _beside_kinks(
    problem: Problem, rows: np.ndarray, table: batched.Table, settings: Settings, directions: int
) -> tuple[batched.Table, np.ndarray]:
    """(the table with what this took, which points plainly pass), those on a kink looked at from the side: another
    choice than autodiff's is right there where it is that of an adjacent piece."""

    def seen(adjacent: np.ndarray | None = None) -> np.ndarray:
        return batched.clear(table, settings.tolerance, settings.must_catch, problem.sharp, adjacent)

    clear, on_kinks = seen(), table.kink.any(axis=1) & table.finite
    if problem.autodiff is None or not on_kinks.any():
        return table, clear
    kinked = np.flatnonzero(~clear & on_kinks)
    with until_stopped():
        if len(kinked):
            adjacent, granted = np.zeros(len(clear), bool), settings.tolerance.between_programs(problem.sharp)
            adjacent[kinked], more, new = batched_sides.adjacent(problem, rows[kinked], granted, settings.seed)
            table, clear = _having_taken(table, more, new), seen(adjacent)
        if (clear & on_kinks).any():
            off, beside = batched_beside.contradicted(
                problem, rows[: len(clear)], table, clear & on_kinks, settings.seed, directions
            )
            table, clear = _having_taken(table, beside.evaluations, beside.compiled), clear & ~off
        left = np.flatnonzero(clear & on_kinks)
        if len(left):
            granted = settings.tolerance.between_programs(problem.sharp)
            off, more, new = batched_pieces.outside(problem, rows[left], granted, settings.seed)
            table, clear[left] = _having_taken(table, more, new), ~off
    return table, clear


def _having_taken(table: batched.Table, evaluations: int, compiled: int) -> batched.Table:
    return dataclasses.replace(table, evaluations=table.evaluations + evaluations, compiled=table.compiled + compiled)


def _first(loss: Callable, batch: Batch, grad: Any, args: tuple, has_aux: bool, precision: str) -> Any:
    theta = take_apart(batch.tree(0), "points[0]")
    if not theta.leaves:
        raise no_leaf(theta, "points has no differentiable leaf (float or complex); it holds")
    with OnError(lambda error: _one_point(error, loss, batch, args)):
        return prepare(loss, batch.tree(0), grad, args, has_aux, precision)


def _one_point(error: Exception, loss: Callable, batch: Batch, args: tuple) -> None:
    """What to write, where a loss that fails at a row of `points` takes them whole."""
    if batch.stacked is not None and _accepts(loss, batch.stacked, args):
        error.add_note(
            "the loss takes points as they are, which is one point: check_grad checks one; several are stacked along "
            "a new leading axis of every leaf, or go into a list"
        )


def _accepts(loss: Callable, tree: Any, args: Any) -> bool:
    """Whether the loss takes `tree` as its parameters, as far as shapes tell."""
    theta, rest = take_apart(tree), take_apart(tuple(args), "args", argument_paths(args), differentiated=False)
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


check_batch.__module__ = "jaxcheck"
