"""The front door for custom rules: the rule against differences and autodiff, its laws, its transformations."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

from jaxcheck.arguments import refuse_all_in_one
from jaxcheck.budget import TELLING, current, running, until_stopped
from jaxcheck.door import door
from jaxcheck.engine import examine
from jaxcheck.evidence.algebra import laws
from jaxcheck.evidence.prepare_rule import (
    HIDDEN,
    KeepsTracer,
    Subject,
    finite_outputs,
    name_of,
    prepare_rule,
    subject,
)
from jaxcheck.evidence.transforms import transformations
from jaxcheck.evidence.user import first_line
from jaxcheck.minimise import minimisable
from jaxcheck.notebook import cell
from jaxcheck.options import Exhaustive, Sketch, Tolerance
from jaxcheck.program import hosts, spread
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.converge import iterates
from jaxcheck.program.objective import holds_numpy_data
from jaxcheck.result import NAN, Reason, Report, Row, Verdict
from jaxcheck.rule_rows import forward, second
from jaxcheck.settings import Settings
from jaxcheck.stopping import finished, unprepared
from jaxcheck.where import blamed

# What a check by default is to take, in seconds; and what the transformations and dtypes take, in units of what the
# rule against differences and autodiff took before them: from 2 to 4 for ordinary rules, of which it takes a second at
# most, and up to 12 where a solver's loop is compiled over and over.
FITS, TRANSFORMS = 10, 4
# Derivatives that the laws and the transformations take, as a part of one program each: a quarter of what is usual.
LEAST = {"law": 6, "transformation": 12}
QUICK = 'level="quick": the transformations, dtypes and the second order were not looked at'
NO_TIME = "not looked at"


@door
@minimisable("args", "kwargs")
def check_rule(
    f: Callable[..., Any],
    *args: Any,
    kwargs: dict[str, Any] | None = None,
    argnums: Any = None,
    order: int = 1,
    mode: Exhaustive | Sketch | Literal["exhaustive", "sketch"] | None = None,
    tolerance: Tolerance | float | None = None,
    must_catch: float | None = None,
    precision: Literal["float64", "native"] = "float64",
    surrogate: bool = False,
    algebra: bool = True,
    transforms: bool = True,
    level: Literal["quick", "full"] | None = None,
    seed: int = 0,
    name: str | None = None,
    budget: float | None = 60.0,
    progress: Callable[..., Any] | bool | None = None,
    devices: Any = None,
    where: bool = True,
) -> Report:
    """Check the custom rules inside `f` at `args`: custom_vjp, custom_jvp and what is built on them.

    The rule's VJP is checked for several cotangents of mixed signs (every output when there are few)
    against differences in float64 and against autodiff of `f` without the rule; its JVP, where it has
    one, against both; then the laws that every rule obeys, and its behaviour under transformations.

    Args:
        f: function of pytrees to a pytree. Integer, bool, key and None leaves, and arguments that the
            rule declares non-differentiable, are carried along.
        args: positional arguments of `f`.
        kwargs: keyword arguments of `f`.
        argnums: the arguments to differentiate; default all that can be.
        order: 2 checks the derivative of the rule's own result as well.
        surrogate: the rule differs from the derivative on purpose (straight-through, clipping):
            structure, finiteness and repeatability only.
        algebra, transforms: whether to test the laws and the transformations.
        level: "quick" is the rule against differences and autodiff, and its laws; "full" adds the transformations and
            dtypes, and the second order where `order` asks for it. None: full, but for a rule so slow that the
            transformations would not fit into some 10 s; the report says so then.
        mode, tolerance, must_catch, precision, seed, name, budget, progress, devices, where: as in `check_grad`.

    Returns:
        A `Report`: one leaf per differentiable argument leaf, and rows for the forward mode, the
        second order, the laws and the transformations (status OK, WRONG or UNSUPPORTED).

    Raises:
        TypeError: `f` is not callable, or has no differentiable input or output.
        ValueError: an option is out of range.
        Whatever `f` raises when it is called.
    """
    settings = Settings.make(mode, tolerance, must_catch, surrogate, seed, precision)
    refuse_all_in_one(f, args, kwargs or {})
    if order not in (1, 2):
        raise ValueError(f"order={order!r}: use 1 or 2")
    if level not in (None, "quick", "full"):
        raise ValueError(f'level={level!r}: use "quick", "full", or None for what fits into {FITS} s')
    if level == "quick" and order == 2:
        raise ValueError('order=2 is part of level="full"; leave level out, or order')
    groups = (
        set()
        if surrogate
        else {
            name
            for name, wanted in (
                ("second order", order == 2),
                ("law", algebra),
                ("transformation", transforms and level != "quick"),
            )
            if wanted
        }
    )
    with running(budget, hosts.watch(progress)), spread.over(devices, args, kwargs):
        report = None
        with until_stopped():
            report = _check(f, tuple(args), dict(kwargs or {}), argnums, order, settings, groups, level, name, where)
        if report is None:
            report = unprepared("check_rule", name_of(f, name), args, settings.seed)
        return hosts.same(finished(report, f))


def _check(
    f: Callable,
    args,
    kwargs,
    argnums,
    order: int,
    settings: Settings,
    groups: set[str],
    level: str | None,
    name: str | None,
    where: bool,
) -> Report:
    start = time.perf_counter()
    try:
        one = subject(f, args, kwargs, argnums, settings.precision, name)
    except KeepsTracer as why:
        return Report(
            "check_rule",
            name_of(f, name),
            Verdict.INCONCLUSIVE,
            Reason.NONDETERMINISTIC,
            notes=(str(why),),
            seed=settings.seed,
        )
    problem, preface = prepare_rule(one, settings.seed, settings.precision)
    if preface.random:
        return examine(problem, preface, settings, kind="check_rule", name=one.name, start=start)
    # First what is most worth knowing: the rule against differences and autodiff.
    runs = problem.manual is not None or problem.host_manual is not None
    report = _examined(one, problem, preface, settings, start) if runs else None
    if where and report is not None and problem.manual is not None:
        with hosts.by_itself():
            report = blamed(report, problem, rules=True)
    notes = [QUICK] if level == "quick" else []
    if level is None and "transformation" in groups and (too_long := TRANSFORMS * current().worked) > FITS:
        groups = groups - {"transformation"}
        notes = [
            f'level="quick" was chosen: by what its first programs took, the transformations and dtypes would '
            f'take some {too_long:.0f} s, and were not looked at; level="full" adds them'
        ]
    rows, left_out = _rows(one, settings, groups)
    rows = [_named(_asked(row, order), one) for row in rows]
    found = tuple(f"{r.name} ({r.kind}, {cell(r.file)}:{r.line})" for r in one.rules if r.origin != "jax")
    if found:
        notes.append("Rules inside: " + "; ".join(found[:6]))
    notes += _counted(rows)
    if report is None:
        preface = dataclasses.replace(preface, notes=(*preface.notes, *notes))
        report = _without_reverse(one, preface, rows, settings)
    else:
        report = dataclasses.replace(report, rows=tuple(rows), notes=(*report.notes, *notes))
    report = _with_rows(report, left_out)
    if where and report.reason is Reason.SECOND_ORDER_WRONG:
        with hosts.by_itself():
            report = blamed(report, problem, rules=True)
    return report


def _examined(one: Subject, problem, preface, settings: Settings, start: float) -> Report:
    """The rule against differences and autodiff."""
    try:
        report = ask(examine, problem, preface, settings, kind="check_rule", name=one.name, start=start)
    except Refused as no:
        report = _unjudged(
            one,
            preface,
            (),
            settings,
            f"the rule itself could not be run: {first_line(no.error)}",
            Verdict.INCONCLUSIVE,
            Reason.UNDIFFERENTIABLE,
        )
    if report.reason is Reason.NONFINITE and not report.leaves:
        report = _finite_part(one, preface, settings, report)
    return report


def _least(group: str) -> float:
    """Seconds that a group's programs take at least, where one evaluation was timed and takes long."""
    each = current().pair_seconds
    return each * LEAST.get(group, 0) if each > TELLING else 0.0


def _rows(one: Subject, settings: Settings, groups: set[str]) -> tuple[list[Row], bool]:
    """The rows of the forward mode and of `groups`, and whether time left any of them out: what comes first in the
    report need not be what is looked at first."""
    # Called outside of a trace of ours, in the 64-bit mode, `f` would meet its own NumPy data as JAX remembers it.
    given: dict[str, Any] = dict(argnums=one.argnums, seed=settings.seed, wide=not holds_numpy_data(one.primal))
    looks = {
        "forward": ("JVP", lambda: forward(one, settings)),
        "law": ("laws", lambda: laws(one.f, one.args, one.kwargs, **given)),
        "second order": ("derivative of the gradient", lambda: second(one, settings)),
        "transformation": (
            "transformations",
            lambda: transformations(one.f, one.args, one.kwargs, iterative=iterates(one.primal.closed), **given),
        ),
    }
    found, left_out = {}, False
    for group, (title, look) in looks.items():
        if group == "forward" or group in groups:
            current().tell(title)
            with until_stopped():
                current().ask(seconds=_least(group))
                found[group] = list(look())
            if group not in found:
                found[group], left_out = [Row(group, title, "UNSUPPORTED", NAN, NO_TIME)], True
    order = ("forward", "second order", "law", "transformation")
    return [row for group in order for row in found.get(group, ())], left_out


def _finite_part(one: Subject, preface, settings: Settings, whole: Report) -> Report:
    """The check of the outputs that are finite, where some are infinite by design (masks); `whole` where none
    is, or where the derivative is not finite either."""
    finite = finite_outputs(one)
    if not finite.any() or finite.all():
        return whole
    problem, masked = prepare_rule(one, settings.seed, settings.precision, finite)
    said = masked.notes[-1:] if masked.left_out else ()
    masked = dataclasses.replace(masked, notes=(*said, *preface.notes))
    report = examine(problem, masked, settings, kind="check_rule", name=one.name, start=0.0, rows=whole.rows)
    return whole if report.reason is Reason.NONFINITE else report


def _counted(rows: list[Row]) -> list[str]:
    """How many laws and transformations were run, where it is not all of them; what was not run holds nothing."""
    notes = []
    for group, plural in (("law", "laws"), ("transformation", "transformations")):
        mine = [r for r in rows if r.group == group]
        missing = [r.name for r in mine if r.status == "UNSUPPORTED"]
        if missing:
            notes.append(f"{len(mine) - len(missing)} of {len(mine)} {plural} run; not run: {', '.join(missing)}")
    return notes


def _without_reverse(one: Subject, preface, rows, settings) -> Report:
    """A function that only forward mode can differentiate: the forward rows decide."""
    forward = [r for r in rows if r.group == "forward"]
    good = any(r.status == "OK" for r in forward)
    verdict, reason = (Verdict.PASS, Reason.AGREE) if good else (Verdict.INCONCLUSIVE, Reason.UNDIFFERENTIABLE)
    if not good and preface.witnesses[2].how != "absent":
        # Without the rule JAX differentiates it; so it is the rule that raises.
        verdict, reason = Verdict.FAIL, Reason.STRUCTURE
    why = preface.witnesses[0].note
    if why == HIDDEN or any(r.name == "no hidden state" and r.status == "WRONG" for r in rows):
        verdict, reason = Verdict.FAIL, Reason.LAW_BROKEN
        why = why if why == HIDDEN else f"{HIDDEN} ({why})"
    else:
        why = f"no reverse mode: {why}"
    return _unjudged(one, preface, rows, settings, why, verdict, reason)


def _unjudged(one: Subject, preface, rows, settings, why: str, verdict: Verdict, reason: Reason) -> Report:
    """A report without leaves: the rows are all there is."""
    return Report(
        "check_rule",
        one.name,
        verdict,
        reason,
        witnesses=preface.witnesses,
        carried=one.theta.carried,
        rows=tuple(rows),
        notes=(why, *preface.notes),
        seed=settings.seed,
    )


def _with_rows(report: Report, left_out: bool) -> Report:
    """The worst of the leaves and the rows; the leaves name the reason when both are wrong. Rows that time left out
    leave it open."""
    reasons = {
        "forward": Reason.MANUAL_WRONG,
        "forward as run": Reason.PRECISION_WRONG,
        "second order": Reason.SECOND_ORDER_WRONG,
        "law": Reason.LAW_BROKEN,
        "transformation": Reason.TRANSFORM_WRONG,
    }
    wrong = [r for r in report.rows if r.status == "WRONG"]
    verdict, reason = report.verdict, report.reason
    silent = verdict is Verdict.INCONCLUSIVE and reason is Reason.NONFINITE  # no rule can be finite there
    if wrong and verdict is not Verdict.FAIL and not silent:
        groups = [g for g in reasons if any(r.group == g for r in wrong)]
        verdict, reason = Verdict.FAIL, reasons[groups[0]]
    if verdict is Verdict.PASS and not report.leaves and all(r.status == "UNSUPPORTED" for r in report.rows):
        verdict, reason = Verdict.INCONCLUSIVE, Reason.UNDIFFERENTIABLE  # nothing was judged
    if left_out and verdict is Verdict.PASS:
        verdict, reason = Verdict.INCONCLUSIVE, Reason.INTERRUPTED
    return dataclasses.replace(report, verdict=verdict, reason=reason)


def _asked(row: Row, order: int) -> Row:
    """At order 1 a wrong second derivative is told, not held against the rule."""
    if row.status != "WRONG" or row.order == 1:
        return row
    if order == 1:
        return dataclasses.replace(row, status="UNSUPPORTED", detail=row.detail + " (not asked for: order=1)")
    return dataclasses.replace(row, group="second order")


def _named(row: Row, one: Subject) -> Row:
    """Arguments by their names, as in the table of leaves."""
    detail = row.detail
    for i, name in enumerate(one.names):
        detail = detail.replace(f"`args[{i}]", f"`{name}")
    return dataclasses.replace(row, detail=detail)


check_rule.__module__ = "jaxcheck"
