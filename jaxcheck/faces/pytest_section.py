"""What pytest says of a run's gradient checks at its end, and the file it writes of them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SUFFIXES = (".json", ".html", ".xml", ".sarif")
_RANK = {"FAIL": 0, "INCONCLUSIVE": 1, "PASS": 2}
_COLOURS = {"FAIL": "red", "INCONCLUSIVE": "yellow", "PASS": "green"}
_MOST = 10


@dataclasses.dataclass
class Entry:
    """One report of the run: as plain data, for it travels from xdist's workers.

    `drop_in` says that `jax.test_util` was called, `beyond` that its own function would have passed; `expected` that
    the test failed as its xfail mark says; `excused` what `--jaxcheck-inconclusive` made of it.
    """

    test: str
    report: dict[str, Any]
    drop_in: bool = False
    beyond: bool = False
    expected: bool = False
    excused: str = ""


def usable(path: str) -> None:
    """Raise UsageError where no report can be written to `path`: before the run, not after it."""
    target = Path(path)
    if target.suffix.lower() not in _SUFFIXES:
        raise pytest.UsageError(f"--jaxcheck-report={path}: the file's name must end in {', '.join(_SUFFIXES)}")
    if not target.absolute().parent.is_dir():
        raise pytest.UsageError(f"--jaxcheck-report={path}: there is no folder {target.absolute().parent}")


def from_here(config: pytest.Config, test: str) -> str:
    """A test's name, which begins with its file as seen from pytest's root, as seen from where pytest was called."""
    file, *rest = test.split("::")
    return "::".join([os.path.relpath(config.rootpath / file, config.invocation_params.dir), *rest])


def written(path: str, entries: list[Entry]) -> tuple[bool, str]:
    """(whether they could be written, what to say of it): what the tests said is told all the same."""
    try:
        write(path, entries)
    except OSError as error:
        return False, f"gradient checks could not be written to {path}: {error.strerror or error}"
    return True, f"gradient checks were written to {path}"


def write(path: str, entries: list[Entry]) -> None:
    """All reports, each under its test's name."""
    from jaxcheck.report import save

    reports = [dataclasses.replace(report, name=f"{entry.test} {report.name}") for entry, report in _decoded(entries)]
    excused = {k: entry.excused or "xfail" for k, entry in enumerate(entries) if entry.excused or entry.expected}
    save.save_all(reports, path, excused=excused)


def lines(entries: list[Entry], width: int, everything: bool) -> Iterator[tuple[str, str]]:
    """(line, colour), the worst first; those that are as bad by their tests' names, whichever process was first."""
    from jaxcheck.report import line

    pairs = sorted(_decoded(entries), key=lambda pair: (*_badness(*pair), pair[0].test))
    for entry, report in pairs if everything else pairs[:_MOST]:
        took = "" if math.isnan(report.seconds) else f"  {report.seconds:.2f} s"
        said = f"{line.about(report)} ({report.name})"
        text = f"{report.verdict.value:<12} {entry.test}{' (xfail)' if entry.expected else ''}  {said}"
        if not everything and len(text) + len(took) > width:
            text = text[: max(width - len(took) - 3, 40)] + "..."
        yield text + took, "" if entry.expected else _COLOURS[report.verdict.value]
    left_out = 0 if everything else len(pairs) - _MOST
    if left_out > 0:
        yield f"and {left_out} more; all with -v", ""


def title(entries: list[Entry]) -> str:
    verdicts = [entry.report["verdict"] for entry in entries if not entry.expected]
    counts = [f"{verdicts.count(v)} {v}" for v in _RANK if v in verdicts]
    expected = len(entries) - len(verdicts)
    return "gradient checks: " + ", ".join([*counts, f"{expected} xfail"] if expected else counts)


def drop_in(entries: list[Entry]) -> str:
    """What the drop-in saw, where it stood in for `jax.test_util`."""
    calls = [entry for entry in entries if entry.drop_in]
    beyond = dict.fromkeys(entry.test for entry in calls if entry.beyond)
    said = f"jax.test_util: calls answered by jaxcheck: {len(calls)}; "
    return said + (
        f"wrong here, and passed by JAX's own functions: {', '.join(beyond)}"
        if beyond
        else "none is wrong here that JAX's own functions pass"
    )


def _decoded(entries: list[Entry]) -> list[tuple[Entry, Any]]:
    from jaxcheck.result import Report

    return [(entry, Report.from_json(entry.report)) for entry in entries]


def _badness(entry: Entry, report: Any) -> tuple[float, float]:

    if entry.expected:  # ahead of what passed, and no worse than anything that did not
        return _RANK["PASS"] - 0.5, 0.0
    worst = report.floor
    return _RANK[report.verdict.value], -worst if not math.isnan(worst) else 0.0
