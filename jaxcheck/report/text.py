"""Report -> text: `renderable` for a colour terminal, `render` for a string without escape codes."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from jaxcheck.report import numbers, tables, words
from jaxcheck.result import LeafResult, Reason, Report, Verdict

WIDTH = 110
MOST_DETAILED = 10


def render(report: Report, width: int = WIDTH) -> str:
    """The report as plain text, the same on every machine: no colour, no trailing blanks."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=False, force_jupyter=False, color_system=None, legacy_windows=False
    )
    console.print(renderable(report))
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().split("\n"))


def renderable(report: Report) -> Group:
    """The report as one rich object, coloured by verdict. Everything is `Text`: a path such as
    `layers[0].W` must not be read as markup."""
    parts: list[Any] = [Text(words.headline(report), style=f"bold {tables.COLOURS[report.verdict]}")]
    if report.reason is not Reason.AGREE:
        parts.append(Text(f"{report.reason.name}: {report.reason.advice}"))
    parts += [Text(note) for note in report.notes]
    if report.leaves:
        shown, left_out = tables.choose_leaves(report)
        parts += [Text(""), tables.LeafTable(shown)]
        if left_out:
            parts.append(Text(f"{numbers.count(left_out, 'more leaf').replace('leafs', 'leaves')} left out"))
        parts.append(Text(""))
    parts += [Text(line, style="bold") for line in words.blame(report)]
    parts += _details(report)
    for table, left_out in tables.rows(report):
        parts += [Text(""), table]
        if left_out:
            parts.append(Text(f"{numbers.count(left_out, 'more row')} left out"))
    if report.rows or any(leaf.worst for leaf in numbers.troubled(report)):
        parts.append(Text(""))
    parts += tables.points(report)
    if report.carried:
        parts.append(Text("carried along, not differentiable: " + _carried(report)))
    parts += [Text(line) for line in words.footer(report)]
    return Group(*parts)


def _details(report: Report) -> list[Any]:
    """Per leaf that did not pass: its hint, its note and its worst components."""
    parts: list[Any] = []
    bad = numbers.troubled(report)
    for leaf in bad[:MOST_DETAILED]:
        parts += _detail(leaf)
    # A leaf that passed with a remark (a kink, a surrogate) gets the remark only.
    for leaf in report.leaves:
        if leaf.verdict is Verdict.PASS and (leaf.note or leaf.hint):
            parts.append(Text(_remark(leaf)))
    if len(bad) > MOST_DETAILED:
        parts.append(Text(f"{len(bad) - MOST_DETAILED:,} more leaves that did not pass are not detailed here"))
    return parts


def _detail(leaf: LeafResult) -> list[Any]:
    if not (leaf.hint or leaf.note or leaf.worst):
        return []
    parts: list[Any] = [Text("")]
    parts.append(Text(_remark(leaf), style="bold"))
    if leaf.worst:
        parts.append(Padding(tables.components(leaf.worst), (0, 0, 0, 2)))
    left_out = len(leaf.worst) - tables.MOST_COMPONENTS
    if left_out > 0:
        parts.append(Text(f"  {numbers.count(left_out, 'more component')} in report.leaf({leaf.path!r}).worst"))
    return parts


def _remark(leaf: LeafResult) -> str:
    said = "; ".join(sentence for sentence in (leaf.hint, leaf.note) if sentence)
    return f"{leaf.path}: {said}" if said else f"{leaf.path}, worst components:"


def _carried(report: Report) -> str:
    listed = [f"`{path}` ({why})" for path, why in report.carried]
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + more
