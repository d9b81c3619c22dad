"""Report -> text: `renderable` for a terminal of any width, `render` for a string without escape codes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from jaxcheck.report import culprits, grid, line, numbers, tables, words
from jaxcheck.result import LeafResult, Reason, Report, Verdict

WIDTH = 110
# Below this a line holds no number beside a name; above it, lines are too long to read.
_NARROWEST, _WIDEST = 40, 200
# Leaves that did not pass: so many with their components, and so many by their hints. A screen holds no more.
MOST_DETAILED, MOST_NAMED = 3, 10


def render(report: Report, width: int = WIDTH, ascii_only: bool = False) -> str:
    """The report as plain text, the same on every machine: no colour, no trailing blanks.

    Args:
        width: of the lines, in characters.
        ascii_only: `+-` for the plus-minus sign, escapes for other letters.
    """
    said = "\n".join(text.plain.rstrip() for text in _lines(report, width, ascii_only))
    return _ascii(said) if ascii_only else said


def for_stdout(report: Report, width: int | None = None) -> str:
    """The text as this process can print it: as wide as its terminal, if any, unless `width` is given; plain letters
    where standard output takes no others."""
    width = width or _columns()
    said = render(report, width)
    return said if _encodable(said) else render(report, width, ascii_only=True)


def printable(said: str) -> str:
    """A text in the letters that standard output takes."""
    return said if _encodable(said) else _ascii(said.replace("±", "+-"))


def _encodable(said: str) -> bool:
    try:
        said.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _columns() -> int:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        if sys.stdout.isatty():
            return os.get_terminal_size(sys.stdout.fileno()).columns or WIDTH
    return WIDTH


class renderable:
    """The report as one rich object, coloured by verdict, laid out for the console that shows it."""

    def __init__(self, report: Report):
        self.report = report

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Text]:
        for text in _lines(self.report, options.max_width, options.ascii_only):
            if options.ascii_only:
                text.plain = _ascii(text.plain)
            yield text


def _ascii(said: str) -> str:
    return said.encode("ascii", "backslashreplace").decode("ascii")


def _lines(report: Report, width: int, ascii_only: bool) -> Iterator[Text]:
    width = min(max(width, _NARROWEST), _WIDEST)
    with numbers.plain_signs(ascii_only):
        # Laid out as a whole while the signs are what they are to be.
        lines = list(_whole(report, width))
    for before, text in zip([Text("-"), *lines], lines, strict=False):
        if before.plain or text.plain:  # one blank line, however many parts ask for it
            yield text


def _whole(report: Report, width: int) -> Iterator[Text]:
    """Verdict, blame and why; the leaves; what is wrong in them; how it was done; the verdict again, for a long
    report is read from its end. Everything is `Text`: a path such as `layers[0].W` must not be read as markup."""
    colour = tables.COLOURS[report.verdict]

    def say(said: str, style: str = "", indent: str = "") -> Iterator[Text]:
        return grid.paragraph(said, width, style, indent)

    yield from say(words.headline(report), style=f"bold {colour}")
    for said in words.blame(report):
        yield from say(said, style="bold")
    for said in culprits.lines(report):
        yield from say(said, indent="      ")
    if report.reason is not Reason.AGREE:
        yield from say(f"{report.reason.name}: {report.reason.advice}")
    for note in report.notes:
        yield from say(note)
    if report.leaves:
        yield Text("")
        yield from tables.leaves_on_a_screen(report, width)
        yield Text("")
    yield from _details(report, width)
    for table in tables.rows(report, width):
        yield from (Text(""), *table)
    if report.rows or any(leaf.worst for leaf in numbers.troubled(report)):
        yield Text("")
    for text in tables.points(report):
        yield from say(text.plain, style=str(text.style), indent="      ")
    if report.carried:
        yield from say("carried along, not differentiable: " + _carried(report))
    for said in words.footer(report):
        yield from say(said)
    yield from say(f"{report.verdict.value}: {line.about(report)}", style=f"bold {colour}")


def _details(report: Report, width: int) -> Iterator[Text]:
    """Per leaf that did not pass its hint and its note, of the first few the worst components as well."""
    bad = numbers.troubled(report)
    for leaf in bad[:MOST_DETAILED]:
        yield from _detail(leaf, width, numbers.silent(report))
    named = [leaf for leaf in bad[MOST_DETAILED:] if leaf.hint or leaf.note]
    if named:
        yield Text("")
    # A leaf that passed with a remark (a kink, a surrogate) gets the remark only.
    passed = [leaf for leaf in report.leaves if leaf.verdict is Verdict.PASS and (leaf.note or leaf.hint)]
    for leaves in (named, passed):
        for leaf in leaves[:MOST_NAMED]:
            yield from grid.paragraph(_remark(leaf), width, indent="  ")
        if len(leaves) > MOST_NAMED:
            yield Text(f"and remarks on {numbers.leaves(len(leaves) - MOST_NAMED)} more, in report.leaves")


def _detail(leaf: LeafResult, width: int, silent: bool) -> Iterator[Text]:
    if not (leaf.hint or leaf.note or leaf.worst):
        return
    yield Text("")
    yield from grid.paragraph(_remark(leaf), width, style="bold", indent="  ")
    if leaf.worst:
        for text in tables.components(leaf.worst, width - 2, silent):
            yield Text("  ", no_wrap=True).append_text(text)
    left_out = len(leaf.worst) - tables.MOST_COMPONENTS
    if left_out > 0:
        yield from grid.paragraph(
            f"  {numbers.count(left_out, 'more component')} in report[{leaf.path!r}].worst", width
        )


def _remark(leaf: LeafResult) -> str:
    said = "; ".join(sentence for sentence in (leaf.hint, leaf.note) if sentence)
    return f"{leaf.path}: {said}" if said else f"{leaf.path}, worst components:"


def _carried(report: Report) -> str:
    listed = [f"`{path}` ({why})" for path, why in report.carried]
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + more
