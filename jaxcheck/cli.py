"""The command line: `jaxcheck demo`, `run`, `show`, `diff` and `explain`.

JAX is imported by the commands that need it, when they run: `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import click

from jaxcheck.faces import cases, printing
from jaxcheck.faces.cases import Outcome
from jaxcheck.faces.cli_options import file_names, make, on_device, words, writable

# 2 is click's, for a command or a file that could not be run.
_PASS, _FAIL, _UNUSABLE, _INCONCLUSIVE, _INTERRUPTED = 0, 1, 2, 3, 130

_epilog = "Exit code: 0 PASS, 1 FAIL, 2 could not be run, 3 INCONCLUSIVE; the worst of several wins. 130 Ctrl-C."


@click.group(epilog=_epilog, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jaxcheck")
def main() -> None:
    """Check gradients of JAX programs, and say which leaf is wrong."""
    printing.prepare()


@main.command()
def demo() -> None:
    """Find two planted mistakes in a small network's backprop."""
    from jaxcheck import demo as demonstration

    wrong, right = demonstration.reports()
    click.echo("A 3-layer network whose hand-written backprop has two mistakes: dW2 doubled, db1 times 4.\n")
    printing.show(wrong)
    click.echo("\nThe same network with the right backprop.\n")
    printing.show(right)
    if not demonstration.as_designed(wrong, right):
        click.echo("\nThis did not go as it should: please report it, with the text above.", err=True)
        sys.exit(_FAIL)
    found = " and ".join(demonstration.PLANTED)
    click.echo(f"\nBoth mistakes were found ({found}), and nothing was found where there is none.")


@main.command()
@click.argument(
    "targets", metavar="[FILE.py | FILE.py::NAME | DIRECTORY]...", nargs=-1, required=True, shell_complete=file_names
)
@click.option("-k", "keyword", default="", metavar="TEXT", help="Only cases whose FILE.py::NAME holds TEXT.")
@click.option("-x", "stop", is_flag=True, help="Stop at the first case that does not pass.")
@click.option("-q", "quiet", is_flag=True, help="A line per case in place of its report.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write the reports to this file, as a list.")
@click.option("--html", "html_path", type=click.Path(dir_okay=False), help="Write the reports to this file, as a page.")
@click.option("--junit", "junit_path", type=click.Path(dir_okay=False), help="Write JUnit's XML to this file.")
@click.option("--sarif", "sarif_path", type=click.Path(dir_okay=False), help="Write findings to this file, as SARIF.")
@click.option(
    "--resume",
    metavar="FOLDER",
    type=click.Path(file_okay=False),
    help="Keep the evidence of every case in this folder; the same command goes on from there, whatever ended it.",
)
@click.option("-n", "--processes", metavar="N", type=click.IntRange(1), default=1, help="Run cases in N processes.")
@click.option("--device", help="Where to run: cpu, gpu, tpu, or one of several, e.g. gpu:1.")
@click.option("--traceback", "with_traceback", is_flag=True, help="Show tracebacks of errors in FILE.")
def run(
    targets: tuple[str, ...],
    keyword: str,
    stop: bool,
    quiet: bool,
    json_path: str | None,
    html_path: str | None,
    junit_path: str | None,
    sarif_path: str | None,
    resume: str | None,
    processes: int,
    device: str | None,
    with_traceback: bool,
) -> None:
    """Run the checks that files declare.

    These are their functions marked with @jaxcheck.case, and their functions named check_* that take no
    parameters and return a Report. FILE.py::NAME runs one of them; a DIRECTORY all in its files that are named
    check_*.py, *_check.py, *_checks.py or checks.py.
    """
    given = {"json": json_path, "html": html_path, "xml": junit_path, "sarif": sarif_path}
    # A case may change the working directory.
    outputs = {kind: (path, Path(path).absolute()) for kind, path in given.items() if path is not None}
    for path, place in outputs.values():
        writable(path)
        if sum(other == place for _, other in outputs.values()) > 1 and (place.is_file() or not place.exists()):
            raise click.UsageError(f"two outputs go to {path}; give each a file")
    wanted = cases.files(targets)
    if resume is not None:
        make(resume)
        resume = str(Path(resume).absolute())
    done: list[Outcome] = []
    interrupted = False
    try:
        with on_device(device), contextlib.closing(_found(wanted, keyword, resume, processes, device)) as found:
            for one in found:
                with printing.heard_or_not():
                    if not quiet:
                        click.echo(f"case {one.name}")
                done.append(one.start())
                with printing.heard_or_not():
                    printing.say(done[-1], quiet, with_traceback)
                interrupted |= _interrupted(done[-1])
                # Of several processes, those that were under way have something to say as well.
                if (interrupted and processes == 1) or (stop and not printing.passed(done[-1])):
                    break
    except KeyboardInterrupt:
        interrupted = True
    if not done and not interrupted:
        raise click.UsageError(f"no case's name holds {keyword!r}" if keyword else "no case was found")
    with printing.heard_or_not():
        printing.summarise(done)
    _write(done, outputs)
    if interrupted:
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    errors = any(one.error for one in done)
    sys.exit(_UNUSABLE if errors else _exit_code([one.report for one in done]))


def _found(
    wanted: list[cases.File], keyword: str, resume: str | None, processes: int, device: str | None
) -> Generator[cases.Found, None, None]:
    if processes == 1:
        return cases.run(wanted, keyword, resume)
    from jaxcheck.faces import pool

    return pool.run(wanted, keyword, resume, processes, device)


@main.command()
@click.argument("paths", metavar="REPORT...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
def show(paths: tuple[str, ...]) -> None:
    """Print saved reports (.json or .html), or what `run --json` wrote."""
    reports: list[Any] = []
    errors: list[Any] = []
    for path in paths:
        found, broken = _read(path)
        reports += found
        errors += broken
    with printing.heard_or_not():
        for report in reports:
            printing.show(report)
            click.echo("")
    for name, said in errors:
        click.echo(f"error in case {name}: {said}", err=True)
    sys.exit(_UNUSABLE if errors else _exit_code(reports))


@main.command()
@click.argument("old", metavar="OLD", type=click.Path(exists=True, dir_okay=False))
@click.argument("new", metavar="NEW", type=click.Path(exists=True, dir_okay=False))
def diff(old: str, new: str) -> None:
    """Say what changed from the reports in OLD to those in NEW.

    Exit code: 0 nothing, 1 something.
    """
    from jaxcheck.report import changes

    (before, was), (after, now) = _read(old), _read(new)
    lines = list(changes.between_runs(before, after, dict(was), dict(now)))
    for line in lines:
        click.echo(line)
    sys.exit(_FAIL if lines else _PASS)


@main.command()
@click.argument("what", metavar="[WORD | REPORT]", required=False, shell_complete=words)
def explain(what: str | None) -> None:
    """Say what a reason or a word of a report means, with an example and what to do.

    WORD is one of them, e.g. KINK or floor; REPORT a saved report, of which every reason is explained. Without
    either, all words are listed.
    """
    from jaxcheck.report import explain as explanation

    width = shutil.get_terminal_size().columns
    if what is None:
        printing.echo(explanation.listing(width))
        return
    if Path(what).suffix.lower() in (".json", ".html"):
        if not Path(what).is_file():
            raise click.UsageError(f"no such file: {what}")
        printing.echo(explanation.of_reports(_read(what)[0], width))
        return
    try:
        printing.echo(explanation.of_word(what, width))
    except KeyError as error:
        raise click.UsageError(error.args[0]) from error


def _read(path: str) -> tuple[list[Any], list[tuple[str, str]]]:
    from jaxcheck.report import save

    try:
        return save.read(path)
    except ValueError as error:  # also what json and utf-8 raise
        raise click.UsageError(str(error) if path in str(error) else f"{path}: {error}") from error


def _interrupted(outcome: Outcome) -> bool:
    """Whether Ctrl-C ended its check: whoever presses it in a run means the run; what is known is kept."""
    return outcome.report is not None and outcome.report.cost.stopped == "user"


def _write(done: list[Outcome], outputs: dict[str, tuple[str, Path]]) -> None:
    from jaxcheck.report import save

    reports = [one.report for one in done if not one.error]
    errors = [(one.name, one.error) for one in done if one.error]
    failed = []
    for kind, (path, place) in outputs.items():
        try:
            save.save_all(reports, place, errors, kind=kind)
        except OSError as error:  # the others are written all the same
            failed.append(f"cannot write {path}: {error.strerror or error}")
    if failed:
        raise click.UsageError("; ".join(failed))


def _exit_code(reports: list[Any]) -> int:
    from jaxcheck.result import Verdict

    verdicts = {report.verdict for report in reports}
    if Verdict.FAIL in verdicts:
        return _FAIL
    return _INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else _PASS
