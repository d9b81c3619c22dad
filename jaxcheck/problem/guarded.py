"""Code of Python's that may raise outside of its domain."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxcheck.budget import current
from jaxcheck.problem.user import first_line
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.run.memory import is_exhausted


class Guarded:
    """A function of theta that is NaN where it raises, as a traced one is outside of its domain; but what it raises at
    the point itself, and what is no answer of the caller's code, is raised on.

    Attributes:
        said: the first that it raised, in one line; "" if nothing.
        raised: how often.
    """

    def __init__(self, run: Callable[[np.ndarray], Any], point: np.ndarray, nothing: Any = float("nan")):
        self._run, self._point, self._nothing = run, point, nothing
        self.said, self.raised = "", 0

    def __call__(self, vector: np.ndarray) -> Any:
        start = time.perf_counter()
        try:
            return ask(self._run, vector)
        except Refused as refused:
            error = refused.error
            if is_exhausted(error) or np.array_equal(vector, self._point):
                raise error from None
            self.said, self.raised = self.said or first_line(error).rstrip(": "), self.raised + 1
            return self._nothing
        finally:
            current().run_seconds += time.perf_counter() - start


def gradient(run: Callable[[np.ndarray], np.ndarray], point: np.ndarray) -> Guarded:
    """A gradient (1, P), NaN where it raises."""
    return Guarded(run, point, np.full((1, point.size), np.nan))


def said(functions: dict[str, Any]) -> tuple[str, ...]:
    """A sentence for each of the functions, by what they are called, that raised beside the point."""
    told = [(name, f) for name, f in functions.items() if isinstance(f, Guarded) and f.raised]
    return tuple(
        f"{name} raised at {f.raised} {'points' if f.raised > 1 else 'point'} beside the one that was checked, taken "
        f"to be outside of its domain: {f.said}"
        for name, f in told
    )
