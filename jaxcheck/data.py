"""Plain data, and the plain account of what a check has cost."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

NAN = float("nan")


class Data:
    """Plain data, equal where all fields are: an unknown number (NaN) is the same unknown in both."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _fields(self) == _fields(other)

    def __hash__(self) -> int:
        return hash((type(self), _fields(self)))


def _fields(item: Any) -> tuple[Any, ...]:
    return tuple(_comparable(getattr(item, f.name)) for f in dataclasses.fields(item))


def _comparable(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_comparable, value))
    if isinstance(value, complex):
        return (_comparable(value.real), _comparable(value.imag))
    return "NaN" if isinstance(value, float) and value != value else value


@dataclasses.dataclass(frozen=True, eq=False)
class Cost(Data):
    """What a check measured, planned and spent. NaN and 0 where that is not known.

    Attributes:
        evaluation: seconds of one evaluation of the function, among many, as last measured; known where they were many.
        pair: seconds of one loss and its gradient in the caller's own dtypes, compiled and warm.
        planned: evaluations planned at first; what is in doubt is looked at by more.
        compiling, running: seconds spent on either; the rest of the check's is tracing and judging.
        peak: bytes of the largest compiled program: arguments, results and temporaries.
        budget: seconds granted, infinite for as long as it takes.
        stopped: "time", "user" or "memory" where the check was stopped, "" where it ended by itself.
        more: seconds that what was left out takes, about.
    """

    evaluation: float = NAN
    pair: float = NAN
    planned: int = 0
    compiling: float = NAN
    running: float = NAN
    peak: int = 0
    budget: float = math.inf
    stopped: str = ""
    more: float = NAN
