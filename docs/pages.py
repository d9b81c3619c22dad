"""The pages as programs: what they say one writes is run, and what they say one sees is looked for.

On a page, a `python` block is run in one namespace with those before it; with `title="NAME"` it is a file of that
name instead. A `text` block is what the block before it prints; a `console` block has commands after `$ ` and what
they print. Of what is printed a page may show a part; `...` stands for anything, and numbers are not compared.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).resolve().parent
FENCE = re.compile(r"^```(\w+)(?: title=\"(.+?)\")?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


class Block(NamedTuple):
    """One fenced block of a page; `line` is that of its first line, from 1."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2] or "", found[3], text.count("\n", 0, found.start(3)) + 1)
        for found in FENCE.finditer(text)
    ]


def run(page: Path, folder: Path, shell: bool = True) -> dict[str, Any]:
    """Run a page in an empty folder; returns the namespace of its blocks.

    Raises AssertionError where a page shows what is not printed; what a block raises passes through.
    """
    page, names = page.resolve(), {"__name__": "__page__"}
    printed = ""
    with contextlib.chdir(folder), _importable(folder):
        for block in blocks(page):
            if block.title:
                Path(block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                printed = _executed(block, page, names)
            elif block.language == "text":
                missing(block.text, printed, f"{page.name}:{block.line}")
            elif block.language == "console" and shell:
                for command, shown in _commands(block.text):
                    missing(shown, _called(command), f"{page.name}:{block.line}: {command}")
    return names


def missing(shown: str, printed: str, where: str) -> None:
    """Raise AssertionError for the first line that a page shows and that was not printed after the one before it."""
    rest = _plain(printed)
    for line in shown.splitlines():
        for piece in (_plain(part).strip() for part in line.split("...")):
            at = rest.find(piece)
            if at < 0:
                raise AssertionError(f"{where} shows what is not printed there: {piece!r}\n{printed}")
            rest = rest[at + len(piece) :]


def _plain(text: str) -> str:
    return " ".join(NUMBER.sub("0", text).split())


def _executed(block: Block, page: Path, names: dict[str, Any]) -> str:
    # Known to linecache under a name of its own, so that a report can show lines of it.
    name = f"{page.stem}_{block.line}.py"
    linecache.cache[name] = (len(block.text), None, block.text.splitlines(keepends=True), name)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(block.text, name, "exec"), names)
    return out.getvalue()


def _commands(text: str) -> list[tuple[str, str]]:
    """(command, what is shown of its output) of a console block."""
    parts = re.split(r"^\$ (.+)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _called(command: str) -> str:
    program, *rest = shlex.split(command)
    call = [sys.executable, *(rest if program == "python" else ["-m", program, *rest])]
    path = os.pathsep.join([str(DOCS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        call,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120", "NO_COLOR": "1"},
    )
    return done.stdout + done.stderr


@contextlib.contextmanager
def _importable(folder: Path):
    """Modules of this folder can be imported, and are forgotten afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and Path(origin).parent == folder:
                del sys.modules[name]
