"""The example notebook runs, and shows what its text says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "first_check.ipynb"


@pytest.mark.slow  # a kernel of its own, which imports JAX
def test_the_notebook_shows_what_it_says(monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="no nbformat: pip install nbclient ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="no nbclient: pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="no ipykernel: pip install nbclient ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    book = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(book, timeout=120, kernel_name="python3", allow_errors=False)
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable  # this environment's, whatever kernel is registered
    client.execute()
    cells = {cell["id"]: cell for cell in book.cells}
    (shown,) = (one for one in cells["check"]["outputs"] if one["output_type"] == "execute_result")
    page = shown["data"]["text/html"]
    assert "FAIL" in page and "<svg" in page and "da = dh * (1 + h**2)" in page
    printed = "".join(one.get("text", "") for one in cells["line"]["outputs"])
    assert "['W1', 'b1']" in printed and "da = dh * (1 - " in printed
    assert any("image/png" in one.get("data", {}) for one in cells["plot"]["outputs"])
    assert "PASS" in cells["mended"]["outputs"][-1]["data"]["text/html"]


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") for cell in cells)
