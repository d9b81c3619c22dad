"""A report to a file: all of it or nothing, never half a file."""

from __future__ import annotations

import json as stdlib_json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxcheck.report import html, json, junit, sarif
from jaxcheck.result import Report


def save(report: Report, path: str | os.PathLike[str]) -> None:
    """Write `report` to `path`, as its suffix says: `.json` or `.html`. Raises ValueError for another."""
    suffix = Path(path).suffix.lower()
    if suffix == ".json":
        write(path, dumps(json.encode(report)))
    elif suffix == ".html":
        write(path, html.page(report))
    else:
        raise ValueError(f"cannot save a report as {suffix or 'a file without suffix'!r}: use .json or .html")


def save_all(
    reports: Sequence[Report],
    path: str | os.PathLike[str],
    errors: Sequence[tuple[str, str]] = (),
    kind: str = "",
    excused: Mapping[int, str] | None = None,
) -> None:
    """Write several reports into one file.

    Args:
        errors: (name, what was raised) of checks that came to no report.
        kind: "json", "html", "xml" (JUnit's) or "sarif"; by the suffix of `path` if "". Raises ValueError for another.
        excused: why a report, by its position, counts for nothing where a machine fails on what is no PASS.
    """
    kind = kind or Path(path).suffix.lower().removeprefix(".")
    if kind == "json":
        write(path, dumps(json.encode_all(reports, errors)))
    elif kind == "html":
        write(path, html.pages(reports, errors))
    elif kind == "xml":
        write(path, junit.render(reports, errors, excused))
    elif kind == "sarif":
        write(path, dumps(sarif.render(reports, errors, excused)))
    else:
        raise ValueError(
            f"cannot save reports as {kind or 'a file without suffix'!r}: use .json, .html, .xml or .sarif"
        )


def read(path: str | os.PathLike[str]) -> tuple[list[Report], list[tuple[str, str]]]:
    """(reports, errors) in a file that `save` or `save_all` wrote as JSON or HTML.

    Raises:
        ValueError: where it holds something else.
    """
    text = Path(path).read_text(encoding="utf-8")
    if Path(path).suffix.lower() in (".html", ".htm"):
        text = html.embedded(text)
    try:
        data = stdlib_json.loads(text)
    except stdlib_json.JSONDecodeError as error:
        raise ValueError(f"{os.fspath(path)} holds no report of jaxcheck: it is no JSON ({error})") from None
    return json.decode_all(data)


def load(path: str | os.PathLike[str]) -> list[Report]:
    """The reports that `read` finds."""
    return read(path)[0]


def dumps(data: Any) -> str:
    """Strict JSON, one field a line, for files that people compare."""
    return stdlib_json.dumps(data, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def write(path: str | os.PathLike[str], text: str) -> None:
    """Write a file whole: into a neighbour first, which then takes the name in one step. Half a character, which a
    message may hold, is written as Python and JSON write it."""
    target = Path(path)
    if target.exists() and not target.is_file():
        # A pipe or a terminal (/dev/stdout) cannot be replaced and must not be.
        target.write_text(text, encoding="utf-8", errors="backslashreplace")
        return
    target = target.resolve()  # a link stays a link; what it points to is replaced
    neighbour = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        neighbour.write_text(text, encoding="utf-8", errors="backslashreplace")
        if target.exists():
            neighbour.chmod(stat.S_IMODE(target.stat().st_mode))  # who may read it is its owner's choice
        os.replace(neighbour, target)
    except OSError as error:
        # Said of the file that was asked for: its neighbour is nobody's concern.
        if error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        neighbour.unlink(missing_ok=True)
