"""Reports -> SARIF 2.1.0, as code scanning and editors read it: a result per finding, at the wrong line where it is
known, else where the function under test is defined."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jaxcheck.report import culprits, line, numbers, terms, words
from jaxcheck.result import Culprit, LeafResult, Reason, Report, Row, Verdict

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Verdict.FAIL: "error", Verdict.INCONCLUSIVE: "warning"}
# Rows are told under the reason that they would give the whole report.
_OF_GROUP = {
    "law": Reason.LAW_BROKEN,
    "transformation": Reason.TRANSFORM_WRONG,
    "second order": Reason.SECOND_ORDER_WRONG,
    "forward": Reason.MANUAL_WRONG,
    "forward as run": Reason.PRECISION_WRONG,
}


def render(
    reports: Sequence[Report], errors: Sequence[tuple[str, str]] = (), excused: Mapping[int, str] | None = None
) -> dict[str, Any]:
    """One run with all findings, as data for `json.dumps`.

    Args:
        errors: (name, what was raised) of checks that came to no report: notifications, not findings.
        excused: why it counts for nothing what a report, by its position, found: suppressed findings.
    """
    excused = excused or {}
    results: list[dict[str, Any]] = [
        result | ({"suppressions": [{"kind": "inSource", "justification": excused[k]}]} if k in excused else {})
        for k, report in enumerate(reports)
        for result in _results(report)
    ]
    used = list(dict.fromkeys(result["ruleId"] for result in results))
    for result in results:
        result["ruleIndex"] = used.index(result["ruleId"])
    invocation: dict[str, Any] = {"executionSuccessful": not errors}
    if errors:
        invocation["toolExecutionNotifications"] = [
            {"level": "error", "message": {"text": f"error in {name}: {said}"}} for name, said in errors
        ]
    driver = {"name": "jaxcheck", "rules": [_rule(name) for name in used]}
    if version := next((v for report in reports for package, v in report.made.versions if package == "jaxcheck"), ""):
        driver["version"] = version
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [invocation],
        "originalUriBaseIds": {"SRCROOT": {"uri": Path.cwd().as_uri().rstrip("/") + "/"}},
        "results": results,
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str) -> dict[str, Any]:
    term = terms.TERMS[name.casefold()]
    example = f"\n\n    {term.example.replace(chr(10), chr(10) + '    ')}" if term.example else ""
    return {
        "id": name,
        "name": name.title().replace("_", ""),
        "shortDescription": {"text": _first_sentence(term.meaning)},
        "fullDescription": {"text": term.meaning},
        "help": {"text": f"{term.meaning} {term.todo}".strip(), "markdown": f"{term.meaning}{example}\n\n{term.todo}"},
    }


def _first_sentence(said: str) -> str:
    return said.partition(". ")[0].rstrip(".") + "."


def _results(report: Report) -> Iterator[dict[str, Any]]:
    """A finding per reason among the leaves that did not pass, and per row that is wrong; one of the whole where it
    is neither."""
    if report.verdict is Verdict.PASS:
        return
    if report.points:  # the leaves are those of one point alone
        yield _result(report, report.verdict, report.reason, line.about(report), [])
        return
    found = []
    by_reason: dict[Reason, list[LeafResult]] = {}
    for leaf in numbers.troubled(report):
        by_reason.setdefault(leaf.reason, []).append(leaf)
    for reason, leaves in by_reason.items():
        found.append(_result(report, leaves[0].verdict, reason, _of_leaves(report, leaves), leaves))
    found += [
        _result(report, Verdict.FAIL, _OF_GROUP.get(row.group, report.reason), _of_row(row), [])
        for row in report.rows
        if row.status == "WRONG"
    ]
    if not any(result["level"] == _LEVELS[report.verdict] for result in found):
        found.insert(0, _result(report, report.verdict, report.reason, line.about(report), []))
    yield from found


def _of_leaves(report: Report, leaves: list[LeafResult]) -> str:
    told = [
        f"{numbers.names([leaf.path])}: {said}"
        for leaf in leaves[:8]
        if (said := line.first_line(leaf.hint or leaf.note) or _difference(leaf))
    ]
    more = f"; and {len(leaves) - 8} more" if len(leaves) > 8 else ""
    return "; ".join(told) + more if told else f"{numbers.names(leaf.path for leaf in leaves)} did not pass"


def _difference(leaf: LeafResult) -> str:
    said = numbers.small(leaf.difference)
    return "" if said == numbers.UNKNOWN else f"difference {said} to N"


def _of_row(row: Row) -> str:
    return f"{row.group}: {row.name}" + (f", {line.first_line(row.detail)}" if row.detail else "")


def _result(report: Report, verdict: Verdict, reason: Reason, said: str, leaves: list[LeafResult]) -> dict[str, Any]:
    mistakes = culprits.mistakes(report) if verdict is Verdict.FAIL and leaves else []
    sure = [those[0] for _, those in mistakes if len(those) == 1]
    text = f"{report.kind}({report.name}): {said}."
    for _, those in mistakes:
        text += _repaired(those[0], len(mistakes) > 1) if len(those) == 1 else " One of several lines is wrong."
    text += "".join(f" {one[0].upper()}{one[1:]}." for one in words.again(report))
    result: dict[str, Any] = {
        "ruleId": reason.name,
        "level": _LEVELS[verdict],
        "message": {"text": text},
        "locations": [],
        "partialFingerprints": {"jaxcheckFinding/v1": _fingerprint(report, reason, leaves)},
        "properties": {"verdict": verdict.value, "seed": report.seed, "leaves": [leaf.path for leaf in leaves]},
    }
    places = [_location(report, c.file, c.line, c.source) for _, those in mistakes for c in those]
    if not places and report.made.file:
        places = [_location(report, report.made.file, report.made.line)]
    if places:
        places[0]["logicalLocations"] = _logical(report, leaves)
        result["locations"] = places[:1]
        if places[1:]:
            result["relatedLocations"] = [{**place, "id": k} for k, place in enumerate(places[1:], 1)]
    fixes = [fix for c in sure if (fix := _fix(report, c))]
    # A fix is offered as the whole of it: of two mistakes one alone would be half.
    if len(fixes) == len(mistakes) and fixes:
        result["fixes"] = [_joined(fixes)]
    return result


def _repaired(culprit: Culprit, several: bool) -> str:
    whose = f"{numbers.names(culprit.leaves)} {'is' if len(culprit.leaves) == 1 else 'are'}" if several else "it is"
    return f" With {culprit.what}" + (f": {culprit.edit}" if culprit.edit else "") + f" {whose} right."


def _joined(fixes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "description": {"text": "; ".join(fix["description"]["text"] for fix in fixes)},
        "artifactChanges": [change for fix in fixes for change in fix["artifactChanges"]],
    }


def _logical(report: Report, leaves: list[LeafResult]) -> list[dict[str, str]]:
    return [
        {"fullyQualifiedName": report.name, "kind": "function"},
        *({"fullyQualifiedName": leaf.path, "kind": "parameter"} for leaf in leaves[:8]),
    ]


def _fingerprint(report: Report, reason: Reason, leaves: list[LeafResult]) -> str:
    """The same for the same finding, wherever its line has moved to."""
    parts = (report.kind, report.name, reason.name, *(leaf.path for leaf in leaves))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _location(report: Report, file: str, number: int, source: str = "") -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": max(number, 1)}
    if source:
        region["snippet"] = {"text": _whole(report, file, number) or source}
    return {"physicalLocation": {"artifactLocation": _artifact(file), "region": region}}


def _artifact(file: str) -> dict[str, str]:
    """Relative to where the command ran, so that what reads it finds it in its own checkout; else absolute."""
    path = Path(os.path.abspath(file))
    if path.is_relative_to(Path.cwd()):
        return {"uri": quote(path.relative_to(Path.cwd()).as_posix()), "uriBaseId": "SRCROOT"}
    return {"uri": path.as_uri()}


def _whole(report: Report, file: str, number: int) -> str:
    """A line with its indentation, where the report kept it."""
    return next((one.text for one in report.made.source if (one.file, one.number) == (file, number)), "")


def _fix(report: Report, culprit: Culprit) -> dict[str, Any] | None:
    whole = _whole(report, culprit.file, culprit.line)
    if not culprit.edit or whole.strip() != culprit.source:
        return None
    indent = whole[: len(whole) - len(whole.lstrip())]
    region = {"startLine": culprit.line, "startColumn": 1, "endLine": culprit.line, "endColumn": len(whole) + 1}
    replacement = {"deletedRegion": region, "insertedContent": {"text": indent + culprit.edit}}
    return {
        "description": {"text": f"with {culprit.what}"},
        "artifactChanges": [{"artifactLocation": _artifact(culprit.file), "replacements": [replacement]}],
    }
