"""What must come cheap does not import JAX: a conftest may still have to configure it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("jax", "jaxlib", "numpy", "rich", "scipy", "matplotlib", "jinja2")


def loaded(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has after running `code`."""
    probe = f"import sys\n{code}\nprint('HEAVY', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "code",
    [
        "import jaxcheck",
        "import jaxcheck; dir(jaxcheck); jaxcheck.case; jaxcheck.__version__",
        "import jaxcheck.cli",
        "import jaxcheck.pytest_plugin",
        "from jaxcheck.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from jaxcheck.cli import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_nothing_heavy_is_imported(code):
    assert loaded(code) == set()


@pytest.mark.parametrize(
    "code", ["import jaxcheck; jaxcheck.Report", "import jaxcheck.result, jaxcheck.report.text, jaxcheck.report.json"]
)
def test_reading_a_report_needs_no_jax(code):
    assert loaded(code) <= {"numpy", "rich"}


def test_the_probe_sees_what_is_imported():
    assert {"jax", "jaxlib", "numpy"} <= loaded("import jax")
    assert loaded("") == set()
