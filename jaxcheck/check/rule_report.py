"""From what is found of a rule, and the rows beside it, to its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxcheck.check.rule_rows import SYMMETRY
from jaxcheck.check.settings import Settings
from jaxcheck.problem.of_rule import HIDDEN
from jaxcheck.problem.preface import Preface
from jaxcheck.problem.subject import Subject
from jaxcheck.result import Reason, Report, Row, Verdict


def counted(rows: list[Row]) -> list[str]:
    """How many laws and transformations were run, where it is not all of them; what was not run holds nothing."""
    notes = []
    for group, plural in (("law", "laws"), ("transformation", "transformations")):
        mine = [r for r in rows if r.group == group]
        missing = [r.name for r in mine if r.status == "UNSUPPORTED"]
        if missing:
            notes.append(f"{len(mine) - len(missing)} of {len(mine)} {plural} run; not run: {', '.join(missing)}")
    return notes


ONLY_AS_CALLED = (
    "its reverse mode runs as it is called, and JAX refuses it wherever the function is traced first (jit, scan, "
    "remat, and this check); the formula was not judged: {}"
)


def without_reverse(one: Subject, preface: Preface, rows: Sequence[Row], settings: Settings) -> Report:
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
    elif any(r.name == "eager" and r.status == "OK" for r in rows):
        why = ONLY_AS_CALLED.format(why)
    else:
        why = f"no reverse mode: {why}"
    return unjudged(one, preface, rows, settings, why, verdict, reason)


def unjudged(
    one: Subject,
    preface: Preface,
    rows: Sequence[Row],
    settings: Settings,
    why: str,
    verdict: Verdict = Verdict.INCONCLUSIVE,
    reason: Reason = Reason.UNDIFFERENTIABLE,
) -> Report:
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


def with_rows(report: Report, left_out: bool) -> Report:
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
    # The derivative of the gradient was asked for; that it is symmetric says nothing of whose it is.
    second = [r for r in report.rows if r.group == "second order" and r.name != SYMMETRY]
    if verdict is Verdict.PASS and second and all(r.status == "UNSUPPORTED" for r in second):
        reason = next((r.reason for r in second if r.reason is not Reason.AGREE), Reason.UNDIFFERENTIABLE)
        said = f"the second order, which was asked for, could not be judged: {second[-1].detail}"
        report = dataclasses.replace(report, verdict=Verdict.INCONCLUSIVE, notes=(said, *report.notes))
        return dataclasses.replace(report, reason=reason)
    return dataclasses.replace(report, verdict=verdict, reason=reason)


def as_asked(row: Row, order: int) -> Row:
    """At order 1 a wrong second derivative is told, not held against the rule."""
    if row.status != "WRONG" or row.order == 1:
        return row
    if order == 1:
        return dataclasses.replace(row, status="UNSUPPORTED", detail=row.detail + " (not asked for: order=1)")
    return dataclasses.replace(row, group="second order")


def named(row: Row, one: Subject) -> Row:
    """Arguments by their names, as in the table of leaves."""
    detail = row.detail
    for i, name in enumerate(one.names):
        detail = detail.replace(f"`args[{i}]", f"`{name}")
    return dataclasses.replace(row, detail=detail)
