"""The front door for custom rules: the rule against differences and autodiff, its laws, its transformations."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

from jaxcheck.budget import SECONDS, TELLING, current, running, until_stopped
from jaxcheck.check.arguments import Called, refuse_all_in_one, refuse_no_dict
from jaxcheck.check.door import door
from jaxcheck.check.engine import examine
from jaxcheck.check.laws.algebra import laws
from jaxcheck.check.minimise import minimisable
from jaxcheck.check.rule_report import as_asked, counted, named, unjudged, with_rows, without_reverse
from jaxcheck.check.rule_rows import forward, second
from jaxcheck.check.settings import Settings
from jaxcheck.check.stopping import finished, unprepared
from jaxcheck.check.transforms.compared import transformations
from jaxcheck.check.where import blamed
from jaxcheck.notebook import cell
from jaxcheck.options import Exhaustive, Sketch, Tolerance
from jaxcheck.problem.of_rule import prepare_rule
from jaxcheck.problem.preface import Preface
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.subject import KeepsTracer, Subject, finite_outputs, name_of, subject
from jaxcheck.problem.user import first_line
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.converge import iterates
from jaxcheck.program.objective import holds_numpy_data
from jaxcheck.program.run import hosts, spread
from jaxcheck.result import NAN, Reason, Report, Row, Verdict

# What a check by default is to take, in seconds; and what the transformations and dtypes take, in units of what the
# rule against differences and autodiff took before them: from 2 to 4 for ordinary rules, of which it takes a second at
# most, and up to 12 where a solver's loop is compiled over and over.
FITS, TRANSFORMS = 10, 4
# Derivatives that the laws and the transformations take, as a part of one program each: a quarter of what is usual.
LEAST = {"law": 6, "transformation": 12}
QUICK = 'level="quick": the transformations, dtypes and the second order were not looked at'
NO_TIME = "not looked at"


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What is looked at: which groups of rows, up to which order, at which level; and whether for the line to blame."""

    groups: set[str]
    order: int
    level: str | None
    where: bool | float


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
    surrogate: bool | Callable[[str], bool] = False,
    algebra: bool = True,
    transforms: bool = True,
    level: Literal["quick", "full"] | None = None,
    seed: int = 0,
    name: str | None = None,
    budget: float | None = SECONDS,
    progress: Callable[..., Any] | bool | None = None,
    devices: Any = None,
    where: bool | float = True,
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
        surrogate: True, or a function of the leaf path, for rules that differ from the derivative on purpose
            (straight-through, clipping): structure, finiteness and repeatability only. Where it holds for any leaf
            the laws, the transformations and the second order, which are those of the whole rule, are left out.
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
    kwargs = {} if kwargs is None else kwargs
    refuse_no_dict(kwargs, "f's")
    refuse_all_in_one(f, args, kwargs)
    if isinstance(order, bool) or order not in (1, 2):
        raise ValueError(f"order={order!r}: use 1 or 2")
    if level not in (None, "quick", "full"):
        raise ValueError(f'level={level!r}: use "quick", "full", or None for what fits into {FITS} s')
    if level == "quick" and order == 2:
        raise ValueError('order=2 is part of level="full"; leave level out, or order')
    wanted = {"second order": order == 2, "law": algebra, "transformation": transforms and level != "quick"}
    groups = {group for group, yes in wanted.items() if yes}
    with running(budget, hosts.watch(progress)), spread.over(devices, args, kwargs):
        report = None
        write = Called(lambda names: f"write check_rule(f, {', '.join(names)})", (f,), args, kwargs)
        with until_stopped(), write:
            asked = _Asked(groups, order, level, where)
            report = _check(f, tuple(args), dict(kwargs), argnums, name, settings, asked)
        if report is None:
            report = unprepared("check_rule", name_of(f, name), args, settings.seed)
        return hosts.same(finished(report, f))


def _check(
    f: Callable,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    argnums: Any,
    name: str | None,
    settings: Settings,
    asked: _Asked,
) -> Report:
    start = time.perf_counter()
    try:
        one = subject(f, args, kwargs, argnums, settings.precision, name)
    except KeepsTracer as why:
        said: dict[str, Any] = dict(verdict=Verdict.INCONCLUSIVE, reason=Reason.NONDETERMINISTIC, notes=(str(why),))
        return Report("check_rule", name_of(f, name), seed=settings.seed, **said)
    problem, preface = prepare_rule(one, settings.seed, settings.precision)
    settings = settings.asked_of(leaf.path for leaf in problem.theta.leaves)
    if settings.surrogate:
        asked = dataclasses.replace(asked, groups=set())
    if preface.random:
        return examine(problem, preface, settings, kind="check_rule", name=one.name, start=start)
    # First what is most worth knowing: the rule against differences and autodiff.
    runs = problem.manual is not None or problem.host_manual is not None
    report = _examined(one, problem, preface, settings, start) if runs else None
    if report is not None and problem.manual is not None:
        report = _blamed(report, problem, asked.where)
    groups, notes = _affordable(asked)
    rows, left_out = _rows(one, settings, groups)
    rows = [named(as_asked(row, asked.order), one) for row in rows]
    found = tuple(f"{r.name} ({r.kind}, {cell(r.file)}:{r.line})" for r in one.rules if r.origin != "jax")
    if found:
        notes.append("Rules inside: " + "; ".join(found[:6]))
    notes += counted(rows)
    if report is None:
        preface = dataclasses.replace(preface, notes=(*preface.notes, *notes))
        report = without_reverse(one, preface, rows, settings)
    else:
        report = dataclasses.replace(report, rows=tuple(rows), notes=(*report.notes, *notes))
    report = with_rows(report, left_out)
    return _blamed(report, problem, asked.where) if report.reason is Reason.SECOND_ORDER_WRONG else report


def _affordable(asked: _Asked) -> tuple[set[str], list[str]]:
    """The groups of rows to be looked at, and what is said of those that were left out."""
    if asked.level == "quick":
        return asked.groups, [QUICK]
    if asked.level is None and "transformation" in asked.groups and (too_long := TRANSFORMS * current().worked) > FITS:
        return asked.groups - {"transformation"}, [
            f'level="quick" was chosen: by what its first programs took, the transformations and dtypes would '
            f'take some {too_long:.0f} s, and were not looked at; level="full" adds them'
        ]
    return asked.groups, []


def _blamed(report: Report, problem: Problem, where: bool | float) -> Report:
    with hosts.by_itself():
        return blamed(report, problem, where, rules=True)


def _examined(one: Subject, problem: Problem, preface: Preface, settings: Settings, start: float) -> Report:
    """The rule against differences and autodiff."""
    try:
        report = ask(examine, problem, preface, settings, kind="check_rule", name=one.name, start=start)
    except Refused as no:
        return unjudged(one, preface, (), settings, f"the rule itself could not be run: {first_line(no.error)}")
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


def _finite_part(one: Subject, preface: Preface, settings: Settings, whole: Report) -> Report:
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


check_rule.__module__ = "jaxcheck"
