"""The tables of a report, as lines: leaves, components, laws and transformations, points."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from jaxcheck.report import numbers
from jaxcheck.report.grid import Cell, Column, Table, break_, folded, grid, longest_piece, paragraph, without_prefix
from jaxcheck.result import Component, LeafResult, Point, Report, Row, Verdict

# So many leaves are all shown; of more only so many as leave room for the rest on a screen.
MOST_LEAVES, FOLDED = 20, 10
MOST_COMPONENTS = 6
MOST_ROWS = 40
MOST_POINTS = 5

COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow"}
_STATUS_COLOURS = {"OK": "green", "WRONG": "red", "UNSUPPORTED": "yellow"}

# Narrower than this a path is unreadable, and another column goes instead; so it does where a path would take more
# lines than this, as far as there are columns to spare.
_PATH, _WORDS, _FOLDS = 14, 24, 2


def choose_leaves(
    report: Report, most: int = MOST_LEAVES, folded: int = FOLDED
) -> tuple[list[LeafResult], list[LeafResult]]:
    """(the leaves to show, those left out): what did not pass first, else in theta order."""
    leaves = sorted(report.leaves, key=lambda leaf: numbers.WORST_FIRST.index(leaf.verdict))
    shown = len(leaves) if len(leaves) <= most else folded
    return leaves[:shown], leaves[shown:]


def leaves_on_a_screen(report: Report, width: int) -> list[Text]:
    """The table of the leaves and what it leaves out; of many fewer where each takes several lines."""
    shown, hidden = choose_leaves(report)
    lines = leaves(shown, width)
    each = len(lines) // len(shown)
    if hidden and each > 1:
        shown, hidden = choose_leaves(report, folded=max(FOLDED // each, 1))
        lines = leaves(shown, width)
    return [*lines, *left_out(hidden, width)]


def leaves(shown: list[LeafResult], width: int) -> list[Text]:
    """A line per leaf. Narrow consoles (a notebook, a split terminal) get fewer columns; what all paths begin with
    is said once where that saves one."""
    prefix, short = without_prefix([leaf.path for leaf in shown])
    whole, shorter = (_leaves(shown, [name(leaf.path) for leaf in shown], width) for name in (str, short))
    if whole is None:
        return [line for leaf in shown for line in _stacked(leaf, width)]
    if prefix and shorter is not None and (shorter.columns > whole.columns or len(shorter.lines) < len(whole.lines)):
        return [*paragraph(f"leaves of `{prefix}`:", width), *shorter.lines]
    return whole.lines


def _leaves(shown: list[LeafResult], paths: list[str], width: int) -> Table | None:
    rows = [_leaf(leaf, path) for leaf, path in zip(shown, paths, strict=True)]
    for least in (max(folded(path, _FOLDS) for path in paths), max(map(longest_piece, paths)), 0):
        columns = (
            Column("leaf", right=False, least=max(least, _PATH)),
            Column("shape", right=False, rank=3),
            Column("dtype", right=False, rank=6),
            Column("|M|", rank=5),
            Column("to N"),
            Column("to A", rank=1),
            Column("floor:\nleaf", rank=2),
            Column("floor:\ncomponent", rank=4),
            Column("verdict", right=False, least=16),
        )
        if (table := grid(columns, rows, width)) is not None:
            return table
    return None


def _leaf(leaf: LeafResult, path: str) -> list[Cell]:
    return [
        Cell(path),
        Cell(numbers.shape(leaf.shape)),
        Cell(leaf.dtype),
        Cell(numbers.size(leaf.norm_manual)),
        Cell(numbers.with_bar(numbers.small(leaf.difference), leaf.error_bar)),
        Cell(numbers.small(leaf.difference_autodiff)),
        Cell(numbers.small(leaf.floor)),
        Cell(numbers.small(leaf.floor_component)),
        Cell(numbers.verdict(leaf), COLOURS[leaf.verdict]),
    ]


def _stacked(leaf: LeafResult, width: int) -> Iterator[Text]:
    """A leaf in lines of its own, where no table fits."""
    yield from paragraph(leaf.path, width)
    yield from paragraph(f"  {numbers.verdict(leaf)}", width, style=COLOURS[leaf.verdict])
    yield from paragraph(f"  to N {numbers.with_bar(numbers.small(leaf.difference), leaf.error_bar)}", width)


def left_out(leaves: list[LeafResult], width: int) -> Iterator[Text]:
    """What is not shown, counted, with the worst of its numbers."""
    if not leaves:
        return
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in numbers.tally(leaves))
    said = f"and {len(leaves):,} more {'leaf' if len(leaves) == 1 else 'leaves'}: {counts}"
    worst = [
        f"{what} at most {numbers.small(max(known))}"
        for what, known in (
            ("difference", numbers.known(leaf.difference for leaf in leaves)),
            ("leaf floor", numbers.known(leaf.floor for leaf in leaves)),
        )
        if known
    ]
    yield from paragraph("; ".join([said, *worst]), width)


def components(worst: tuple[Component, ...], width: int, silent: bool = False) -> list[Text]:
    """The components that disagree most, without A where that is `silent`. Where their whole names do not fit, their
    places in the leaf; where that does not either, a line per witness."""
    shown = worst[:MOST_COMPONENTS]
    notes = any(component.note for component in shown)
    columns = [Column("component", right=False), Column("parameter", rank=1), Column("M"), Column("N")]
    columns += [] if silent else [Column("A")]
    columns += [Column("note", right=False, least=8)] if notes else []
    for name in (lambda c: c.name, lambda c: c.name.removeprefix(c.path) or c.path):
        rows = [
            [
                Cell(name(c)),
                Cell(numbers.value(c.parameter)),
                Cell(numbers.value(c.manual), "bold"),
                Cell(_numeric(c)),
                *([] if silent else [Cell(numbers.value(c.autodiff))]),
                *([Cell(c.note)] if notes else []),
            ]
            for c in shown
        ]
        # The whole names first with every column, then the places with as many as there is room for.
        full = [column._replace(rank=0) for column in columns] if name(shown[0]) == shown[0].name else columns
        table = grid(full, rows, width)
        if table is not None:
            return table.lines
    return [line for component in shown for line in _by_witness(component, width, silent)]


def _numeric(component: Component) -> str:
    return numbers.with_bar(numbers.value(component.numeric), component.numeric_error)


def _by_witness(component: Component, width: int, silent: bool) -> Iterator[Text]:
    yield from paragraph(component.name + (f" ({component.note})" if component.note else ""), width)
    for letter, said in (
        ("M", numbers.value(component.manual)),
        ("N", _numeric(component)),
        *([] if silent else [("A", numbers.value(component.autodiff))]),
    ):
        yield from paragraph(f"  {letter} {said}", width)


def rows(report: Report, width: int) -> Iterator[list[Text]]:
    """A side table per group of rows: what is not OK first where there are many."""
    groups: dict[str, list[Row]] = {}
    for row in report.rows:
        groups.setdefault(row.group, []).append(row)
    for group, members in groups.items():
        if len(members) > MOST_ROWS:
            members.sort(key=lambda row: row.status == "OK")
        shown = members[:MOST_ROWS]
        columns = (
            Column(group, right=False, least=12),
            Column("status", right=False),
            Column("difference"),
            Column("detail", right=False, least=_WORDS),
        )
        cells = [
            [
                Cell(row.name),
                Cell(row.status, _STATUS_COLOURS.get(row.status, "")),
                Cell(numbers.small(row.difference)),
                Cell(row.detail),
            ]
            for row in shown
        ]
        table = grid(columns, cells, width)
        more = len(members) - len(shown)
        lines = table.lines if table else _details_below(columns, cells, width)
        yield lines + ([Text(f"{numbers.count(more, 'more row')} left out")] if more else [])


def _details_below(columns: tuple[Column, ...], cells: list[list[Cell]], width: int) -> list[Text]:
    """The rows with their details in lines of their own."""
    lines: list[Text] = []
    for name, status, difference, detail in cells:
        head = f"{status.text:<11} {name.text}" + (
            "" if difference.text == numbers.UNKNOWN else f", difference {difference.text}"
        )
        lines += paragraph(head, width, style=status.style, indent="  ")
        lines += [Text("  " + part, no_wrap=True) for part in break_(detail.text, width - 2)] if detail.text else []
    return [Text(columns[0].name, style="bold"), *lines]


def points(report: Report) -> list[Text]:
    """What a batch found: counts, and lines that repeat the points that did not pass, the worst first."""
    counts = {
        Verdict.PASS: report.points_passed,
        Verdict.FAIL: report.points_failed,
        Verdict.INCONCLUSIVE: report.points_inconclusive,
    }
    total = sum(counts.values())
    bad = [point for point in report.points if point.verdict is not Verdict.PASS]
    lines = []
    if total:
        said = [f"{number:,} {verdict}" for verdict, number in counts.items() if number]
        lost = total - report.points_passed
        share = f" ({100 * lost / total:.3g} % did not pass)" if lost else ""
        lines.append(Text(f"points: {total:,} checked: {', '.join(said)}{share}"))
    for point in bad[:MOST_POINTS]:
        lines.append(Text(f"  {point.verdict} {_point(point)}", style=COLOURS[point.verdict]))
        if point.reproduce:
            lines.append(Text(f"    {point.reproduce}"))
    if len(bad) > MOST_POINTS:
        lines.append(Text(f"  and {len(bad) - MOST_POINTS:,} more that did not pass"))
    return lines


def _point(point: Point) -> str:
    where = f" at `{point.leaf}`" if point.leaf else ""
    return f"{point.label or f'point {point.index}'}, difference {numbers.small(point.difference)}{where}"
