"""A notebook as its reader meets it: what a cell shows while it runs and at its end; the example, which says what it
shows."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "first_check.ipynb"


# A loss in NumPy that takes two seconds; a wrong gradient, whose line is in a cell.
CELLS = {
    "setup": """
import time
import jax.numpy as jnp
import numpy as np
import jaxcheck as jc

def slow(x):
    time.sleep(0.04)
    return float(np.sum(np.sin(np.asarray(x))))

def derivative(x):
    return np.cos(np.asarray(x))

def loss(w):
    return jnp.sum(jnp.tanh(w) ** 2)

def wrong(w):
    a = jnp.tanh(w)
    return 2 * a * (1 - a)
""",
    "shown": "assert jc.check_grad(slow, np.ones(2), derivative)",
    "silent": "assert jc.check_grad(slow, np.ones(2), derivative, progress=False)",
    "raised": "jc.check_grad(loss, np.linspace(-1, 1, 4), wrong).assert_ok()",
}


class Ran(NamedTuple):
    cells: dict[str, Any]
    """By name: the cell, with its outputs as they are kept."""
    heard: dict[str, list[Any]]
    """By name: what the kernel sent while the cell ran, (type of message, when, content)."""


def execute(book: Any, allow_errors: bool = False) -> dict[str, list[Any]]:
    """Run every cell of a notebook in a kernel of its own, in this environment."""
    nbclient = pytest.importorskip("nbclient", reason="no nbclient: pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="no ipykernel: pip install nbclient ipykernel")
    heard: dict[str, list[Any]] = {}

    class Listening(nbclient.NotebookClient):
        def process_message(self, msg, cell, cell_index):
            sent = (msg["msg_type"], msg["header"]["date"], msg["content"])
            heard.setdefault(cell["id"], []).append(sent)
            return super().process_message(msg, cell, cell_index)

    client = Listening(book, timeout=120, kernel_name="python3", allow_errors=allow_errors)
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable  # this environment's, whatever kernel is registered
    client.execute()
    return heard


@pytest.fixture(scope="module")
def ran() -> Ran:
    nbformat = pytest.importorskip("nbformat", reason="no nbformat: pip install nbclient ipykernel")
    new = nbformat.v4
    book = new.new_notebook(cells=[new.new_code_cell(text.strip(), id=name) for name, text in CELLS.items()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent))
        patch.setenv("JAX_PLATFORMS", "cpu")
        patch.delenv("PYTEST_CURRENT_TEST", raising=False)
        heard = execute(book, allow_errors=True)
    nbformat.validate(book)
    return Ran({cell["id"]: cell for cell in book.cells}, heard)


def when(sent: Any) -> datetime:
    return sent if isinstance(sent, datetime) else datetime.fromisoformat(sent)


def test_progress_shows_after_a_second_and_is_one_line_that_goes_away(ran):
    heard = ran.heard["shown"]
    begun = next(at for kind, at, _ in heard if kind == "execute_input")
    drawn = [(kind, at, said) for kind, at, said in heard if kind in ("display_data", "update_display_data", "stream")]
    assert (when(drawn[0][1]) - when(begun)).total_seconds() >= 1.0
    # One output, written over in place.
    assert [kind for kind, _, _ in drawn] == ["display_data", *["update_display_data"] * (len(drawn) - 1)]
    assert len({said["transient"]["display_id"] for _, _, said in drawn}) == 1
    *lines, last = [said["data"]["text/plain"] for _, _, said in drawn]
    assert len(lines) >= 2 and all(re.fullmatch(r"jaxcheck \d+ s: \w[^\n]*", x) for x in lines)
    assert any(re.search(r"rows \d+ of 50 \(at most 60 s\), .* a second", x) for x in lines), lines
    assert last == ""
    # And nothing of it is kept in the notebook.
    assert [dict(one["data"]) for one in ran.cells["shown"]["outputs"]] == [{"text/plain": ""}]


def test_progress_can_be_switched_off(ran):
    assert ran.cells["silent"]["outputs"] == []
    assert {kind for kind, _, _ in ran.heard["silent"]} <= {"status", "execute_input"}


def test_an_error_ends_in_the_readers_cell_and_names_it(ran):
    (error,) = ran.cells["raised"]["outputs"]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error["traceback"]))
    frames = plain.partition("GradientMismatch: ")[0]
    assert "Cell In[4], line 1" in frames and frames.count("line ") == 1
    assert "In[1]:18  return 2 * a * (1 - a)" in error["evalue"] and "ipykernel" not in error["evalue"]


@pytest.mark.slow  # a kernel of its own, which imports JAX
def test_the_notebook_shows_what_it_says(monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="no nbformat: pip install nbclient ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    book = nbformat.read(NOTEBOOK, as_version=4)
    execute(book)
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
