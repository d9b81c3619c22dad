"""What a terminal shows: any width, no colour, plain letters, many leaves; and every reason's text, word for word."""

from __future__ import annotations

import dataclasses
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from itertools import pairwise
from pathlib import Path

import pytest
import test_report
from handmade import NAN, failing, inconclusive, leaf, passing, strange
from rich.console import Console

from jaxcheck.report import grid, text
from jaxcheck.result import Component, Reason, Report, Verdict

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "reasons.txt"


def many(count: int, *wrong: int) -> Report:
    leaves = [leaf(f"model.encoder.layers[{i}].attention.W") for i in range(count)]
    bad = failing()["layers[1].W"]
    for i in wrong:
        worst = tuple(dataclasses.replace(c, path=leaves[i].path) for c in bad.worst)
        leaves[i] = dataclasses.replace(bad, path=leaves[i].path, worst=worst)
    return (failing if wrong else passing)(leaves=tuple(leaves))


def complex_leaf() -> Report:
    value = complex(-1.0806053, 0.54030231)
    worst = (Component("layers[1].attention.query.kernel", (12, 345), value, 2 * value, value, 1.1e-11, value),)
    return failing(
        leaves=(
            leaf(
                "layers[1].attention.query.kernel",
                Verdict.FAIL,
                Reason.MANUAL_WRONG,
                worst=worst,
                dtype="complex64",
                difference=1 / 3,
                difference_autodiff=1 / 3,
            ),
        )
    )


REPORTS = {
    "passing": passing(),
    "failing": failing(),
    "inconclusive": inconclusive(),
    "strange": strange(),
    "rule": test_report.rule(),
    "batch": test_report.batch(),
    "many": many(60, 3, 50),
    "complex": complex_leaf(),
}
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+\.?\d*(?:e[-+]\d+)?(?:[-+][\d.]+(?:e[-+]\d+)?j)?(?: ±[\d.e+-]+)?(?![\w.])")


def tables(said: str) -> str:
    """What stands in lines of several columns."""
    return "\n".join(line for line in said.splitlines() if "   " in line.strip())


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("width", [60, 61, 70, 80, 96, 110, 120, 160, 200])
def test_lines_fit_and_numbers_are_whole(name, width):
    report = REPORTS[name]
    said = text.render(report, width)
    assert max(map(len, said.splitlines())) <= width
    # A number of a table is one of those that the report holds, at full width: never a part of one.
    known = set(NUMBER.findall(text.render(report, 200)))
    assert set(NUMBER.findall(tables(said))) <= known | {"[0]"}
    assert "to N" in said or not report.leaves
    for one in report.leaves[:3]:
        if one.verdict is not Verdict.PASS:
            assert one.path in re.sub(r"\s+", "", said)


@pytest.mark.parametrize("name", REPORTS)
def test_the_verdict_is_first_and_last(name):
    report = REPORTS[name]
    lines = text.render(report, 80).splitlines()
    assert lines[0].startswith(f"{report.verdict} {report.kind}(")
    assert any(line.startswith(f"{report.verdict}: ") for line in lines[-3:])
    assert "" not in (lines[0], lines[-1]) and all(a or b for a, b in pairwise(lines))


@pytest.mark.parametrize(
    ("report", "most", "said"),
    [
        (many(200), 26, "and 190 more leaves: 190 PASS; difference at most 3.2e-11; leaf floor at most 3.0e-09"),
        (many(200, 150), 40, "and 190 more leaves: 190 PASS;"),
        (many(200, *range(20, 200)), 62, "and 190 more leaves: 170 FAIL, 20 PASS;"),
    ],
)
def test_many_leaves_are_folded_to_a_screen(report, most, said):
    lines = text.render(report, 120).splitlines()
    assert len(lines) <= most
    assert said in "\n".join(lines)
    shown = [line for line in lines if line.startswith("[")]
    assert len(shown) == 10 and shown[0].split()[0] == (
        f"[{report.failed[0].path.split('[')[1].split(']')[0]}].attention.W" if report.failed else "[0].attention.W"
    )


def test_what_all_paths_begin_with_is_said_once_where_it_saves_room():
    assert "leaves of `model.encoder.layers`:" in text.render(many(12), 80)
    assert "leaves of" not in text.render(many(12), 140)
    assert "leaves of" not in text.render(passing(), 60)


# Names of a flat dict, as Haiku and checkpoints have them.
FLAT = "['encoder.block_{}.attention.query_projection.kernel']"


@pytest.mark.parametrize(("width", "lines"), [(60, 3), (80, 2), (96, 2), (120, 1)])
def test_a_long_name_is_broken_at_its_dots_and_other_columns_go_first(width, lines):
    report = many(200, 7)
    leaves = (dataclasses.replace(one, path=FLAT.format(i)) for i, one in enumerate(report.leaves))
    said = text.render(dataclasses.replace(report, leaves=tuple(leaves)), width).splitlines()
    table = said[next(i for i, line in enumerate(said) if line.startswith("---")) + 1 :]
    shown = 10 // lines  # leaves: so many lines are there for them
    table = table[: next(i for i, line in enumerate(table) if line.startswith(f"and {200 - shown} more"))]
    assert len(table) == shown * lines
    pieces = [piece for line in table if (piece := line[: line.find("  ")] if "  " in line else line)]
    assert "".join(pieces[:lines]) == FLAT.format(7).removeprefix("['encoder" if width < 80 else "")
    assert all(piece[0] in "[." for piece in pieces)


@pytest.mark.parametrize(
    ("said", "width", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("a.bb.ccc", 4, ["a.bb", ".ccc"]),
        ("x[10].W", 5, ["x[10]", ".W"]),
        ("abcdef", 4, ["abcd", "ef"]),
        ("", 9, [""]),
        ("a  b", 9, ["a  b"]),
        ("  a b", 4, ["  a", "b"]),
    ],
)
def test_breaking(said, width, lines):
    assert grid.break_(said, width) == lines


@pytest.mark.parametrize(
    ("paths", "prefix"),
    [
        (["a.b.c", "a.b.d"], "a.b"),
        (["layers[0].W", "layers[1].W"], "layers"),
        (["W1", "W2"], ""),
        (["a.b"], ""),
        (["a.b", "a.bc"], "a"),
        (["a", "a.b"], ""),
        ([], ""),
    ],
)
def test_prefix(paths, prefix):
    found, short = grid.without_prefix(paths)
    assert found == prefix
    assert [found + short(path) for path in paths] == paths


def shown_on(width: int, report: Report, folder: Path, **env: str) -> str:
    """What `jaxcheck show` writes to a terminal of so many columns."""
    report.save(folder / "r.json")
    return said_on(width, "-m", "jaxcheck", "show", str(folder / "r.json"), **env)


def said_on(width: int, *command: str, **env: str) -> str:
    """What Python writes to a terminal of so many columns, standard error as well."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    unset = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    clean = {key: value for key, value in os.environ.items() if key not in unset}
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env={**clean, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **env},
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        said += piece
    process.wait()
    os.close(ours)
    return said.decode("utf-8").replace("\r\n", "\n")


def without_codes(said: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", said)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_terminal(width, tmp_path):
    said = shown_on(width, failing(), tmp_path)
    assert "\x1b[1;31mFAIL check_grad(loss)" in said
    lines = [line.rstrip() for line in without_codes(said).rstrip().split("\n")]
    assert "\n".join(lines) == text.render(failing(), width)


def test_a_script_prints_as_wide_as_its_terminal_and_raises_in_its_own_line(tmp_path):
    failing().save(tmp_path / "r.json")
    script = tmp_path / "mine.py"
    script.write_text(
        f"import jaxcheck\nr = jaxcheck.Report.load({str(tmp_path / 'r.json')!r})\nprint(r)\nr.assert_ok()\n"
    )
    printed, _, raised = said_on(70, str(script)).partition("Traceback")
    assert printed.rstrip() == text.render(failing(), 70)
    assert raised.count('File "') == 1 and f'File "{script}", line 4' in raised
    assert text.render(failing(), 70) in raised


@pytest.mark.parametrize("more", [(), ("-p", "xdist", "-n", "1")], ids=["alone", "split"])
def test_pytest_shows_what_fits_into_its_terminal(tmp_path, more):
    failing().save(tmp_path / "r.json")
    mine = "import jaxcheck\ndef test_it():\n    jaxcheck.Report.load('r.json').assert_ok()\n"
    (tmp_path / "test_mine.py").write_text(mine)
    options = ("-p", "jaxcheck.pytest_plugin", "-p", "no:cacheprovider", "--color=no", f"--rootdir={tmp_path}", *more)
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_CURRENT_TEST": ""}
    start = f"import os, sys, pytest; os.chdir({str(tmp_path)!r}); sys.exit(pytest.main({list(options)!r}))"
    said = said_on(80, "-c", start, **env)
    # Below the cause and a blank line.
    shown = [line for line in said.splitlines() if line.startswith("E ")][2:]
    assert max(map(len, shown)) <= 80
    assert [line[1:].strip() for line in shown] == [line.strip() for line in text.render(failing(), 72).splitlines()]


def test_an_explanation_fits_into_its_terminal():
    said = said_on(60, "-m", "jaxcheck", "explain", "floor").splitlines()
    assert 50 < max(map(len, said)) <= 60


def test_the_closing_lines_of_a_run_are_folded_on_a_terminal_and_whole_in_a_pipe(tmp_path):
    body = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom handmade import failing\n"
    body += f"def check_a(): return failing()\ndef check_b(): raise ValueError('{'no ' * 30}')\n"
    (tmp_path / "checks.py").write_text(body)
    command = ("-m", "jaxcheck", "run", "-q", str(tmp_path / "checks.py"))
    said = said_on(60, *command)
    lines = [line for line in without_codes(said).splitlines() if not line.startswith("error in case")]
    assert "\x1b[31mFAIL\x1b[0m" in said and max(map(len, lines)) <= 60
    piped = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ).stdout
    first = piped.splitlines()[0]
    assert len(first) > 60 and " ".join(first.split()) in " ".join(without_codes(said).split())


def test_no_color_is_obeyed(tmp_path):
    said = shown_on(80, failing(), tmp_path, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3\d", said) and "FAIL check_grad(loss)" in said


def test_a_terminal_without_the_letters(tmp_path):
    said = shown_on(80, strange(), tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C", NO_COLOR="1")
    assert "3.2e-11 +-1.0e-11" in said and "\\u03b8[bold]" in said


def test_an_explanation_where_the_letters_are_missing():
    said = said_on(80, "-m", "jaxcheck", "explain", "error bar", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert "The number after +-: how far" in said


def test_plain_letters_are_laid_out_like_the_others():
    said = text.render(failing(), 80, ascii_only=True)
    assert said.isascii() and "0.333 +-1.0e-11     0.333" in said
    starts = [line.index("verdict") for line in said.splitlines() if line.endswith("verdict")]
    assert starts == [line.index("FAIL MANUAL") for line in said.splitlines() if line.endswith("FAIL MANUAL_WRONG")]
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=out, width=80).print(strange())
    out.flush()
    assert b"+-1.0e-11" in out.buffer.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_print_never_raises(monkeypatch, encoding):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    for report in REPORTS.values():
        print(report)
    out.flush()
    said = out.buffer.getvalue().decode(encoding)
    assert ("±" in said) is (encoding != "ascii") and ("θ" in said) is (encoding == "utf-8")


def reasons() -> str:
    """Every reason as a report of one leaf says it."""
    parts = []
    for reason in Reason:
        passed = reason in (Reason.AGREE, Reason.AUTODIFF_DIFFERS, Reason.CONVERGED, Reason.KINK, Reason.SURROGATE)
        failed = reason in (
            Reason.MANUAL_WRONG,
            Reason.NUMERIC_SUSPECT,
            Reason.STRUCTURE,
            Reason.PRECISION_WRONG,
            Reason.SECOND_ORDER_WRONG,
            Reason.LAW_BROKEN,
            Reason.TRANSFORM_WRONG,
        )
        verdict = Verdict.PASS if passed else Verdict.FAIL if failed else Verdict.INCONCLUSIVE
        one = leaf("W", verdict, reason, precision=NAN)
        report = passing(verdict=verdict, reason=reason, leaves=(one,), carried=(), witnesses=(), why_mode="")
        parts.append(text.render(report, 80))
    return "\n\n\n".join(parts) + "\n"


def test_every_reasons_text_word_for_word():
    """Write the file anew with JAXCHECK_WRITE_GOLDEN=1, and read what changed."""
    if os.environ.get("JAXCHECK_WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(reasons(), encoding="utf-8")
    assert reasons() == GOLDEN.read_text(encoding="utf-8")
