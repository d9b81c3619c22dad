"""What the drop-in says of what was found: it raises, it warns, or it is silent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from jaxcheck.check.warned import warned
from jaxcheck.judgement.findings import Finding
from jaxcheck.program import decided
from jaxcheck.result import GradientInconclusive, GradientMismatch, Reason, Report, Verdict

VALUES = {"fwd": "value by JVP", "rev": "value by VJP"}
_NAMES = {"JVP": "JVP", "VJP": "VJP cotangent projection", **VALUES}


def tell(
    findings: Sequence[tuple[str, Finding]],
    head: dict[str, Any],
    err_msg: str,
    looked_into: Callable[[str, Finding], Report | None] = lambda name, finding: None,
    besides: Sequence[str] = (),
) -> Report:
    """Raise for what is wrong, or where nothing could be judged; warn where something could not. Else what passed.

    Args:
        looked_into: the report of a derivative that is wrong, leaf by leaf.
        besides: what a PASS does not say, a sentence each.
    """
    wrong = [pair for pair in findings if pair[1].verdict is Verdict.FAIL]
    unsure = [pair for pair in findings if pair[1].verdict is Verdict.INCONCLUSIVE]
    if wrong:
        name, finding = wrong[0]
        first = [x.verdict for n, x in findings if not n]
        higher = bool(name) and all(verdict is Verdict.PASS for verdict in first)
        reason = Reason.SECOND_ORDER_WRONG if higher else finding.reason
        report = _report(name, finding, reason, head, err_msg)
        raise GradientMismatch(_with_leaves(report, looked_into(name, finding)))
    # Of one that the differences contradict something is known, whatever else passed.
    against = [pair for pair in unsure if pair[1].reason is Reason.NUMERIC_SUSPECT]
    if against or (unsure and len(unsure) == len(findings)):
        name, finding = (against or unsure)[0]
        inconclusive(_report(name, finding, finding.reason, head, err_msg), "")
    told = [note for note in head.get("notes", ()) if note == decided.ONE_SIDE]
    told += [*besides, *_reservations(unsure, [pair for pair in findings if pair[1].verdict is Verdict.PASS])]
    if told:
        begin = f"{err_msg}: " if err_msg else ""
        more = f" (and {len(told) - 1} more of the kind)" if len(told) > 1 else ""
        warned(f"{begin}{head['kind']}({head['name']}) passed, but {told[0]}{more}")
    known = [x.difference for _, x in findings if np.isfinite(x.difference)]
    reasons = [x.reason for _, x in findings if x.verdict is Verdict.PASS]
    return Report(
        verdict=Verdict.PASS,
        reason=next((r for r in reasons if r is not Reason.AGREE), Reason.AGREE),
        difference=max(known, default=math.nan),
        **{**head, "notes": tuple(dict.fromkeys((*head.get("notes", ()), *told)))},
    )


def _with_leaves(report: Report, by_leaf: Report | None) -> Report:
    """The report of a wrong derivative with what is known of it leaf by leaf."""
    if by_leaf is None:
        return report
    names = ("leaves", "witnesses", "difference", "difference_autodiff", "curves", "samples", "grids")
    return dataclasses.replace(
        report,
        # Where nothing but JAX's own derivative is in it, the leaves know more of why: something is hidden from it.
        reason=by_leaf.reason if report.reason is Reason.MANUAL_WRONG else report.reason,
        evaluations=report.evaluations + by_leaf.evaluations,
        compiled=report.compiled + by_leaf.compiled,
        **{name: getattr(by_leaf, name) for name in names},
    )


def _reservations(unsure: Sequence[tuple[str, Finding]], passed: Sequence[tuple[str, Finding]]) -> Iterator[str]:
    """What a PASS does not say, a sentence each."""
    for name, x in unsure:
        yield f"{_where(name, x)} was not judged, {x.reason}: {x.note or x.reason.advice}"
    for name, x in passed:
        if x.reason is Reason.KINK:
            yield f"{_where(name, x)} is known only as a subgradient, {x.reason}: {x.reason.advice}"
    for name, x in passed:
        if x.left_out:
            yield f"{_where(name, x)} was judged without part of the results: {x.left_out}"
    for name, x in passed:
        if x.poor:
            yield f"{_where(name, x)} was judged only in part: {x.poor}"
    for name, x in passed:
        if x.reason is Reason.CONVERGED:
            yield f"{_where(name, x)} is {x.note}"


def _where(name: str, finding: Finding) -> str:
    return _NAMES[finding.what] + (f" of {name}" if name else "")


def _report(name: str, finding: Finding, reason: Reason, head: dict[str, Any], err_msg: str) -> Report:
    line = (f"{err_msg}: " if err_msg else "") + _where(name, finding)
    if np.isfinite(finding.difference):
        line += f": difference {finding.difference:.2g} (bar {finding.bar:.1g})"
    if not math.isnan(finding.claimed):
        where = f"output {finding.output}" if finding.output >= 0 else "projection"
        line += f"; worst {where}: {finding.claimed:.9g} against {finding.reference:.9g}"
        line += f" ({finding.place})" if finding.place else ""
    notes = (line, finding.note) if finding.note else (line,)
    said: dict[str, Any] = {**head, "notes": (*notes, *head.get("notes", ()))}
    return Report(verdict=finding.verdict, reason=reason, difference=finding.difference, **said)


def inconclusive(report: Report, err_msg: str) -> NoReturn:
    notes = (err_msg, *report.notes) if err_msg else report.notes
    raise GradientInconclusive(dataclasses.replace(report, notes=notes))
