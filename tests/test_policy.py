"""The suite's own policy (conftest.py) and the pytest plugin, each tried on a small suite of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_pytest(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "--strict-markers", "-p", "no:cacheprovider", *arguments, str(folder)],
        capture_output=True,
        text=True,
        # Plugins of this machine are none of our business here, an installed jaxcheck among them.
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(ROOT),
            "PYTEST_ADDOPTS": "",
            "COLUMNS": "200",
        },
        cwd=folder,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_policy_holds(tmp_path, monkeypatch):
    for name in ("conftest.py", "sampled.py"):
        (tmp_path / name).write_text((ROOT / "tests" / name).read_text(encoding="utf-8"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu: needs an accelerator\n")
    (tmp_path / "test_small.py").write_text(
        "import jax, pytest\n"
        "def test_several_devices(): assert len(jax.devices('cpu')) == 2\n"
        "def test_leaves_x64_on(): jax.config.update('jax_enable_x64', True)\n"
        "def test_leaves_a_context_open():\n    jax.enable_x64(True).__enter__()\n"
        "def test_restores():\n    with jax.enable_x64(True): pass\n"
        "def test_shows_its_seed(seed): assert seed != 5\n"
        "@pytest.mark.gpu\ndef test_needs_gpu(): pass\n"
    )
    monkeypatch.setenv("JAXCHECK_TEST_SEED", "5")
    said = run_pytest(tmp_path)
    assert "PASSED test_small.py::test_several_devices" in said
    assert "ERROR test_small.py::test_leaves_x64_on" in said
    assert "ERROR test_small.py::test_leaves_a_context_open" in said
    assert "ERROR test_small.py::test_restores" not in said
    assert "FAILED test_small.py::test_shows_its_seed" in said
    assert "repeat with JAXCHECK_TEST_SEED=5" in said
    assert ("needs an accelerator" in said) == ("SKIPPED" in said)
