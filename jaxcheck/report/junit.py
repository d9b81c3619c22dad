"""Reports -> JUnit's XML, as continuous integration reads it: a test case per check."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from jaxcheck.report import line, text
from jaxcheck.result import Report, Verdict

# XML 1.0 has no way to write these, not even escaped.
_UNWRITABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(
    reports: Sequence[Report], errors: Sequence[tuple[str, str]] = (), excused: Mapping[int, str] | None = None
) -> str:
    """FAIL is a failure, INCONCLUSIVE one too (of that type), and `errors` (name, what was raised) are errors.

    Args:
        excused: why it counts for nothing that a report, by its position, is no PASS: it is skipped then.
    """
    excused = excused or {}
    failed = [k for k, report in enumerate(reports) if report.verdict is not Verdict.PASS and k not in excused]
    total = sum(report.seconds for report in reports if not math.isnan(report.seconds))
    suite = ElementTree.Element(
        "testsuite",
        name="jaxcheck",
        tests=str(len(reports) + len(errors)),
        failures=str(len(failed)),
        errors=str(len(errors)),
        skipped=str(len(excused)),
        time=f"{total:.3f}",
    )
    for k, report in enumerate(reports):
        case = _case(suite, report.kind, report.name, report.seconds)
        if k in excused:
            ElementTree.SubElement(case, "skipped", message=_clean(f"{excused[k]}: {line.cause(report)}"))
        elif report.verdict is not Verdict.PASS:
            failure = ElementTree.SubElement(
                case, "failure", type=f"{report.verdict.value} {report.reason.name}", message=_clean(line.cause(report))
            )
            failure.text = _clean(text.render(report))
    for name, said in errors:
        ElementTree.SubElement(_case(suite, "error", name, math.nan), "error", message=_clean(said))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, kind: str, name: str, seconds: float) -> ElementTree.Element:
    time = {} if math.isnan(seconds) else {"time": f"{seconds:.3f}"}
    return ElementTree.SubElement(suite, "testcase", {"classname": f"jaxcheck.{kind}", "name": _clean(name), **time})


def _clean(said: str) -> str:
    return _UNWRITABLE.sub("?", said)
