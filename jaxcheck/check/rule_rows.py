"""Rows of a rule's report that differences decide: its forward mode, and its second order."""

from __future__ import annotations

import re

import jax
import numpy as np

from jaxcheck.bars import ROUNDED, SYMMETRIC
from jaxcheck.check.doubts import again, as_run_maps, limits_maps
from jaxcheck.check.laws.rounding import rounding
from jaxcheck.check.settings import Settings
from jaxcheck.evidence import maps
from jaxcheck.judgement.maps import Finding, judge
from jaxcheck.problem import derivatives
from jaxcheck.problem.map import Map
from jaxcheck.problem.of_rule import second_order, second_order_forward
from jaxcheck.problem.real_view import from_vector
from jaxcheck.problem.subject import Subject
from jaxcheck.problem.user import first_line
from jaxcheck.program.ask import Refused, ask
from jaxcheck.result import NAN, Reason, Row, Verdict
from jaxcheck.there import there

FIRST = {"JVP": "JVP", "VJP": "VJP"}
SECOND = {"JVP": "forward over reverse", "VJP": "reverse over reverse"}
SECOND_FORWARD = {"JVP": "forward over forward"}
SYMMETRY = "Hessian symmetry"


def forward(one: Subject, settings: Settings) -> list[Row]:
    try:
        made = ask(derivatives.make, "", one.primal, one.point, ("fwd",))
    except Refused as no:
        return [Row("forward", "JVP", "UNSUPPORTED", NAN, first_line(no.error))]
    if settings.surrogate:
        return []
    try:
        findings, _ = _findings(made, settings)
    except jax.errors.JaxRuntimeError as error:
        return [_not_run("forward", "JVP", error)]
    rows = [_row("forward", FIRST[f.what], f) for f in findings]
    if one.native is None or any(r.status != "OK" for r in rows):
        return rows
    found = as_run_maps.of_map(
        made,
        lambda: derivatives.make("", there(one.native), one.point, ("fwd",), precision="native"),
        findings,
        settings,
        one.native.unit,
    )
    return [*rows, *(_row("forward as run", f.what, f) for f in found if f.reason is Reason.PRECISION_WRONG)]


def second(one: Subject, settings: Settings) -> list[Row]:
    rows = []
    forward, why = second_order_forward(one)
    if forward is not None:
        try:
            rows += [_row("second order", SECOND_FORWARD[f.what], f) for f in _findings(forward, settings)[0]]
        except jax.errors.JaxRuntimeError as error:
            rows.append(_not_run("second order", SECOND_FORWARD["JVP"], error))
    elif why:
        rows.append(Row("second order", SECOND_FORWARD["JVP"], "UNSUPPORTED", NAN, why))
    made, why = second_order(one)
    if made is None:
        return [*rows, Row("second order", "derivative of the gradient", "UNSUPPORTED", NAN, why)]
    real = not any(np.iscomplexobj(x) for x in one.point)
    try:
        findings, evidence = _findings(made, settings, symmetric=real)
    except jax.errors.JaxRuntimeError as error:
        return [*rows, _not_run("second order", "derivative of the gradient", error)]
    found = [_row("second order", SECOND[f.what], f) for f in findings]
    known = real and evidence.pulled is not None and np.isfinite(evidence.outputs).all()
    return [*rows, *found, *([_symmetry(made, evidence, settings)] if known else [])]


def _not_run(group: str, title: str, error: Exception) -> Row:
    """What a callback inside, or XLA, raises at one of the points or directions that are asked."""
    said = [line.strip() for line in str(error).splitlines() if _ERROR.match(line.strip())]
    return Row(group, title, "UNSUPPORTED", NAN, f"raised as it was run: {said[-1] if said else first_line(error)}")


# The last line of a Python traceback, which XLA hands on as text.
_ERROR = re.compile(r"[\w.]*(Error|Exception|Warning)\b.*:")


def _symmetry(one: Map, evidence: maps.MapEvidence, settings: Settings) -> Row:
    """u . H v = v . H u for two directions, H the derivative of the rule's own gradient (Schwarz)."""
    (gap, size), detail = _asymmetry(evidence), ""
    if not gap <= SYMMETRIC * size and limits_maps.stops(one):
        (limit,), _ = maps.measure(limits_maps.at_limit([one]), settings.seed, symmetric=True)
        detail = f"at the loop's limit; as stopped: {gap / size:.1g}"
        gap, size = _asymmetry(limit)
    off = gap / size if size else 0.0
    if np.isnan(off):
        return Row("second order", SYMMETRY, "UNSUPPORTED", NAN, "the derivative of the gradient is not finite")
    if off > SYMMETRIC and not gap > (explained := _rounding(one, evidence)):
        known = np.isfinite(explained)
        detail = f"off by {off:.2g}, by rounding: measured" if known else "what rounding does cannot be measured"
        return Row("second order", SYMMETRY, "OK" if known else "UNSUPPORTED", off, detail)
    status = "OK" if off <= SYMMETRIC else "WRONG"
    return Row("second order", SYMMETRY, status, off, detail if status == "OK" else "u.Hv differs from v.Hu")


def _asymmetry(evidence: maps.MapEvidence) -> tuple[float, float]:
    """(how far u . H v and v . H u are apart, the size of such products)."""
    with np.errstate(all="ignore"):
        m = len(evidence.outputs)  # the inputs that come first; what varies beside them is the cotangent
        products = there(evidence.pulled)[:, :m] @ evidence.directions[:, :m].T
        size = np.sqrt(np.abs(products[0, 0] * products[1, 1])) + np.abs(products).max()
        return float(abs(products[0, 1] - products[1, 0])), float(size)


def _rounding(one: Map, evidence: maps.MapEvidence) -> float:
    """How far these products may be apart by rounding; NaN where that is unknown."""
    closed, explained = there(one.cotangent).program.closed, 0.0
    for u, v in ((0, 1), (1, 0)):
        with jax.enable_x64(True):
            x = from_vector(evidence.point, closed.in_avals[: len(one.point)])
            g = from_vector(evidence.cotangents[u], closed.in_avals[len(one.point) :])
            bars = rounding(closed, [*x, *g])
        if bars is None:
            return NAN
        along, bar = np.abs(evidence.directions[v]), np.concatenate([np.ravel(b) for b in bars])
        m = len(evidence.outputs)
        explained += ROUNDED * float(bar[:m] @ along[:m])
    return explained


def _findings(one: Map, settings: Settings, symmetric: bool = False) -> tuple[list[Finding], maps.MapEvidence]:
    """What is found of one map, and from what."""
    (evidence,), _ = maps.measure([one], settings.seed, symmetric=symmetric)
    return again.settled(one, evidence, judge(evidence, settings.tolerance, settings.must_catch), settings), evidence


def _row(group: str, title: str, finding: Finding) -> Row:
    status = {Verdict.PASS: "OK", Verdict.FAIL: "WRONG"}.get(finding.verdict, "UNSUPPORTED")
    detail = finding.note or (finding.reason.name.lower() if finding.reason is not Reason.AGREE else "")
    detail = "; ".join(x for x in (detail, finding.left_out, finding.poor) if x)
    if finding.verdict is Verdict.FAIL:
        where = f"output {finding.output}" if finding.output >= 0 else "projection"
        numbers = f"{where}: {finding.claimed:.9g} against {finding.reference:.9g}"
        detail = f"{numbers}; {finding.note}" if finding.reason is Reason.PRECISION_WRONG else numbers
    unsure = finding.reason if finding.verdict is Verdict.INCONCLUSIVE else Reason.AGREE
    return Row(group, title, status, finding.difference, detail, reason=unsure)
