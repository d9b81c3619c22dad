"""What the command line prints, whoever listens: a report in full or in a line, and the counts at the end."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from jaxcheck.faces.cases import Outcome


def prepare() -> None:
    """A lost letter must not lose the report, nor a standard output that was closed before the start."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def heard_or_not() -> Iterator[None]:
    """Around what is printed: whoever reads it may be gone (`| head -1`), or the disk full; what is to be checked and
    written goes on, and nothing more is printed."""
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):  # the stream may hold more, which is flushed at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def passed(one: Outcome) -> bool:
    return not one.error and one.report.ok


def say(one: Outcome, quiet: bool, with_traceback: bool) -> None:
    if one.printed:
        click.echo(one.printed, nl=not one.printed.endswith("\n"))
    if one.error:
        if with_traceback:
            click.echo(one.trace, err=True, nl=False)
        hint = "" if with_traceback else " (--traceback shows where)"
        click.echo(f"error in case {one.name}: {one.error}{hint}", err=True)
    elif quiet:
        show_line(one)
    else:
        show(one.report)
    if not quiet:
        click.echo("")


def show_line(one: Outcome) -> None:
    """An outcome in a line: on a terminal folded under itself, elsewhere one line for whoever reads on."""
    from jaxcheck.report import grid, line, tables

    verdict = "error" if one.error else one.report.verdict.value
    told = one.error.splitlines()[0] if one.error else line.about(one.report)
    said = f"{verdict:<12} {one.name}: {told}"
    if not sys.stdout.isatty():
        click.echo(said)
        return
    from rich.console import Console

    console = Console()
    for number, text in enumerate(grid.paragraph(said, console.width, indent=" " * 13)):
        if number == 0:
            text.stylize("red" if one.error else tables.COLOURS[one.report.verdict], 0, len(verdict))
        console.print(text)


def echo(said: str) -> None:
    from jaxcheck.report import text

    click.echo(text.printable(said))


def show(report: Any) -> None:
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(report)
    else:
        click.echo(str(report))


def summarise(done: list[Outcome]) -> None:
    """The counts, and what did not pass once more: the reports above may be long."""
    if len(done) < 2:
        return
    verdicts = [one.report.verdict.value for one in done if not one.error]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)]
    errors = [one for one in done if one.error]
    counts += [f"{len(errors)} in error"] if errors else []
    for verdict in ("INCONCLUSIVE", "FAIL"):
        for one in done:
            if not one.error and one.report.verdict.value == verdict:
                show_line(one)
    for one in errors:
        show_line(one)
    click.echo(f"{len(done)} checks: {', '.join(counts)}")
