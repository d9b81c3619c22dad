"""`jaxcheck explain`: the terms as text, for a word, for the reasons in a report, and as a list."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from jaxcheck.report import line
from jaxcheck.report.terms import SETTING, TERMS, Term, find
from jaxcheck.result import Reason, Report, Verdict

# Longer lines are no easier to read.
WIDTH = 80


def of_word(word: str, width: int = WIDTH) -> str:
    """Raises KeyError, with the sentence to show, for a word that no report uses."""
    return _text(find(word), width)


def of_reports(reports: Sequence[Report], width: int = WIDTH) -> str:
    """Every reason that occurs in the reports and is not plain agreement, once, below the lines that have it."""
    found: dict[Reason, list[str]] = {}
    for report in reports:
        if report.verdict is not Verdict.PASS or report.reason is not Reason.AGREE:
            found.setdefault(report.reason, []).append(line.summary(report))
        for leaf in report.leaves:
            if leaf.reason is not Reason.AGREE:
                found.setdefault(leaf.reason, []).append(line.leaf(leaf))
    parts = [
        "\n".join(["  " + said for said in where] + ["", _text(TERMS[reason.name.casefold()], width)])
        for reason, where in found.items()
    ]
    return "\n\n".join(parts) if parts else _text(TERMS["agree"], width)


def listing(width: int = WIDTH) -> str:
    """All words, reasons first, each with the beginning of what it means."""
    longest = max(len(term.name) for term in TERMS.values())
    lines = [
        f"{term.name:<{longest}}  {textwrap.shorten(term.meaning, min(width, WIDTH) - longest - 2, placeholder=' ...')}"
        for term in TERMS.values()
    ]
    return "\n".join([*lines, "", "jaxcheck explain WORD says all of it."])


def _text(term: Term, width: int) -> str:
    width = min(width, WIDTH)
    parts = [term.name, "", textwrap.fill(term.meaning, width)]
    if term.example:
        parts += ["", "For example:", "", textwrap.indent(SETTING + term.example, "    ")]
    if term.todo:
        parts += ["", "What to do:", "", textwrap.fill(term.todo, width, initial_indent="  ", subsequent_indent="  ")]
    return "\n".join(parts)
