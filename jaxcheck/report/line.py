"""A report in one line: for a summary, a prompt, the message of an exception."""

from __future__ import annotations

import math

from jaxcheck.report import culprits, numbers
from jaxcheck.result import Component, LeafResult, Reason, Report, Verdict


def cause(report: Report) -> str:
    """What is wrong, in one line: where and by what, then the check's name in brackets."""
    return f"{_what(report)} ({report.name})"


def summary(report: Report) -> str:
    """`PASS check_grad(loss): ...`: the verdict and what is behind it, without the brackets of `repr`."""
    return f"{report.verdict.value} {report.kind}({report.name}): {about(report)}"


def about(report: Report) -> str:
    """What is wrong; of a PASS how much was looked at, and how closely."""
    if report.verdict is not Verdict.PASS:
        return _what(report)
    said = [] if report.reason is Reason.AGREE else [report.reason.name]
    if report.points_passed:
        said.append(numbers.count(report.points_passed, "point"))
    if report.leaves:
        said.append(f"{numbers.leaves(len(report.leaves))}, {numbers.count(report.theta_size, 'parameter')}")
    if not math.isnan(report.difference):
        said.append(f"difference {numbers.small(report.difference)}")
    worst = report.floor
    if not math.isnan(worst):
        said.append(f"floor {numbers.small(worst)}")
    return ", ".join(said) or "nothing was found wrong"


def leaf(one: LeafResult) -> str:
    """`` `W` 4x5 float32: PASS, difference 3.2e-11 ``."""
    told = first_line(one.hint or one.note)
    if not told and not math.isnan(one.difference):
        told = f"difference {numbers.small(one.difference)}"
    return f"`{one.path}` {numbers.shape(one.shape)} {one.dtype}: {numbers.verdict(one)}{', ' if told else ''}{told}"


def component(one: Component) -> str:
    """`` `W[1,1]`: M 0.6, N 0.3 ±1.2e-12, A 0.3 ``; without what is unknown."""
    numeric = numbers.with_bar(numbers.value(one.numeric), one.numeric_error)
    witnesses = (("M", one.manual, numbers.value(one.manual)), ("N", one.numeric, numeric))
    witnesses += (("A", one.autodiff, numbers.value(one.autodiff)),)
    said = [f"{letter} {text}" for letter, number, text in witnesses if number == number]
    return f"`{one.name}`: {', '.join(said)}{f' ({one.note})' if one.note else ''}"


def first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")


def _what(report: Report) -> str:
    named = "" if report.reason is Reason.MANUAL_WRONG else f"{report.reason.name}: "
    troubled = [one for one in report.leaves if one.verdict is report.verdict]
    troubled.sort(key=lambda one: one.reason is not report.reason)
    wrong = [row for row in report.rows if row.status == "WRONG"]
    if report.points:
        worst = report.points[0]
        told = next((first_line(one.hint or one.note) for one in troubled if one.path == worst.leaf), "")
        at = f": `{worst.leaf}` {told}" if told else f" at `{worst.leaf}`" if worst.leaf else ""
        total = report.points_passed + report.points_failed + report.points_inconclusive
        lost = len(report.points)
        share = f"{lost} of {numbers.count(total, 'point')}" if total else numbers.count(lost, "point")
        return f"{named}{share} did not pass, worst {worst.label or worst.index}{at}"
    if troubled:
        one = troubled[0]
        known = "" if math.isnan(one.difference) else f"difference {numbers.small(one.difference)} to N"
        told = first_line(one.hint or one.note) or known or first_line(" ".join(report.notes[:1]))
        more = _more(troubled, "leaf", "leaves")
        return f"{named}`{one.path}`{' ' if told else ''}{told}{more}{culprits.short(report)}"
    if wrong:
        size = "" if math.isnan(wrong[0].difference) else numbers.small(wrong[0].difference)
        told = "; ".join(x for x in (size, first_line(wrong[0].detail)) if x)
        return f"{named}{wrong[0].group}: {wrong[0].name}{', ' if told else ''}{told}{_more(wrong, 'row', 'rows')}"
    return named + first_line(report.notes[0] if report.notes else report.reason.advice)


def _more(found: list, one: str, several: str) -> str:
    return f" and {len(found) - 1} more {several if len(found) > 2 else one}" if len(found) > 1 else ""
