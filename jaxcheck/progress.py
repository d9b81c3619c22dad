"""What a long check is doing: one line on stderr after a second, in terminals and notebooks only; or a function called.

Nothing is shown where nobody looks: in a pipe, a log, or a test run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from jaxcheck import notebook

# Seconds before anything is shown, and between two looks.
FIRST, AGAIN = 1.0, 0.25
# Of a terminal that does not say.
_COLUMNS = 120


@dataclasses.dataclass(frozen=True)
class Moment:
    """What a check is doing; handed to `progress=` functions.

    Attributes:
        doing: "compiling", "running", "rows", "components", "points", ...
        done, total: how many of them, 0 of 0 where they are not counted.
        seconds: since the check began; budget: seconds it may take, infinite without a limit.
    """

    doing: str
    done: int
    total: int
    seconds: float
    budget: float

    def __str__(self) -> str:
        parts = [f"jaxcheck {self.seconds:.0f} s: {self.doing}"]
        if self.total:
            parts.append(f"{self.done:,} of {self.total:,}")
        if math.isfinite(self.budget):
            parts.append(f"(at most {self.budget:g} s)")
        return " ".join(parts)


class _Line:
    """The last moment told, drawn over itself by a thread of its own: a compiler that is busy calls nobody back."""

    def __init__(self, screen: _Screen | notebook.Output):
        self._screen, self._last, self._at = screen, Moment("tracing", 0, 0, 0.0, math.inf), (0.0, 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="jaxcheck progress", daemon=True)
        self._thread.start()

    def __call__(self, moment: Moment) -> None:
        before = self._last
        if before.doing != moment.doing or moment.done < before.done:
            self._at = (moment.seconds, moment.done)
        self._last = moment

    def _draw(self) -> None:
        waited = 0.0
        while not self._done.wait(FIRST if not waited else AGAIN):
            waited += AGAIN if waited else FIRST
            now = dataclasses.replace(self._last, seconds=max(waited, self._last.seconds))
            self._screen.show(str(now) + self._rate(self._last))

    def _rate(self, moment: Moment) -> str:
        since, first = self._at
        if not moment.total or moment.done <= first or moment.seconds <= since:
            return ""
        rate = (moment.done - first) / (moment.seconds - since)
        return f", {rate:,.3g} a second, about {(moment.total - moment.done) / rate:,.0f} s more"

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        self._screen.clear()


class _Screen:
    """The last line of a terminal."""

    def __init__(self, stream: TextIO):
        self._stream, self._width = stream, 0

    def show(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a terminal that went away is no error of the check's
            text = text[: self._columns() - 1]  # a line that the terminal breaks cannot be drawn over
            self._stream.write("\r" + text.ljust(self._width))
            self._stream.flush()
            self._width = len(text)

    def _columns(self) -> int:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            return os.get_terminal_size(self._stream.fileno()).columns or _COLUMNS
        return _COLUMNS

    def clear(self) -> None:
        if self._width:
            self.show("")
            with contextlib.suppress(OSError, ValueError):
                self._stream.write("\r")
                self._stream.flush()


def watched(stream: Any) -> bool:
    """Whether somebody looks at the stream: a terminal or a notebook, and no test run."""
    if stream is None or "PYTEST_CURRENT_TEST" in os.environ:
        return False
    notebook = type(stream).__module__.startswith("ipykernel")
    return notebook or bool(getattr(stream, "isatty", lambda: False)())


@contextlib.contextmanager
def line(progress: Any) -> Iterator[Callable[[Moment], Any] | None]:
    """Whoever is told: the caller's function, a line on stderr, or nobody.

    Args:
        progress: a function of a `Moment`; False for nobody; None or True for a line where somebody looks.

    Raises:
        TypeError: for anything else.
    """
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeError(f"progress={progress!r}: False, or a function of one argument, what the check is doing")
    if callable(progress):
        yield progress
        return
    if progress is False or not watched(sys.stderr):
        yield None
        return
    shown = _Line(notebook.output(sys.stderr) or _Screen(sys.stderr))
    try:
        yield shown
    finally:
        shown.close()
