"""Tables and sentences for a given number of columns: no number is ever folded, paths break at their dots.

Lines are rich `Text`, so that a terminal colours them; what fits is decided here and not left to rich,
which folds a number like any other word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.text import Text

GAP = 3
# The rank from which on a column is a spare one.
_SPARE = 3


class Column(NamedTuple):
    """`least` is the width below which a column that may be narrower (words, a path) is left out instead;
    0 for one that is never narrower than its content. `rank`: the higher, the earlier it is left out; 0 never."""

    name: str
    right: bool = True
    least: int = 0
    rank: int = 0


class Cell(NamedTuple):
    text: str
    style: str = ""


class Table(NamedTuple):
    """The lines, and how many columns are in them."""

    lines: list[Text]
    columns: int


def grid(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> Table | None:
    """The lines of a table with a header and a rule, or None where it cannot be had in `width`."""
    # Rather fewer columns than paths that are broken, as far as they are spare ones.
    found = _fit(columns, rows, width, firm=True, least_rank=_SPARE) or _fit(columns, rows, width, False, 1)
    if found is None:
        return None
    kept, widths = found
    header = [columns[i].name.split("\n") for i in kept]
    tallest = max(map(len, header))
    lines = [
        _line(
            [
                (columns[i], ("", *[""] * (tallest - len(name)), *name)[1 + k], "bold", w)
                for i, name, w in zip(kept, header, widths, strict=True)
            ]
        )
        for k in range(tallest)
    ]
    lines.append(Text("-" * (sum(widths) + GAP * (len(widths) - 1))))
    for row in rows:
        parts = [break_(row[i].text, w) for i, w in zip(kept, widths, strict=True)]
        for k in range(max(map(len, parts))):
            lines.append(
                _line(
                    [
                        (columns[i], part[k] if k < len(part) else "", row[i].style, w)
                        for i, part, w in zip(kept, parts, widths, strict=True)
                    ]
                )
            )
    return Table(lines, len(kept))


def _fit(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int, firm: bool, least_rank: int
) -> tuple[list[int], list[int]] | None:
    """(the columns that are kept, their widths), where leaving out those of `least_rank` and above suffices."""
    kept = list(range(len(columns)))
    while (widths := _widths(columns, rows, kept, width, firm)) is None:
        out = max(kept, key=lambda i: columns[i].rank)
        if columns[out].rank < least_rank:
            return None
        kept.remove(out)
    return kept, widths


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], kept: list[int], width: int, firm: bool
) -> list[int] | None:
    """What each kept column gets: its content's width, or less, unless `firm`, for those that may be narrower; None
    where it does not fit."""
    natural = [
        max([len(name) for name in columns[i].name.split("\n")] + [len(row[i].text) for row in rows]) for i in kept
    ]
    least = [n if firm else min(n, columns[i].least or n) for n, i in zip(natural, kept, strict=True)]
    spare = width - GAP * (len(kept) - 1) - sum(least)
    if spare < 0:
        return None
    widths = []
    for n, low in zip(natural, least, strict=True):
        more = min(n - low, spare)
        widths.append(low + more)
        spare -= more
    return widths


def _line(cells: Sequence[tuple[Column, str, str, int]]) -> Text:
    line = Text(no_wrap=True, end="\n")
    for number, (column, said, style, width) in enumerate(cells):
        last = number == len(cells) - 1
        padded = said.rjust(width) if column.right else said if last else said.ljust(width)
        line.append(padded, style=style)
        if not last:
            line.append(" " * GAP)
    return line


def paragraph(said: str, width: int, style: str = "", indent: str = "") -> Iterator[Text]:
    """Sentences as lines; further lines begin with `indent`. Line breaks of the caller's stay."""
    for part in said.split("\n"):
        first, *rest = break_(part, width)
        yield Text(first, style=style, no_wrap=True)
        if rest:
            yield from (
                Text(indent + more, style=style, no_wrap=True)
                for more in break_(part[len(first) :].lstrip(), width - len(indent))
            )


def break_(said: str, width: int) -> list[str]:
    """`said` in lines of `width`: broken at blanks, a longer path at its dots and brackets, and then as it must be."""
    lines, current = [], ""
    for word in re.findall(r"\s+|\S+", said):
        if len(current) + len(word) <= width:
            current += word
            continue
        if word.isspace():
            lines.append(current)
            current = ""
            continue
        if current.strip():
            lines.append(current.rstrip())
            current = ""
        pieces = list(_pieces(word, width))
        lines += pieces[:-1]
        current += pieces[-1]
    return [*lines, current.rstrip()] if current.strip() or not lines else lines


def longest_piece(path: str) -> int:
    """The width below which a path cannot be had without breaking it elsewhere than at its dots and brackets."""
    return max(map(len, _PIECE.findall(path)), default=0)


def folded(path: str, lines: int) -> int:
    """The width in which a path takes so many lines at most, broken at its dots and brackets."""
    width = max(longest_piece(path), -(-len(path) // lines))
    while len(break_(path, width)) > lines:
        width += 1
    return width


_PIECE = re.compile(r"[^.\[]+|\.[^.\[]*|\[[^.\[]*")


def _pieces(word: str, width: int) -> Iterator[str]:
    current = ""
    for part in _PIECE.findall(word):
        if len(current) + len(part) > width and current:
            yield current
            current = ""
        while len(part) > width:
            yield part[:width]
            part = part[width:]
        current += part
    yield current


def without_prefix(paths: Sequence[str]) -> tuple[str, Callable[[str], str]]:
    """(what all paths begin with, up to a dot or a bracket, or ""; what leaves that out of one)."""
    common = paths[0] if len(paths) > 1 else ""
    for path in paths:
        while not path.startswith(common):
            common = common[:-1]
    cut = max(common.rfind("."), common.rfind("["), 0)
    if len(common) == min(map(len, paths), default=0) and cut == 0:
        return "", lambda path: path
    return common[:cut], lambda path: path[cut:]
