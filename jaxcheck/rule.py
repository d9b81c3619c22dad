"""The front door for custom rules: the rule against differences and autodiff, its laws, its transformations."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from jaxcheck import as_run, limits_maps
from jaxcheck.bars import SYMMETRIC
from jaxcheck.door import door
from jaxcheck.engine import examine
from jaxcheck.evidence import derivatives, maps
from jaxcheck.evidence.algebra import laws
from jaxcheck.evidence.prepare_rule import (
    HIDDEN,
    KeepsTracer,
    Subject,
    finite_outputs,
    name_of,
    prepare_rule,
    second_order,
    second_order_forward,
    subject,
)
from jaxcheck.evidence.transforms import transformations
from jaxcheck.evidence.user import first_line
from jaxcheck.judgement.maps import Finding, judge
from jaxcheck.options import Exhaustive, Sketch, Tolerance
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.converge import iterates
from jaxcheck.program.objective import holds_numpy_data
from jaxcheck.result import NAN, Reason, Report, Row, Verdict
from jaxcheck.settings import Settings

FIRST = {"JVP": "JVP", "VJP": "VJP"}
SECOND = {"JVP": "forward over reverse", "VJP": "reverse over reverse"}
SECOND_FORWARD = {"JVP": "forward over forward"}


@door
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
    seed: int = 0,
    name: str | None = None,
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
        mode, tolerance, must_catch, precision, seed, name: as in `check_grad`.

    Returns:
        A `Report`: one leaf per differentiable argument leaf, and rows for the forward mode, the
        second order, the laws and the transformations (status OK, WRONG or UNSUPPORTED).

    Raises:
        TypeError: `f` is not callable, or has no differentiable input or output.
        ValueError: an option is out of range.
        Whatever `f` raises when it is called.
    """
    start = time.perf_counter()
    settings = Settings.make(mode, tolerance, must_catch, surrogate, seed, precision)
    if order not in (1, 2):
        raise ValueError(f"order={order!r}: use 1 or 2")
    try:
        one = subject(f, tuple(args), dict(kwargs or {}), argnums, precision, name)
    except KeepsTracer as why:
        return Report("check_rule", name_of(f, name), Verdict.INCONCLUSIVE, Reason.NONDETERMINISTIC, notes=(str(why),),
                      seed=settings.seed, seconds=time.perf_counter() - start)
    problem, preface = prepare_rule(one, settings.seed, precision)
    if not preface.repeatable:
        return examine(problem, preface, settings, kind="check_rule", name=one.name, start=start)
    # Called outside of a trace of ours, in the 64-bit mode, `f` would meet its own NumPy data as JAX remembers it.
    wide = not holds_numpy_data(one.primal)
    rows: list[Row] = list(_forward(one, settings))
    if order == 2 and not surrogate:
        rows += _second(one, settings)
    if algebra and not surrogate:
        rows += laws(one.f, one.args, one.kwargs, argnums=one.argnums, seed=settings.seed, wide=wide)
    if transforms and not surrogate:
        rows += transformations(one.f, one.args, one.kwargs, argnums=one.argnums, seed=settings.seed, wide=wide,
                                iterative=iterates(one.primal.closed))
    rows = [_named(_asked(row, order), one) for row in rows]
    found = tuple(f"{r.name} ({r.kind}, {r.file}:{r.line})" for r in one.rules if r.origin != "jax")
    if found:
        preface = dataclasses.replace(preface, notes=(*preface.notes, "Rules inside: " + "; ".join(found[:6])))
    preface = dataclasses.replace(preface, notes=(*preface.notes, *_counted(rows)))
    if problem.manual is None:
        return _without_reverse(one, preface, rows, settings, start)
    try:
        report = ask(examine, problem, preface, settings, kind="check_rule", name=one.name, start=start,
                     rows=tuple(rows))
    except Refused as no:
        report = _unjudged(one, preface, rows, settings, f"the rule itself could not be run: {first_line(no.error)}",
                           Verdict.INCONCLUSIVE, Reason.UNDIFFERENTIABLE)
    if report.reason is Reason.NONFINITE and not report.leaves:
        report = _finite_part(one, preface, settings, report)
    return _with_rows(report, start)


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


def _without_reverse(one: Subject, preface, rows, settings, start) -> Report:
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
    return _with_rows(_unjudged(one, preface, rows, settings, why, verdict, reason), start)


def _unjudged(one: Subject, preface, rows, settings, why: str, verdict: Verdict, reason: Reason) -> Report:
    """A report without leaves: the rows are all there is."""
    return Report("check_rule", one.name, verdict, reason, witnesses=preface.witnesses, carried=one.theta.carried,
                  rows=tuple(rows), notes=(why, *preface.notes), seed=settings.seed)


def _with_rows(report: Report, start: float) -> Report:
    """The worst of the leaves and the rows; the leaves name the reason when both are wrong."""
    reasons = {"forward": Reason.MANUAL_WRONG, "forward as run": Reason.PRECISION_WRONG,
               "second order": Reason.SECOND_ORDER_WRONG, "law": Reason.LAW_BROKEN,
               "transformation": Reason.TRANSFORM_WRONG}
    wrong = [r for r in report.rows if r.status == "WRONG"]
    verdict, reason = report.verdict, report.reason
    silent = verdict is Verdict.INCONCLUSIVE and reason is Reason.NONFINITE  # no rule can be finite there
    if wrong and verdict is not Verdict.FAIL and not silent:
        groups = [g for g in reasons if any(r.group == g for r in wrong)]
        verdict, reason = Verdict.FAIL, reasons[groups[0]]
    if verdict is Verdict.PASS and not report.leaves and all(r.status == "UNSUPPORTED" for r in report.rows):
        verdict, reason = Verdict.INCONCLUSIVE, Reason.UNDIFFERENTIABLE  # nothing was judged
    return dataclasses.replace(report, verdict=verdict, reason=reason, seconds=time.perf_counter() - start)


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


def _forward(one: Subject, settings: Settings) -> list[Row]:
    try:
        made = ask(derivatives.make, "", one.primal, one.point, ("fwd",), first_order=True)
    except Refused as no:
        return [Row("forward", "JVP", "UNSUPPORTED", NAN, first_line(no.error))]
    if settings.surrogate:
        return []
    rows, evidence = _rows("forward", made, settings, FIRST)
    bounds = settings.tolerance.bound, settings.tolerance.atol
    if one.native is None or any(r.status != "OK" for r in rows):
        return rows
    found = as_run.of_map(
        made, lambda: derivatives.make("", one.native, one.point, ("fwd",), first_order=True, precision="native"),
        judge(evidence, *bounds), *bounds, settings.seed, one.native.unit)
    return [*rows, *(_row("forward as run", f.what, f) for f in found if f.reason is Reason.PRECISION_WRONG)]


def _second(one: Subject, settings: Settings) -> list[Row]:
    rows = []
    forward, why = second_order_forward(one)
    if forward is not None:
        rows += _rows("second order", forward, settings, SECOND_FORWARD)[0]
    elif why:
        rows.append(Row("second order", SECOND_FORWARD["JVP"], "UNSUPPORTED", NAN, why))
    made, why = second_order(one)
    if made is None:
        return [*rows, Row("second order", "derivative of the gradient", "UNSUPPORTED", NAN, why)]
    real = not any(np.iscomplexobj(x) for x in one.point)
    found, evidence = _rows("second order", made, settings, SECOND, symmetric=real)
    known = real and evidence.pulled is not None and np.isfinite(evidence.outputs).all()
    return [*rows, *found, *([_symmetry(made, evidence, settings)] if known else [])]


def _symmetry(one: maps.Map, evidence: maps.MapEvidence, settings: Settings) -> Row:
    """u . H v = v . H u for two directions, H the derivative of the rule's own gradient (Schwarz)."""
    gap, detail = _asymmetry(evidence), ""
    if not gap <= SYMMETRIC and limits_maps.stops(one):
        (limit,), _ = maps.measure(limits_maps.at_limit([one]), settings.seed, symmetric=True)
        gap, detail = _asymmetry(limit), f"at the loop's limit; as stopped: {gap:.1g}"
    status = "OK" if gap <= SYMMETRIC else "WRONG"
    return Row("second order", "Hessian symmetry", status, gap,
               detail if status == "OK" else "u.Hv differs from v.Hu")


def _asymmetry(evidence: maps.MapEvidence) -> float:
    with np.errstate(all="ignore"):
        m = len(evidence.outputs)  # the inputs that come first; what varies beside them is the cotangent
        products = evidence.pulled[:, :m] @ evidence.directions[:, :m].T
        size = np.sqrt(np.abs(products[0, 0] * products[1, 1])) + np.abs(products).max()
        return float(abs(products[0, 1] - products[1, 0]) / size) if size else 0.0


def _rows(group: str, one: maps.Map, settings: Settings, titles: dict[str, str], symmetric: bool = False):
    """(rows, evidence) of one map."""
    def measure(those):
        return maps.measure(those, settings.seed, symmetric=symmetric)[0]

    def judged(ev, rtol):
        return judge(ev, rtol, settings.tolerance.atol)

    rtol = settings.tolerance.bound
    (evidence,) = measure([one])
    (findings,) = limits_maps.second_opinions([one], [evidence], [judged(evidence, rtol)], measure, judged, rtol)
    return [_row(group, titles[f.what], f) for f in findings], evidence


def _row(group: str, title: str, finding: Finding) -> Row:
    status = {Verdict.PASS: "OK", Verdict.FAIL: "WRONG"}.get(finding.verdict, "UNSUPPORTED")
    detail = finding.note or (finding.reason.name.lower() if finding.reason is not Reason.AGREE else "")
    detail = "; ".join(x for x in (detail, finding.left_out) if x)
    if finding.verdict is Verdict.FAIL:
        where = f"output {finding.output}" if finding.output >= 0 else "projection"
        numbers = f"{where}: {finding.claimed:.9g} against {finding.reference:.9g}"
        detail = f"{numbers}; {finding.note}" if finding.reason is Reason.PRECISION_WRONG else numbers
    return Row(group, title, status, finding.difference, detail)


check_rule.__module__ = "jaxcheck"
