"""A progress bar for long checks: only on a terminal, and only after a second."""

from __future__ import annotations

import sys
import time


class Progress:
    """Context manager; `tick(n)` says that n more of `total` are done. Silent unless stderr is a terminal."""

    def __init__(self, total: int, what: str):
        self.total, self.what, self.done = total, what, 0
        self.start = time.perf_counter()
        self.bar = None

    def __enter__(self) -> Progress:
        return self

    def tick(self, count: int) -> None:
        self.done += count
        if self.bar is None and time.perf_counter() - self.start > 1.0 and sys.stderr.isatty():
            self._open()
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self.bar.start()
        self.task = self.bar.add_task(f"checking {self.what}", total=self.total)

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.stop()
