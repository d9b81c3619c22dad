"""The command line: what it runs, what it says, and its exit codes."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import test_report
import test_terminal
from click.testing import CliRunner
from handmade import failing, inconclusive, passing, strange

from jaxcheck.cli import main
from jaxcheck.records_drawn import Made
from jaxcheck.report import explain, save, text
from jaxcheck.report.terms import SETTING, TERMS
from jaxcheck.result import Reason, Report, Verdict

HEAD = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom handmade import *\nimport jaxcheck\n"


@pytest.fixture
def cases(tmp_path, monkeypatch):
    """Write a file of cases; its name is the argument for `run`."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(body: str, name: str = "cases.py") -> str:
        (tmp_path / name).write_text(HEAD + body, encoding="utf-8")
        return str(tmp_path / name)

    return write


def call(*arguments: str):
    result = CliRunner().invoke(main, arguments)
    # Anything but an orderly exit is a traceback in the user's face.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


PASS = "def check_good():\n    return passing()\n"
FAIL = "def check_bad():\n    return failing()\n"
OPEN = "def check_open():\n    return inconclusive()\n"
BREAK = "def check_broken():\n    raise RuntimeError('no data here')\n"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (PASS, 0),
        (FAIL, 1),
        (BREAK, 2),
        (OPEN, 3),
        (PASS + OPEN, 3),
        (OPEN + FAIL + PASS, 1),
        (PASS + BREAK + FAIL, 2),
    ],
)
def test_exit_codes(cases, body, code):
    assert call("run", cases(body)).exit_code == code


def test_every_case_is_named_and_shown_in_the_order_of_the_file(cases):
    file = cases(FAIL + PASS)
    result = call("run", file)
    said = result.stdout
    bad = failing(name="check_bad", made=Made(again=f"jaxcheck run {file}::check_bad"))
    # A line that runs, folded where the path is longer than the terminal is wide.
    assert f"again:jaxcheckrun{file}::check_bad" in "".join(said.split())
    assert said.index("case check_bad") < said.index(str(bad)) < said.index("case check_good")
    assert str(passing(name="check_good")) in said
    assert said.endswith(
        "FAIL         check_bad: `layers[1].W` ratio 2.000 +- 1e-9 on all 15 entries\n2 checks: 1 FAIL, 1 PASS\n"
    )


def test_marked_cases_and_plain_functions_are_collected_and_nothing_else(cases):
    body = """
from jaxcheck import case, check_grad      # imported, so not of this file
@case
def first(): return passing()
@case(name="the second")
def second(): return passing()
def helper(): raise RuntimeError
def check_with(argument): raise RuntimeError
def check_default(n=1, *args, **kwargs): return passing()
check_alias = check_default
class check_class: pass
check_value = 3
"""
    said = call("run", cases(body)).stdout
    assert [line for line in said.splitlines() if line.startswith("case ")] == [
        "case first",
        "case the second",
        "case check_default",
    ]


@pytest.mark.parametrize("name", ["second", "the second"])
def test_one_case_by_name(cases, name):
    body = PASS + "@jaxcheck.case(name='the second')\ndef second(): return failing()\n"
    result = call("run", f"{cases(body)}::{name}")
    assert result.exit_code == 1
    assert "check_good" not in result.stdout


def test_any_function_can_be_named(cases):
    assert call("run", f"{cases('def other(): return inconclusive()')}::other").exit_code == 3


def test_a_name_that_is_not_there_lists_those_that_are(cases):
    result = call("run", f"{cases(PASS + FAIL)}::check_ugly")
    assert result.exit_code == 2
    assert "no case 'check_ugly'" in result.stderr
    assert "check_good, check_bad" in result.stderr


def test_a_file_without_cases_says_what_is_expected(cases):
    result = call("run", cases("x = 1\n"))
    assert result.exit_code == 2
    assert "@jaxcheck.case" in result.stderr
    assert "check_*" in result.stderr


@pytest.mark.parametrize("target", ["missing.py", "missing.py::case", ".::case"])
def test_a_missing_file(target):
    result = call("run", target)
    assert result.exit_code == 2
    assert f"no such file: {target.partition('::')[0]}" in result.stderr


def test_a_file_that_is_not_python(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    result = call("run", str(tmp_path / "notes.txt"))
    assert result.exit_code == 2
    assert "notes.txt is not a Python file" in result.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def (:\n", "SyntaxError: invalid syntax"),
        ("import nothing_of_this_name\n", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("sys.exit(7)\n", "SystemExit: 7"),
    ],
)
def test_a_file_that_does_not_load(cases, body, said):
    result = call("run", cases(body))
    assert result.exit_code == 2
    assert "error in " in result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_in_one_case_does_not_stop_the_others(cases, tmp_path):
    result = call("run", cases(BREAK + PASS), "--json", str(tmp_path / "out.json"))
    assert result.exit_code == 2
    assert "error in case check_broken: RuntimeError: no data here (--traceback shows where)" in result.stderr
    assert str(passing(name="check_good")) in result.stdout
    assert result.stdout.endswith(
        "error        check_broken: RuntimeError: no data here\n2 checks: 1 PASS, 1 in error\n"
    )
    assert save.read(tmp_path / "out.json")[1] == [("check_broken", "RuntimeError: no data here")]
    shown = call("show", str(tmp_path / "out.json"))
    assert shown.exit_code == 2 and "error in case check_broken: RuntimeError: no data here" in shown.stderr
    assert str(passing(name="check_good")) in shown.stdout


def test_a_page_holds_the_errors_as_well(tmp_path):
    said = ("a </script> <b>", "ValueError: \x1b[31mred\x00 <b> \ud800")
    for path in (tmp_path / "old.html", tmp_path / "new.html", tmp_path / "new.json"):
        save.save_all([passing(name="good")], path, [said] if path.stem == "new" else ())
    page = (tmp_path / "new.html").read_text("utf-8")
    assert "\\x1b[31mred\\x00 &lt;b&gt; \\ud800" in page and not re.search("[\x00-\x08\x1b]", page)
    for name in ("new.html", "new.json"):
        assert save.read(tmp_path / name)[1] == [said]
    shown = call("show", str(tmp_path / "new.html"))
    assert shown.exit_code == 2 and "error in case a </script> <b>: ValueError" in shown.stderr
    result = call("diff", str(tmp_path / "old.html"), str(tmp_path / "new.html"))
    assert result.exit_code == 1 and "is in error" in result.stdout


def test_traceback_shows_the_line(cases):
    result = call("run", "--traceback", cases(BREAK))
    assert "raise RuntimeError('no data here')" in result.stderr
    assert "error in case check_broken: RuntimeError: no data here\n" in result.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def check_x(): return 3", "expected a Report, but check_x returned int"),
        ("def check_x(): return {}", "expected a Report, but check_x returned dict"),
        (
            "@jaxcheck.case\ndef x(): pass",
            "expected a dict or tuple of a check's arguments, or a Report, but x returned NoneType",
        ),
    ],
)
def test_a_case_that_returns_something_else(cases, body, said):
    result = call("run", cases(body))
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_neighbour_can_be_imported_and_nothing_stays_behind(cases, tmp_path):
    (tmp_path / "a_neighbour_module.py").write_text("from handmade import passing\n")
    before = list(sys.path)
    assert call("run", cases("from a_neighbour_module import passing as p\ndef check_x(): return p()\n")).exit_code == 0
    assert len(sys.path) == len(before) + 1  # the file's own insert (HEAD), not ours
    assert "jaxcheck_run_file" not in sys.modules


DOORS = """
import jaxcheck.check.calls
from types import SimpleNamespace
def door(name):
    def stand_in(*args, **kwargs):
        return passing(kind=name, notes=(f"got {args} {sorted(kwargs.items())}",))
    return stand_in
for name in ("check_grad", "check_rule", "check_batch"):
    setattr(jaxcheck.check.calls, name, door(name))
"""


@pytest.mark.parametrize(
    ("mark", "returned", "said"),
    [
        ("", "dict(loss=1, params=2, grad=3, args=(4,))", "got () [('args', (4,)), ('grad', 3), ('loss', 1)"),
        ("", "(1, 2, 3)", "got (1, 2, 3) []"),
        ("(check='batch')", "dict(loss=1, points=[2])", "got () [('loss', 1), ('points', [2])]"),
        ("(check='rule')", "(1, 2)", "got (1, 2) []"),
        ("(check='rule')", "dict(f=1, args=(2, 3), seed=4)", "got (1, 2, 3) [('seed', 4)]"),
    ],
)
def test_a_case_reaches_the_door_it_asks_for(cases, monkeypatch, mark, returned, said):
    import jaxcheck.check.calls

    for name in ("check_grad", "check_rule", "check_batch"):  # put back after the test, whatever the file does
        monkeypatch.setattr(jaxcheck.check.calls, name, None, raising=False)
    result = call("run", cases(f"{DOORS}\n@jaxcheck.case{mark}\ndef x(): return {returned}\n"))
    assert result.exit_code == 0, result.stderr
    assert said in result.stdout.replace("\n", " ")


def test_json_holds_the_reports_under_their_cases_names(cases, tmp_path):
    out = tmp_path / "out.json"
    result = call("run", cases(PASS + OPEN), "--json", str(out))
    assert result.exit_code == 3
    reports = [Report.from_json(item) for item in json.loads(out.read_text(encoding="utf-8"))]
    assert [report.name for report in reports] == ["check_good", "check_open"]
    shown = call("show", str(out))
    assert shown.exit_code == 3
    assert all(str(report) in shown.stdout for report in reports)


def test_json_that_cannot_be_written(cases, tmp_path):
    for option in ("--json", "--html", "--junit", "--sarif"):
        result = call("run", cases(PASS), option, str(tmp_path / "no" / "folder" / "out"))
        assert result.exit_code == 2 and "case check_good" not in result.stdout  # said before anything is run
        assert "cannot write" in result.stderr and "there is no folder" in result.stderr


@pytest.mark.parametrize(("report", "code"), [(passing(), 0), (failing(), 1), (inconclusive(), 3)])
def test_show_prints_a_saved_report(tmp_path, report, code):
    report.save(tmp_path / "r.json")
    result = call("show", str(tmp_path / "r.json"))
    assert result.exit_code == code
    assert result.stdout == f"{report}\n\n"


@pytest.mark.parametrize("content", ["", "{}", "[3]", '{"jaxcheck_report": 99}', "\x00"])
def test_show_of_another_file_is_a_usage_error(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    result = call("show", str(tmp_path / "r.json"))
    assert result.exit_code == 2
    assert result.stderr.count("r.json") == 1


@pytest.mark.parametrize("device", ["cpu", "cpu:1"])
def test_device_is_the_default_one_within_the_run(cases, device):
    body = "import jax.numpy as jnp\nwhere = jnp.zeros(()).device\ndef check_x(): return passing(notes=(repr(where),))"
    result = call("run", cases(body), "--device", device)
    assert result.exit_code == 0
    assert f"id={device.partition(':')[2] or 0}" in result.stdout


@pytest.mark.parametrize("device", ["abacus", "cpu:9", "cpu:-1", "cpu:x", ""])
def test_an_unknown_device_lists_the_known_ones(cases, device):
    result = call("run", cases(PASS), "--device", device)
    assert result.exit_code == 2
    assert f"no device {device!r} here; there is cpu:0, cpu:1" in result.stderr


def test_ctrl_c_is_no_failed_check(cases):
    result = call("run", cases(PASS + "def check_slow(): raise KeyboardInterrupt\n"))
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


@pytest.mark.parametrize("arguments", [("--help",), *((name, "-h") for name in main.commands)])
def test_help(arguments):
    result = call(*arguments)
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_the_epilog_tells_the_exit_codes():
    assert "0 PASS, 1 FAIL, 2 could not be run, 3 INCONCLUSIVE" in " ".join(call("--help").stdout.split())


def test_python_dash_m_works_where_only_ascii_can_be_printed(tmp_path):
    failing().save(tmp_path / "r.json")
    done = subprocess.run(
        [sys.executable, "-m", "jaxcheck", "show", str(tmp_path / "r.json")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert b"FAIL check_grad(loss)" in done.stdout


@pytest.mark.parametrize("gone", [">/dev/full", ">&-", "| true"])
def test_what_nobody_hears_is_written_all_the_same(cases, tmp_path, gone):
    """A disk that is full, a standard output that is closed, a reader that has left."""
    if gone == ">/dev/full" and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    file = cases("def check_a(): return passing()\ndef check_b(): return failing()\n")
    script = f"{sys.executable} -m jaxcheck run '{file}' --json '{tmp_path}/r.json'; echo $? > '{tmp_path}/code'"
    done = subprocess.run(["sh", "-c", f"({script}) {gone}"], capture_output=True, text=True, check=False)
    assert (tmp_path / "code").read_text().strip() == "1"
    assert len(save.read(str(tmp_path / "r.json"))[0]) == 2
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr


def test_demo_finds_what_is_planted():
    result = call("demo")
    assert result.exit_code == 0, result.output
    assert "Both mistakes were found (W2 and b1)" in result.stdout


def test_several_files_and_directories(cases, tmp_path):
    (tmp_path / "inner").mkdir()
    one, two = cases(PASS, "check_one.py"), cases(FAIL, "inner/two_checks.py")
    cases("raise RuntimeError", "script.py")  # not of a name that is looked for
    cases("", "inner/checks.py")  # nothing in it, and nobody asked for it by name
    for targets in ((str(tmp_path),), (one, two), (one, f"{two}::check_bad"), (one, one, str(tmp_path / "inner"))):
        result = call("run", *targets)
        assert result.exit_code == 1, result.output
        assert result.stdout.endswith(
            f"FAIL         {two}::check_bad: `layers[1].W` ratio 2.000 +- 1e-9 on all 15 "
            "entries\n2 checks: 1 PASS, 1 FAIL\n"
        )
    (tmp_path / "empty").mkdir()
    assert "no file is called check_*.py or" in call("run", str(tmp_path / "empty")).stderr


def test_a_file_that_does_not_load_does_not_stop_the_others(cases):
    result = call("run", cases("1 / 0", "check_a.py"), cases(PASS, "check_b.py"))
    assert result.exit_code == 2 and result.stdout.endswith("2 checks: 1 PASS, 1 in error\n")


def test_quiet_is_a_line_per_case(cases):
    said = call("run", "-q", cases(PASS + OPEN)).stdout.splitlines()
    assert said[0] == "PASS         check_good: 2 leaves, 25 parameters, difference 3.2e-11, floor 1.0e-08"
    assert said[1] == "INCONCLUSIVE check_open: NONDETERMINISTIC: `W1`"
    assert len(said) == 4  # what did not pass once more, and the counts


def test_stop_at_the_first_that_does_not_pass(cases):
    assert "check_open" not in call("run", "-x", cases(PASS + FAIL + OPEN)).output
    assert "check_open" not in call("run", "-x", cases(PASS + BREAK + OPEN)).output
    assert "check_open" in call("run", cases(PASS + FAIL + OPEN)).output


def test_only_cases_whose_name_holds_a_text(cases):
    said = call("run", "-k", "GOOD", cases(FAIL + PASS))
    assert said.exit_code == 0 and "check_bad" not in said.stdout
    none = call("run", "-k", "nothing", cases(FAIL + PASS))
    assert none.exit_code == 2 and "no case's name holds 'nothing'" in none.stderr


def test_every_format_at_once(cases, tmp_path):
    paths = [str(tmp_path / f"out.{kind}") for kind in ("json", "html", "xml", "sarif")]
    options = zip(("--json", "--html", "--junit", "--sarif"), paths, strict=True)
    result = call("run", "-q", cases(PASS + FAIL + BREAK), *(word for option in options for word in option))
    assert result.exit_code == 2
    assert save.load(paths[0]) == save.load(paths[1])[::-1]  # a page has the worst first
    page = Path(paths[1]).read_text(encoding="utf-8")
    assert "2 gradient checks: 1 FAIL, 1 PASS, 1 in error" in page and "no data here" in page
    suite = ElementTree.parse(paths[2]).getroot()[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["3", "1", "1"]
    failure = suite.find("testcase[@name='check_bad']/failure")
    assert failure is not None and failure.get("type") == "FAIL MANUAL_WRONG"
    assert failure.get("message") == "`layers[1].W` ratio 2.000 +- 1e-9 on all 15 entries (check_bad)"
    assert call("show", paths[1]).stdout.startswith("FAIL check_grad(check_bad)")
    (run,) = json.loads(Path(paths[3]).read_text(encoding="utf-8"))["runs"]
    assert [one["ruleId"] for one in run["results"]] == ["MANUAL_WRONG"]
    assert "no data here" in run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]


def test_diff_says_what_changed(cases, tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.html"
    save.save_all([passing(name="a"), failing(name="b")], old)
    save.save_all([passing(name="a", seconds=3.0), passing(name="c")], new)
    result = call("diff", str(old), str(new))
    assert result.exit_code == 1 and result.stdout.splitlines() == ["b: is gone", "c: is new"]
    assert call("diff", str(old), str(old)).exit_code == 0
    passing(name="before").save(old)
    failing(name="after", leaves=passing().leaves).save(new)
    assert call("diff", str(old), str(new)).stdout == "after: FAIL MANUAL_WRONG, was PASS\n"


@pytest.mark.parametrize(
    ("before", "after", "errors", "said"),
    [
        # Several checks of one test bear its name.
        ([("t", True), ("t", True)], [("t", False), ("t", True)], ({}, {}), ["t: FAIL MANUAL_WRONG, was PASS"]),
        ([("t", True), ("t", True)], [("t", True), ("t", False)], ({}, {}), ["t (2): FAIL MANUAL_WRONG, was PASS"]),
        ([("t", True), ("t", True)], [("t", True)], ({}, {}), ["t (2): is gone"]),
        (
            [("a", True), ("b", True)],
            [("a", True)],
            ({}, {"b": "OSError: gone\nmore"}),
            ["b: is in error (OSError: gone), was PASS"],
        ),
        ([("a", True)], [("a", True)], ({}, {"c": "OSError: gone"}), ["c: is in error (OSError: gone), was not there"]),
        ([("a", True)], [("a", True), ("b", True)], ({"b": "OSError: gone"}, {}), ["b: PASS, was in error"]),
        ([("a", True)], [("a", True)], ({"b": "OSError: gone"}, {}), ["b: is gone"]),
        ([("a", True)], [("a", True)], ({"b": "OSError: gone"}, {"b": "OSError: again"}), []),
        # One file's cases, and the same ones of a folder.
        (
            [("a", True), ("b", True)],
            [("f.py::a", True), ("f.py::b", False)],
            ({}, {}),
            ["b: FAIL MANUAL_WRONG, was PASS"],
        ),
    ],
)
def test_diff_of_runs_loses_nothing(tmp_path, before, after, errors, said):
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    for path, reports, failed in zip(paths, (before, after), errors, strict=True):
        made = [(passing if ok else failing)(name=name, leaves=passing().leaves) for name, ok in reports]
        save.save_all(made, path, list(failed.items()))
    result = call("diff", *map(str, paths))
    assert result.stdout.splitlines() == said and result.exit_code == bool(said)


@pytest.mark.parametrize("word", [*Reason, *Verdict, "floor", "M", "kink", "|M|", "Error Bar"])
def test_explain_a_word(word):
    result = call("explain", str(word))
    assert result.exit_code == 0
    if word in list(Reason):
        assert result.stdout.startswith(f"{word}\n\n{textwrap.fill(word.advice, 80)}\n")
        assert "What to do:" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_every_word_that_a_report_has_before_a_colon_or_above_a_column_is_explained():
    said = "\n".join(
        text.render(one, 200) for one in (passing(), failing(), inconclusive(), strange(), test_report.rule())
    )
    said += "\n" + text.render(test_terminal.complex_leaf(), 200)
    labels = set(re.findall(r"^([a-z][a-z ,]*?): ", said, re.M)) - {"params", "the loss is cheap"}
    assert labels >= {"blamed", "floor", "precision", "textbook", "witnesses", "mode", "again"}, labels
    for word in (
        *labels,
        "this line",
        "to N",
        "to A",
        "|M|",
        "±",
        "ratio",
        "sketch",
        "laws",
        "transformations",
        "OK",
        "cost",
        "X",
    ):
        explain.of_word(word)
    assert explain.of_word("precision").startswith("native precision\n")
    assert explain.of_word("PRECISION").startswith("PRECISION\n")


@pytest.mark.parametrize(
    ("begun", "offered"),
    [
        ("run che", ["file,che"]),
        ("explain KI", ["plain,KINK"]),
        ("explain fl", ["plain,floor"]),
        ("explain rep", ["file,rep"]),
        ("show r", ["file,r"]),
        ("run --js", ["plain,--json"]),
    ],
)
def test_the_shell_completes(begun, offered):
    words = ["jaxcheck", *begun.split()]
    env = {"_JAXCHECK_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    assert CliRunner().invoke(main, prog_name="jaxcheck", env=env).output.split() == offered


def test_explain_a_report_and_what_there_is_to_explain(tmp_path):
    failing(leaves=(*failing().leaves, *inconclusive().leaves)).save(tmp_path / "r.json")
    said = call("explain", str(tmp_path / "r.json")).stdout
    assert said.index("`layers[1].W` ratio 2.000") < said.index("\nMANUAL_WRONG\n") < said.index("\nNONDETERMINISTIC\n")
    assert explain.of_reports([passing()]).startswith("AGREE")
    listed = call("explain").stdout
    assert all(term.name in listed for term in TERMS.values()) and max(map(len, listed.splitlines())) <= 80


@pytest.mark.parametrize(
    ("word", "said"), [("KINKS", "did you mean KINK?"), ("zzz", "lists the words"), ("gone.json", "no such file")]
)
def test_explain_what_no_report_says(word, said):
    result = call("explain", word)
    assert result.exit_code == 2 and said in result.stderr


@pytest.mark.parametrize("term", [term for term in TERMS.values() if term.example], ids=lambda term: term.name)
def test_an_example_ends_in_the_reason_that_it_explains(term):
    names: dict = {}
    exec(SETTING + term.example, names)
    assert names["report"].reason.name == term.name, names["report"]
    assert len(SETTING + term.example) < 700 and "\n\n" not in term.example


def test_every_reason_and_verdict_is_explained():
    assert {one.casefold() for one in (*Reason, *Verdict)} <= set(TERMS)
    without = {one for one in Reason if not TERMS[one.casefold()].example}
    assert without == {Reason.NOISE, Reason.INTERRUPTED}


SAYS = "def check_says():\n    print('said')\n    return passing()\n"
SEVERAL = PASS + "print('loaded')\n" + FAIL + BREAK + OPEN + SAYS


def test_several_processes_say_what_one_says(cases, tmp_path):
    files = [cases(SEVERAL, "one.py"), cases("raise OSError('no disk')\n", "two.py"), cases(PASS, "three.py")]
    said = []
    for count in ("1", "2"):
        paths = [str(tmp_path / f"{count}.{kind}") for kind in ("json", "xml")]
        result = call("run", *files, "--processes", count, "--json", paths[0], "--junit", paths[1])
        assert result.exit_code == 2
        said.append((result.stdout.replace("loaded\n", ""), result.stderr, *(Path(p).read_text() for p in paths)))
    assert said[0] == said[1]
    assert "no data here" in said[0][1] and "OSError: no disk" in said[0][1] and "said\n" in said[0][0]


def test_processes_end_quietly(cases):
    command = [sys.executable, "-m", "jaxcheck", "run", cases(PASS + FAIL), "-n", "2", "-q"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr == ""


def test_a_process_that_dies_takes_only_its_own_case_along(cases):
    body = PASS + "def check_dies():\n    import os\n    os._exit(3)\n" + FAIL + OPEN
    result = call("run", cases(body), "-q", "-n", "2")
    assert result.exit_code == 2
    assert "error in case check_dies: BrokenProcessPool: the process that ran it was ended" in result.stderr
    assert "4 checks: 1 PASS, 1 FAIL, 1 INCONCLUSIVE, 1 in error" in result.stdout


SLOW = "def check_slow{}():\n    import time\n    time.sleep({})\n    return passing()\n"


def test_stop_at_the_first_ends_the_other_processes(cases):
    start = time.perf_counter()
    result = call("run", cases(FAIL + SLOW.format(1, 60) + PASS), "-x", "-q", "-n", "2")
    assert result.exit_code == 1 and time.perf_counter() - start < 30
    assert "slow" not in result.stdout and "check_good" not in result.stdout
    assert not multiprocessing.active_children()


@pytest.fixture
def ctrl_c_is_heard():
    """Python ignores it where it was started in the background by a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_lets_the_processes_say_what_they_know(cases):
    pressed = (
        "def check_pressed():\n    import os, signal, time\n    os.kill(os.getppid(), signal.SIGINT)\n"
        "    time.sleep(0.5)\n    return passing()\n"
    )
    result = call("run", cases(pressed + "".join(SLOW.format(k, 1) for k in range(6))), "-q", "-n", "1", "-n", "2")
    assert result.exit_code == 130 and "interrupted" in result.stderr
    assert "check_pressed" in result.stdout and "check_slow5" not in result.stdout


def test_resume_keeps_a_file_for_every_check_of_a_case(cases, tmp_path):
    body = textwrap.dedent("""
        import jax.numpy as jnp
        calls = []

        def loss(p):
            calls.append(p)
            return jnp.sum(p ** 2)

        def check_two():
            jaxcheck.check_grad(loss, jnp.ones(2))
            report = jaxcheck.check_grad(loss, jnp.ones(3))
            print(f"reused {report.cost.reused > 0}")
            return report

        @jaxcheck.case
        def given():
            return loss, jnp.ones(4)

        @jaxcheck.case(check="rule")
        def rule():
            return jnp.sin, 1.0
    """)
    folder = tmp_path / "kept" / "here"
    for again in (False, True):
        result = call("run", cases(body), "-q", "--resume", str(folder))
        assert result.exit_code == 0, result.output
        assert f"reused {again}" in result.stdout
        assert len(list(folder.iterdir())) == 3
    (tmp_path / "file").touch()
    assert "cannot make the folder" in call("run", cases(PASS), "--resume", str(tmp_path / "file" / "x")).stderr
