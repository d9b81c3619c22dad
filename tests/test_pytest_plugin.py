"""The pytest plugin, tried on a suite as a user has one: twice, alone and under xdist."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from handmade import failing, inconclusive, passing

from jaxcheck import pytest_plugin, session
from jaxcheck.check.door import door
from jaxcheck.faces import pytest_section
from jaxcheck.faces.pytest_section import Entry
from jaxcheck.records_drawn import Made
from jaxcheck.report import save
from jaxcheck.result import Report

ROOT = Path(__file__).parent.parent
SUITE = """
import unittest
import jax, jax.numpy as jnp, numpy as np, pytest
import jaxcheck as jc
from jaxcheck import Reason
from jax.test_util import check_grads

x = {"W": np.array([0.3, -0.7])}
collected = jc.check_grad(lambda p: jnp.sum(p["W"] ** 2), x)
def loss(p): return jnp.sum(jnp.sin(p["W"]))
def right(p): return {"W": jnp.cos(p["W"])}
def wrong(p): return {"W": 2 * jnp.cos(p["W"])}
def deep(p): return p["W"] @ jnp.ones(3)
def sine(factor):
    f = jax.custom_jvp(jnp.sin)
    f.defjvp(lambda x, t: (f(x[0]), factor * jnp.cos(x[0]) * t[0]))
    return f

def test_grad(gradcheck): assert gradcheck(loss, x, right).seed == SEED
def test_rule(rulecheck): rulecheck(jnp.sin, x["W"], algebra=False, transforms=False)
def test_batch(batchcheck): batchcheck(loss, [x, x], right)
def test_own_seed(gradcheck): assert gradcheck(loss, x, right, seed=3).seed == 3
def test_wrong(gradcheck): gradcheck(loss, x, wrong)
def test_plain_assert(): assert jc.check_grad(loss, x, wrong)
def test_own_error(): jc.check_grad(lambda p: deep(p), x, right)
def test_option(): jc.check_grad(loss, x, right, rtol=3)
class TestOfUnittest(unittest.TestCase):
    def test_open_too(self): jc.check_grad(lambda p: loss(p) + np.nan, x, right).assert_ok()
    def test_wrong_too(self): self.assertTrue(jc.check_grad(loss, x, wrong))
def test_open(): jc.check_grad(lambda p: loss(p) + np.nan, x, right).assert_ok()
def test_drop_in(): check_grads(sine(1.0005), (np.float32(0.3),), 1, ("fwd",))
@pytest.mark.xfail(reason=Reason.MANUAL_WRONG)
def test_expected(gradcheck): gradcheck(loss, x, wrong)
@pytest.mark.xfail(reason=Reason.KINK)
def test_expected_otherwise(gradcheck): gradcheck(loss, x, wrong)
def test_level(rulecheck): assert 'level="quick"' in str(rulecheck(jnp.sin, x["W"], algebra=False, **LEVEL).notes)
"""


class Run(NamedTuple):
    said: str
    folder: Path

    def line(self, start: str) -> str:
        return next(line for line in self.said.splitlines() if line.startswith(start))


def run_pytest(folder: Path, *arguments: str, seed: int = 0, level: str = "{'level': 'quick'}") -> Run:
    (folder / "test_mine.py").write_text(SUITE.replace("SEED", str(seed)).replace("LEVEL", level))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-rA",
            "--strict-markers",
            "-p",
            "no:cacheprovider",
            "-p",
            "jaxcheck.pytest_plugin",
            *arguments,
            str(folder),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(ROOT),
            "PYTEST_ADDOPTS": "",
            "COLUMNS": "200",
        },
    )
    return Run(done.stdout + done.stderr, folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Run:
    return run_pytest(tmp_path_factory.mktemp("alone"), "--junitxml=junit.xml", "--jaxcheck-inconclusive=warn")


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Run:
    return run_pytest(
        tmp_path_factory.mktemp("split"),
        "-p",
        "xdist",
        "-n",
        "2",
        "--jaxcheck-grads",
        "--jaxcheck-seed=4",
        "--jaxcheck-report=all.json",
        "--jaxcheck-inconclusive=skip",
        "--tb=short",
        "--jaxcheck-level=quick",
        seed=4,
        level="{}",
    )


CAUSE = "GradientMismatch: `W` ratio 2.000 on all 2 entries at test_mine.py:12 (loss)"


@pytest.mark.parametrize("run", ["alone", "split"])
def test_the_summary_line_names_the_cause(request, run):
    run = request.getfixturevalue(run)
    assert run.line("FAILED test_mine.py::test_wrong") == f"FAILED test_mine.py::test_wrong - {CAUSE}"
    assert "assert <FAIL check_grad(loss): `W` ratio 2.000 on all 2 entries at test_mine.py:12>" in run.line(
        "FAILED test_mine.py::test_plain_assert"
    )
    for name in ("grad", "rule", "batch"):
        assert f"PASSED test_mine.py::test_{name}\n" in run.said


@pytest.mark.slow
def test_junit_has_the_same_message(alone):
    cases = {case.get("name"): case for case in ElementTree.parse(alone.folder / "junit.xml").iter("testcase")}
    failure = cases["test_wrong"].find("failure")
    assert failure is not None and failure.get("message") == CAUSE
    assert "FAIL check_grad(loss)" in failure.text and failure.text.count("What is off is named below") == 1


def test_no_frame_of_ours_is_shown(alone):
    assert "jaxcheck/" not in alone.said.replace("site-packages/jaxcheck", "jaxcheck")
    assert "site-packages/jax" not in alone.said
    shown = alone.said.partition("____ test_own_error ____")[2].partition("\n____")[0]
    assert "def deep(p)" in shown and "TypeError" in shown
    option = alone.said.partition("____ test_option ____")[2].partition("\n____")[0]
    assert "check_grad has no option rtol=" in option and option.count(">") == 1


def test_a_plain_assert_shows_the_whole_report(alone):
    shown = alone.said.partition("____ test_plain_assert ____")[2].partition("\n____")[0]
    assert "blamed: M, the gradient under test, at `W`" in shown


def test_what_is_not_decided_is_what_was_asked_for(alone, split):
    assert "PASSED test_mine.py::test_open" in alone.said
    assert "GradientCheckWarning: INCONCLUSIVE: NONFINITE: loss(params) = nan" in alone.said
    assert "PASSED test_mine.py::TestOfUnittest::test_open_too" in alone.said
    for line in ("28", "30"):
        assert f"SKIPPED [1] test_mine.py:{line}: INCONCLUSIVE: NONFINITE: loss(params) = nan" in split.said
    assert "<FAIL check_grad(loss): `W` ratio 2.000" in alone.line(
        "FAILED test_mine.py::TestOfUnittest::test_wrong_too - AssertionError:"
    )


@pytest.mark.parametrize("run", ["alone", "split"])
def test_xfail_expects_its_reason(request, run):
    run = request.getfixturevalue(run)
    assert run.line("XFAIL").startswith("XFAIL test_mine.py::test_expected - MANUAL_WRONG")
    assert "FAILED test_mine.py::test_expected_otherwise" in run.said
    assert "expected to end in KINK, but the checks ended in MANUAL_WRONG" in run.said


def test_the_closing_section(alone, split):
    assert "gradient checks: 4 FAIL, 2 INCONCLUSIVE, 6 PASS, 1 xfail" in alone.said
    assert "gradient checks: 5 FAIL, 2 INCONCLUSIVE, 6 PASS, 1 xfail" in split.said  # what the drop-in found as well
    shown = [line for line in alone.said.rpartition("gradient checks:")[2].splitlines() if line.endswith(" s")]
    assert [line.split()[0] for line in shown] == [*["FAIL"] * 4, *["INCONCLUSIVE"] * 2, "FAIL", *["PASS"] * 3]
    assert shown[6].startswith("FAIL         test_mine.py::test_expected (xfail)  `W` ratio 2.000")
    line = split.line("FAIL         test_mine.py::test_wrong")
    assert "`W` ratio 2.000 on all 2 entries at test_mine.py:12 (loss)" in line and line.endswith(" s")
    assert "floor" in split.line("PASS         test_mine.py::")


def test_jaxs_own_functions_are_replaced_for_the_run(alone, split):
    assert "PASSED test_mine.py::test_drop_in" in alone.said
    assert "FAILED test_mine.py::test_drop_in - GradientMismatch: `x` ratio 1+0.0005 on its one entry" in split.said
    assert split.line("jax.test_util: ") == (
        "jax.test_util: calls answered by jaxcheck: 1; wrong here, and passed by JAX's own functions: "
        "test_mine.py::test_drop_in"
    )
    assert "jax.test_util" not in alone.said.rpartition("gradient checks:")[2]


@pytest.mark.parametrize("run", ["alone", "split"])
def test_the_level_of_rules_is_that_of_the_run(request, run):
    assert "PASSED test_mine.py::test_level" in request.getfixturevalue(run).said


def test_a_call_that_asks_for_more_than_a_quick_look_gets_it(monkeypatch):
    monkeypatch.setitem(session.defaults, "level", functools.partial(pytest_plugin._level, "quick"))
    got = door(lambda x, order=1, level="none": (x, order, level))
    assert got(1) == (1, 1, "quick") and got(1, level="full") == (1, 1, "full")
    assert got(1, order=2) == (1, 2, None)


def test_the_report_file_holds_every_report(split):
    reports = [Report.from_json(item) for item in json.loads((split.folder / "all.json").read_text(encoding="utf-8"))]
    assert len(reports) == 14
    assert "test_mine.py::test_wrong loss" in [report.name for report in reports]
    assert {report.seed for report in reports if report.kind != "check_grads"} == {3, 4}


def test_a_failure_says_how_its_test_is_repeated(alone, split):
    shown = alone.said.partition("____ test_wrong ____")[2].partition("\n____")[0]
    assert "again: pytest test_mine.py::test_wrong\n" in shown
    again = [one.made.again for one in save.load(split.folder / "all.json")]
    assert "pytest --jaxcheck-seed=4 test_mine.py::test_drop_in" in again
    assert again.count("") == 1  # what was checked while pytest collected is no test's


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--jaxcheck-report=all.txt", "must end in .json, .html, .xml"),
        ("--jaxcheck-report=no/folder/all.json", "there is no folder"),
        ("--jaxcheck-seed=-1", "--jaxcheck-seed=-1: a whole number, not negative"),
    ],
)
def test_options_that_cannot_be(tmp_path, option, said):
    run = run_pytest(tmp_path, option)
    assert said in run.said and "PASSED" not in run.said


def entries(*reports: Report) -> list[Entry]:
    again = [dataclasses.replace(one, made=Made(again=f"pytest test_a.py::test_{i}")) for i, one in enumerate(reports)]
    return [Entry(f"test_a.py::test_{i}", report.to_json()) for i, report in enumerate(again)]


def test_what_is_expected_or_excused_is_no_failure_in_the_files(tmp_path):
    """A machine that reads them would fail where pytest does not."""
    those = entries(passing(), failing(), failing(), failing())
    those[1].expected, those[2].excused = True, "--jaxcheck-inconclusive=skip"
    for suffix in ("xml", "sarif"):
        pytest_section.write(str(tmp_path / f"all.{suffix}"), those)
    suite = ElementTree.parse(tmp_path / "all.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "2")
    skipped = [case.find("skipped") for case in suite]
    assert [one is not None and one.get("message").partition(":")[0] for one in skipped] == [
        False, "xfail", "--jaxcheck-inconclusive=skip", False
    ]  # fmt: skip
    (run,) = json.loads((tmp_path / "all.sarif").read_text(encoding="utf-8"))["runs"]
    whys = [[s["justification"] for s in found.get("suppressions", ())] for found in run["results"]]
    each = len(whys) // 3
    assert whys == [["xfail"]] * each + [["--jaxcheck-inconclusive=skip"]] * each + [[]] * each


def test_findings_are_written_as_sarif(tmp_path):
    pytest_section.usable(str(tmp_path / "all.sarif"))
    pytest_section.write(str(tmp_path / "all.sarif"), entries(passing(), failing()))
    (run,) = json.loads((tmp_path / "all.sarif").read_text(encoding="utf-8"))["runs"]
    assert "Again: pytest test_a.py::test_1." in run["results"][0]["message"]["text"] and len(run["results"]) == 1


def test_the_worst_come_first_and_ten_are_enough():
    made = entries(*[passing()] * 12, inconclusive(), failing())
    lines = [line for line, _ in pytest_section.lines(made, 80, everything=False)]
    assert [line.split()[0] for line in lines[:3]] == ["FAIL", "INCONCLUSIVE", "PASS"]
    assert len(lines) == 11 and lines[-1] == "and 4 more; all with -v"
    assert max(map(len, lines)) <= 80
    everything = [line for line, _ in pytest_section.lines(made, 80, everything=True)]
    assert len(everything) == 14 and everything[-1].endswith("floor 1.0e-08 (loss)  0.50 s")


def small(tmp_path: Path, body: str, *arguments: str, folder: str = ".") -> subprocess.CompletedProcess:
    """What pytest says of a file, asked from a folder of its suite."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "test_it.py").write_text(SMALL + body)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=tmp_path / folder, capture_output=True, text=True)


SMALL = """import jax.numpy as jnp, pytest
from jaxcheck import Reason
def loss(x): return jnp.sum(x**2)
@pytest.fixture
def wrong(gradcheck): gradcheck(loss, jnp.ones(3), lambda x: 3 * x)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("reason", "said"), [("MANUAL_WRONG", "1 xfailed"), ("JUMP", "1 error")])
def test_xfail_expects_its_reason_of_a_fixture_as_well(tmp_path, reason, said):
    found = small(tmp_path, f"@pytest.mark.xfail(reason=Reason.{reason})\ndef test_x(wrong): pass\n")
    assert said in found.stdout, found.stdout


@pytest.mark.slow
def test_a_report_that_cannot_be_written_takes_nothing_else_along(tmp_path):
    (tmp_path / "full.json").symlink_to("/dev/full")
    found = small(tmp_path, "def test_x(gradcheck): gradcheck(loss, jnp.ones(3))\n", "--jaxcheck-report=full.json")
    assert "could not be written to full.json: No space left on device" in found.stdout, found.stdout
    assert "1 passed" in found.stdout and found.returncode == pytest.ExitCode.USAGE_ERROR


@pytest.mark.slow
def test_the_line_that_repeats_a_test_is_of_the_folder_one_is_in(tmp_path):
    found = small(tmp_path, "def test_x(gradcheck): gradcheck(loss, jnp.ones(3), lambda x: x)\n", folder="sub")
    assert "pytest test_it.py::test_x" in found.stdout, found.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "said"), [("fail", "1 error"), ("skip", "1 skipped"), ("warn", "1 skipped")])
def test_a_fixture_that_is_not_decided_leaves_nothing_to_run_on(tmp_path, wanted, said):
    body = "@pytest.fixture\ndef open_(gradcheck): return gradcheck(lambda x: loss(x) + jnp.nan, jnp.ones(3))\n"
    found = small(tmp_path, body + "def test_x(open_): assert open_\n", f"--jaxcheck-inconclusive={wanted}")
    assert said in found.stdout, found.stdout
