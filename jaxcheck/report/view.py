"""What a page shows of a report, made ready: words, numbers as they are written and as they are sorted, pictures."""

from __future__ import annotations

import math
from typing import Any

from jaxcheck.report import culprits, line, numbers, tables, terms, view_leaves, words
from jaxcheck.report.numbers import WORST_FIRST
from jaxcheck.report.view_leaves import value
from jaxcheck.result import Culprit, Point, Reason, Report, Row, Verdict

_STATUSES = ("WRONG", "UNSUPPORTED", "OK")
# Leaves that are told of one by one, of these unfolded; points listed; leaves in a notebook.
DETAILS, OPEN, POINTS, CELL = 60, 3, 200, 20
# Lines of source before and after a culprit.
AROUND = 4
# Details of a notebook's cell.
CELL_DETAILS = 3

LEGEND = (
    "M",
    "N",
    "A",
    "difference",
    "error bar",
    "floor",
    "hint",
    "mode",
    "native precision",
    "textbook",
    "must_catch",
    "carried",
    *(verdict.name for verdict in WORST_FIRST),
    "UNSUPPORTED",
)


def of(report: Report, anchor: str, *, page: bool) -> dict[str, Any]:
    """A report as the templates take it; `page`: all of it, else what a notebook's cell has room for."""
    ranked = sorted(report.leaves, key=lambda leaf: WORST_FIRST.index(leaf.verdict))
    shown = ranked if page else ranked[:CELL]
    details = view_leaves.detailed(report)
    most = DETAILS if page else CELL_DETAILS
    anchors = {leaf.path: f"{anchor}-leaf-{k}" for k, leaf in enumerate(details[:most])}
    left = len(ranked) - len(shown)
    quiet = details and all(leaf.verdict is Verdict.PASS for leaf in details)
    return {
        "anchor": anchor,
        "verdict": report.verdict.value,
        "headline": words.headline(report),
        "reason": "" if report.reason is Reason.AGREE else report.reason.name,
        "name": f"{report.kind}({report.name})",
        "point": report.point,
        "cause": _cause(report),
        "blame": words.blame(report),
        "advice": "" if report.reason is Reason.AGREE else report.reason.advice,
        "facts": _facts(report),
        "culprits": _culprits(report),
        "notes": [note for note in report.notes if note != _cause(report)],
        "points": _points(report),
        "leaves": [view_leaves.row(leaf, anchors.get(leaf.path, "") if page else "") for leaf in shown],
        "counts": [(verdict.value, count) for verdict, count in numbers.tally(report.leaves)],
        "left_out": f"and {numbers.leaves(left)} more" if left else "",
        "details": [
            view_leaves.detail(report, leaf, anchors[leaf.path], page and k < OPEN and leaf.reason is not Reason.AGREE)
            for k, leaf in enumerate(details[:most])
        ],
        "details_title": "Leaf by leaf" if quiet else "What is off, leaf by leaf",
        "details_more": _more(len(details) - most),
        "groups": _groups(report),
        "again": words.repeats(report),
        "how": _how(report),
    }


def _more(count: int) -> str:
    return f"{numbers.leaves(count)} more did not pass; the table above names all" if count > 0 else ""


def index_row(report: Report, anchor: str) -> dict[str, Any]:
    floor = report.floor
    return {
        "verdict": report.verdict.value,
        "rank": WORST_FIRST.index(report.verdict),
        "anchor": anchor,
        "name": report.name,
        "said": line.about(report),
        "floor": numbers.small(floor),
        "floor_value": value(floor),
        "seconds": numbers.small(report.seconds),
        "seconds_value": value(report.seconds),
    }


def _cause(report: Report) -> str:
    if report.verdict is Verdict.PASS:
        return words.caught(report).removeprefix("floor: ").capitalize() or line.about(report)
    return line.about(report).removeprefix(f"{report.reason.name}: ")


def _facts(report: Report) -> list[dict[str, str]]:
    found = []

    def fact(name: str, said: str, tip: str = "", small: str = "") -> None:
        found.append({"name": name, "value": said, "tip": tip, "small": small})

    for witness, difference in (("N", report.difference), ("A", report.difference_autodiff)):
        if not math.isnan(difference):
            fact(
                f"difference to {witness}",
                numbers.small(difference),
                terms.meaning("difference"),
                {"N": "differences", "A": "autodiff"}[witness],
            )
    floor = report.floor
    if report.verdict is Verdict.PASS and not math.isnan(floor):
        fact("floor", numbers.small(floor), terms.meaning("floor"), "the smallest error it would have caught")
    if report.leaves:
        bad = [leaf for leaf in report.leaves if leaf.verdict is not Verdict.PASS]
        said = f"{len(report.leaves):,}" if not bad else f"{len(bad):,} of {len(report.leaves):,}"
        fact("leaves" if not bad else "leaves not passed", said, "", numbers.count(report.theta_size, "parameter"))
    if total := report.points_passed + report.points_failed + report.points_inconclusive:
        fact("points passed", f"{report.points_passed:,} of {total:,}")
    if wrong := [row for row in report.rows if row.status == "WRONG"]:
        fact("rows wrong", f"{len(wrong)} of {len(report.rows)}", "", "laws and transformations")
    if not math.isnan(report.seconds):
        spent = numbers.count(report.evaluations, "evaluation") if report.evaluations else ""
        fact("time", f"{report.seconds:.3g} s", "", spent)
    return found


def _culprits(report: Report) -> list[dict[str, Any]]:
    return [
        {"said": said[0].upper() + said[1:], "blocks": [_block(report, culprit) for culprit in those]}
        for said, those in culprits.mistakes(report)
    ]


def _block(report: Report, culprit: Culprit) -> dict[str, Any]:
    """The source around a line, with the line as it is and as it would be right."""
    lines = {one.number: one.text for one in report.made.source if one.file == culprit.file}
    lines = lines or {culprit.line: culprit.source or "(no source)"}
    near = [n for n in lines if abs(n - culprit.line) <= AROUND]
    margin = min((len(lines[n]) - len(lines[n].lstrip()) for n in near if lines[n].strip()), default=0)
    rows = []
    for number in sorted(near):
        text = lines[number][margin:]
        rows.append({"number": number, "text": text, "css": "bad" if number == culprit.line else ""})
        if number == culprit.line and culprit.edit:
            indent = text[: len(text) - len(text.lstrip())]
            rows.append({"number": "+", "text": indent + culprit.edit, "css": "good"})
    return {"file": f"{culprit.file}:{culprit.line}", "what": culprit.what, "rows": rows}


def _points(report: Report) -> dict[str, Any] | None:
    counts = [
        ("FAIL", report.points_failed),
        ("INCONCLUSIVE", report.points_inconclusive),
        ("PASS", report.points_passed),
    ]
    counts = [(verdict, count) for verdict, count in counts if count]
    bad = [point for point in report.points if point.verdict is not Verdict.PASS]
    if not counts and not bad:
        return None
    total = sum(count for _, count in counts)
    said = f"{total:,} checked: {', '.join(f'{count:,} {verdict}' for verdict, count in counts)}" if total else ""
    return {
        "counts": counts,
        "said": said,
        "rows": [_point(point) for point in bad[:POINTS]],
        "more": max(0, len(bad) - POINTS),
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "verdict": point.verdict.value,
        "rank": WORST_FIRST.index(point.verdict),
        "index": point.index,
        "label": point.label,
        "difference": numbers.small(point.difference),
        "value": value(point.difference),
        "leaf": point.leaf,
        "reproduce": point.reproduce,
    }


def _groups(report: Report) -> list[dict[str, Any]]:
    groups: dict[str, list[Row]] = {}
    for row in report.rows:
        groups.setdefault(row.group, []).append(row)
    found = []
    for title, rows in groups.items():
        rows.sort(key=lambda row: _status(row.status))
        statuses = [row.status for row in rows]
        found.append(
            {
                "title": title,
                "status": statuses[0],
                "open": "WRONG" in statuses,
                "counts": [(status, statuses.count(status)) for status in dict.fromkeys(statuses)],
                "rows": [
                    {
                        "name": row.name,
                        "status": row.status,
                        "rank": _status(row.status),
                        "detail": row.detail,
                        "difference": numbers.small(row.difference),
                        "value": value(row.difference),
                    }
                    for row in rows
                ],
            }
        )
    return found


def _status(status: str) -> int:
    return _STATUSES.index(status) if status in _STATUSES else 1


def _how(report: Report) -> list[tuple[str, str]]:
    made = report.made
    split = [
        said.partition(": ")
        for said in (*words.precision(report), words.textbook(report), words.witnesses(report), words.cost(report))
        if said
    ]
    if report.verdict is not Verdict.PASS and (caught := words.caught(report)):
        split.append(caught.partition(": "))
    found = [(name, said) for name, _, said in split]
    if report.why_mode:
        found.append(("mode", f"{report.mode}: {report.why_mode}"))
    found += [("carried", f"`{path}`: not differentiable ({why})") for path, why in report.carried[: tables.MOST_ROWS]]
    if not math.isnan(report.value):
        found.append(("value", f"{report.value:.10g} at the point of the check"))
    found.append(("run", ", ".join(words.spent(report))))
    if made.file:
        found.append(("under test", f"{made.file}:{made.line}"))
    for name, said in (
        ("date", made.date.replace("T", " ").replace("Z", " UTC")),
        ("device", made.device),
        ("versions", ", ".join(f"{package} {version}" for package, version in made.versions)),
    ):
        if said:
            found.append((name, said))
    return found
