"""The command line among what cases and machines do to it: other folders, full disks, names of all kinds, a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli import FAIL, PASS, call, cases

from jaxcheck.case import case

__all__ = ["cases"]

ELSEWHERE = "import os, tempfile\n"


@pytest.mark.parametrize("count", ["1", "2"])
@pytest.mark.parametrize("where", ["at import", "in a case"])
def test_a_file_that_goes_elsewhere_loses_nothing(cases, tmp_path, monkeypatch, where, count):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    goes = f"os.chdir({str(tmp_path / 'other')!r})\n"
    at_import, in_case = (goes, "") if where == "at import" else ("", goes)
    cases(f"import os\n{at_import}def check_goes():\n    {in_case or 'pass'}\n    return passing()\n", "a_checks.py")
    cases(PASS + FAIL, "b_checks.py")
    written = call("run", "a_checks.py", "b_checks.py", "-n", count, "--json", "r.json", "--resume", "kept")
    assert written.exit_code == 1, written.output
    names = [report["name"] for report in json.loads((tmp_path / "r.json").read_text())]
    assert names == ["a_checks.py::check_goes", "b_checks.py::check_good", "b_checks.py::check_bad"]
    assert not list((tmp_path / "other").iterdir())


def test_an_output_that_cannot_be_written_takes_no_other_along(cases, tmp_path):
    page = tmp_path / "r.html"
    result = call("run", cases(PASS), "--json", "/dev/full", "--html", str(page), "--sarif", "/dev/full")
    assert result.exit_code == 2 and page.is_file()
    assert result.output.count("cannot write /dev/full: No space left on device") == 2


RULES = """
import jax.numpy as jnp
def made(factor):
    @jaxcheck.case
    def same():
        return lambda x: jnp.sum(x**2), factor * jnp.ones(2), lambda x: 2 * x
    return same
a, b = made(1.0), made(2.0)
"""


def test_cases_of_one_name_keep_a_file_each(cases, tmp_path):
    for _ in range(2):
        result = call("run", cases(RULES), "--resume", str(tmp_path / "kept"))
        assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "kept").glob("*.sqlite"))) == 2


def test_a_file_of_a_name_that_is_no_text(cases, tmp_path):
    name = os.fsdecode(b"\xff_checks.py")
    assert call("run", cases(PASS, name), "--resume", str(tmp_path / "kept")).exit_code == 0


def test_a_name_is_a_text():
    with pytest.raises(TypeError, match=r"case\(name=3\): the name is a str"):
        case(name=3)  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_a_dict_without_the_function_is_told_what_it_lacks(cases):
    result = call("run", cases("@jaxcheck.case(check='rule')\ndef h(): return {'fn': abs}\n"))
    assert "expected the function as 'f', but the dict that h returned has 'fn'" in result.output


def test_show_of_another_file_names_it_once(tmp_path):
    (tmp_path / "x.py").write_text("import this\n")
    assert call("show", str(tmp_path / "x.py")).output.count("x.py") == 1


SLOW = "import time\ndef check_slow():\n    open({mark!r}, 'a').write(f'{{os.getpid()}} ')\n    time.sleep(600)\n"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_was_killed(cases, tmp_path, sent):
    mark = tmp_path / "pids"
    files = [cases(ELSEWHERE + SLOW.format(mark=str(mark)), f"{k}_checks.py") for k in range(2)]
    command = [sys.executable, "-m", "jaxcheck", "run", *files, "-n", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        assert _in_time(lambda: mark.exists() and len(mark.read_text().split()) == 2)
        run.send_signal(sent)
        run.communicate(timeout=30)  # whoever reads what they print sees its end
    assert _in_time(lambda: not any(Path(f"/proc/{pid}").exists() for pid in mark.read_text().split()))


def _in_time(holds) -> bool:
    for _ in range(600):
        if holds():
            return True
        time.sleep(0.1)
    return False


MODEL = "import numpy as np\ndef gradient(w): return {factor} * w\n"
CUBE = """import numpy as np, jaxcheck
from model import gradient
def check_square():
    return jaxcheck.check_grad(lambda w: (w**2).sum(), np.ones(3), gradient)
"""


@pytest.mark.parametrize("count", ["1", "2"])
def test_every_folder_has_its_own_neighbours(tmp_path, count):
    for name, factor in (("a", 2), ("b", 3), ("c", 3), ("d", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.py").write_text(MODEL.format(factor=factor))
        (tmp_path / name / "check_model.py").write_text(CUBE)
    result = call("run", str(tmp_path), "-q", "-n", count)
    assert [line.split()[0] for line in result.output.splitlines()[:4]] == ["PASS", "FAIL", "FAIL", "PASS"]


COUNTED = "import shared_neighbour\ndef check_x():\n    shared_neighbour.made.append(1)\n"


def test_files_of_one_folder_share_their_neighbours(cases, tmp_path):
    """What a module registers once, it registers once."""
    cases("made = []\n", "shared_neighbour.py")
    for count, name in enumerate("ab", start=1):
        cases(f"{COUNTED}    assert len(shared_neighbour.made) == {count}\n    return passing()\n", f"{name}_checks.py")
    assert call("run", str(tmp_path)).exit_code == 0


HELD = {
    "a loop": "for k in range(3):\n    @jaxcheck.case(name=f'c{k}')\n    def c(k=k): return one(k)\n",
    "a list": "those = [jaxcheck.case(name=f'c{k}')(lambda k=k: one(k)) for k in range(3)]\n",
    "a class": "class A:\n    @staticmethod\n    @jaxcheck.case\n    def c0(): return one(0)\n"
    "    @staticmethod\n    @jaxcheck.case(name='c1')\n    def d(): return one(1)\n"
    "@jaxcheck.case\ndef c2(): return one(2)\n",
}


@pytest.mark.parametrize("count", ["1", "2"])
@pytest.mark.parametrize("where", HELD)
def test_every_mark_is_run_wherever_it_is_held(cases, where, count):
    body = "def one(k): return passing() if k != 1 else failing()\n" + HELD[where]
    result = call("run", cases(body), "-q", "-n", count)
    assert result.exit_code == 1
    assert [line.split()[:2] for line in result.output.splitlines()[:3]] == [
        ["PASS", "c0:"],
        ["FAIL", "c1:"],
        ["PASS", "c2:"],
    ]


def test_a_mark_in_a_neighbour_is_that_files_own(cases, tmp_path):
    cases("@jaxcheck.case\ndef theirs(): return failing()\n", "neighbour_of_cases.py")
    assert call("run", cases("import neighbour_of_cases\n" + PASS), "-q").exit_code == 0


@pytest.mark.parametrize("folder", [".hidden", "node_modules", "env"])
def test_environments_in_a_folder_are_not_run(cases, tmp_path, folder):
    (tmp_path / folder / "lib").mkdir(parents=True)
    (tmp_path / "env").mkdir(exist_ok=True)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    cases(FAIL, f"{folder}/lib/a_checks.py")
    cases(PASS, "b_checks.py")
    assert call("run", str(tmp_path)).exit_code == 0


def test_two_outputs_to_one_file_are_refused(cases, tmp_path):
    path = str(tmp_path / "same.out")
    assert "two outputs go to" in call("run", cases(PASS), "--json", path, "--html", path).output


def test_a_file_written_anew_is_read_by_whom_it_was_read(cases, tmp_path):
    path = tmp_path / "r.json"
    path.touch()
    path.chmod(0o600)
    assert call("run", cases(PASS), "--json", str(path)).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600


MENDED = """import numpy as np
def check_square(): return jaxcheck.check_grad(lambda w: (w**2).sum(), np.ones(3), lambda w: {} * w)
"""


def test_a_case_that_was_mended_is_checked_anew(cases, tmp_path):
    kept = tmp_path / "kept"
    for factor, code, files in ((3, 1, 1), (3, 1, 1), (2, 0, 2), (2, 0, 2), (4, 1, 2)):
        assert call("run", cases(MENDED.format(factor)), "--resume", str(kept)).exit_code == code
        assert len(list(kept.iterdir())) == files  # the evidence of before is kept beside it, once
