"""The tables of a report, as rich tables: leaves, components, laws and transformations, points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.box import Box
from rich.table import Table
from rich.text import Text

from jaxcheck.report import numbers
from jaxcheck.result import Component, LeafResult, Point, Reason, Report, Row, Verdict

MOST_LEAVES = 40
MOST_COMPONENTS = 6
MOST_ROWS = 40
MOST_POINTS = 5

COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow"}
_STATUS_COLOURS = {"OK": "green", "WRONG": "red", "UNSUPPORTED": "yellow"}

# Below this width the leaf table leaves out what can be read off the parameters.
_WIDE = 96
_PLAIN = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def _table(*columns: str, left: int = 1, title: str = "", wrap: tuple[str, ...] = ()) -> Table:
    """A table without a frame; the first `left` columns are words, the rest numbers.

    Nothing is ever cut off: a column that is too wide is folded, not shortened.
    """
    table = Table(box=_PLAIN, show_edge=False, pad_edge=False, title=title or None, title_justify="left")
    table.title_style = "bold"
    for position, name in enumerate(columns):
        table.add_column(
            name, justify="left" if position < left or name in wrap else "right", overflow="fold", header_style="bold"
        )
    return table


def _say(verdict: Verdict, reason: Reason) -> Text:
    words = verdict.value if reason is Reason.AGREE else f"{verdict.value} {reason.name}"
    return Text(words, style=COLOURS[verdict])


def choose_leaves(report: Report) -> tuple[list[LeafResult], int]:
    """The leaves to show and how many are left out: all in theta order, or the failing ones first."""
    leaves = list(report.leaves)
    if len(leaves) <= MOST_LEAVES:
        return leaves, 0
    rank = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}
    leaves.sort(key=lambda leaf: rank[leaf.verdict])
    return leaves[:MOST_LEAVES], len(leaves) - MOST_LEAVES


class LeafTable:
    """A line per leaf. Narrow consoles (a notebook, a split terminal) get fewer columns."""

    def __init__(self, leaves: list[LeafResult]):
        self.leaves = leaves

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Table]:
        wide = options.max_width >= _WIDE
        hidden = () if wide else ("dtype", "|M|")
        cells = [dict(self._cells(leaf)) for leaf in self.leaves]
        names = [name for name in self._names if name not in hidden]
        table = _table(*names, left=3 if wide else 2, wrap=("verdict",))
        for row in cells:
            table.add_row(*(row[name] for name in names))
        yield table

    _names = ("leaf", "shape", "dtype", "|M|", "to N", "to A", "would catch", "verdict")

    @staticmethod
    def _cells(leaf: LeafResult) -> Iterator[tuple[str, Text]]:
        yield "leaf", Text(leaf.path)
        yield "shape", Text(numbers.shape(leaf.shape))
        yield "dtype", Text(leaf.dtype)
        yield "|M|", Text(numbers.size(leaf.norm_manual))
        yield "to N", Text(numbers.with_bar(numbers.small(leaf.difference), leaf.error_bar))
        yield "to A", Text(numbers.small(leaf.difference_autodiff))
        yield "would catch", Text(f"{numbers.small(leaf.floor)} / {numbers.small(leaf.floor_component)}")
        yield "verdict", _say(leaf.verdict, leaf.reason)


def components(worst: tuple[Component, ...]) -> Table:
    notes = any(component.note for component in worst)
    table = _table("component", "parameter", "M", "N", "A", *(["note"] if notes else []), wrap=("note",))
    for component in worst[:MOST_COMPONENTS]:
        cells = [
            Text(component.name),
            Text(numbers.value(component.parameter)),
            Text(numbers.value(component.manual), style="bold"),
            Text(numbers.with_bar(numbers.value(component.numeric), component.numeric_error)),
            Text(numbers.value(component.autodiff)),
        ]
        table.add_row(*cells, *([Text(component.note)] if notes else []))
    return table


def rows(report: Report) -> Iterator[tuple[Table, int]]:
    """A side table per group of rows with the number left out: what is not OK first."""
    groups: dict[str, list[Row]] = {}
    for row in report.rows:
        groups.setdefault(row.group, []).append(row)
    for group, members in groups.items():
        if len(members) > MOST_ROWS:
            members.sort(key=lambda row: row.status == "OK")
        table = _table(group, "status", "difference", "detail", left=2, wrap=("detail",))
        for row in members[:MOST_ROWS]:
            status = Text(row.status, style=_STATUS_COLOURS.get(row.status, ""))
            table.add_row(Text(row.name), status, Text(numbers.small(row.difference)), Text(row.detail))
        yield table, max(0, len(members) - MOST_ROWS)


def points(report: Report) -> list[Text]:
    """What a batch found: counts, the worst point, and lines that repeat those that did not pass."""
    counts = {Verdict.PASS: report.points_passed, Verdict.FAIL: report.points_failed,
              Verdict.INCONCLUSIVE: report.points_inconclusive}
    total = sum(counts.values())
    bad = [point for point in report.points if point.verdict is not Verdict.PASS]
    lines = []
    if total:
        said = [f"{number:,} {verdict}" for verdict, number in counts.items() if number]
        lost = total - report.points_passed
        share = f" ({100 * lost / total:.3g} % did not pass)" if lost else ""
        lines.append(Text(f"points: {total:,} checked: {', '.join(said)}{share}"))
    if bad:
        lines.append(Text(f"worst point: {_point(bad[0])}"))
    for point in bad[:MOST_POINTS]:
        lines.append(Text(f"  {point.verdict} {_point(point)}", style=COLOURS[point.verdict]))
        if point.reproduce:
            lines.append(Text(f"    {point.reproduce}"))
    if len(bad) > MOST_POINTS:
        lines.append(Text(f"  and {len(bad) - MOST_POINTS:,} more that did not pass"))
    return lines


def _point(point: Point) -> str:
    label = f" ({point.label})" if point.label else ""
    where = f" at `{point.leaf}`" if point.leaf else ""
    return f"{point.index}{label}, difference {numbers.small(point.difference)}{where}"
