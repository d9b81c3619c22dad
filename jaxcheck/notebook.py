"""What is otherwise in a notebook: a line that is drawn in a cell's output, and code that is a cell and no file.

Nothing is imported for it: whoever runs in a kernel has IPython loaded.
"""

from __future__ import annotations

import contextlib
import sys
import uuid
from typing import Any


def _shell() -> Any:
    """IPython's, or None."""
    asked = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return asked() if asked is not None else None


def cell(file: str) -> str:
    """`In[9]` for the file that IPython takes a cell's code for; any other as it is."""
    named = getattr(getattr(_shell(), "compile", None), "format_code_name", None)
    found = named(file) if named is not None else None
    return found[1] if found else file


class Output:
    """One line of a cell's output, written over itself: in a stream it would be kept once for every time it changed."""

    def __init__(self, publisher: Any):
        self._publisher, self._name, self._shown = publisher, uuid.uuid4().hex, False

    def show(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a front end that went away is no error of the check's
            self._publisher.publish({"text/plain": text}, {}, transient={"display_id": self._name}, update=self._shown)
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            self.show("")


def output(stream: Any) -> Output | None:
    """Where a cell shows what is no text of a stream's; None outside of a kernel's own streams."""
    if not type(stream).__module__.startswith("ipykernel"):
        return None
    publisher = getattr(_shell(), "display_pub", None)
    return None if publisher is None else Output(publisher)
