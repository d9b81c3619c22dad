"""Constants that a person would write: small fractions, the dimensions, the program's own numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from jaxcheck.bars import NICE
from jaxcheck.program.where import smaller

_SMALL = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 1.5)


class Constants:
    """The nice constants of a program.

    Args:
        sizes: dimensions that occur.
        literals: numbers that stand in the program or in the loss.
        cut: axes of the caller's program, and to what each is cut here.
    """

    def __init__(self, sizes: Iterable[int], literals: Iterable[float], cut: Mapping[int, int] | None = None):
        self.cut = cut or {}
        self.sizes = sorted({float(s) for s in sizes if s > 1})
        self.literals = sorted({abs(float(x)) for x in literals if np.isfinite(x) and x})
        bases = {
            *_SMALL,
            *self.sizes,
            *(s**0.5 for s in self.sizes),
            *self.literals,
            *(2 * x for x in self.literals),
            *(x * y for x in self.sizes for y in self.sizes),
            *(2 / x for x in self.sizes),
        }
        bases |= {1 / b for b in bases}
        self._all = np.array(sorted(bases))

    def nice(self, c: float, unit: float = 1.0) -> float | None:
        """The nice constant that `c` is, or None. `unit` is a number of the program that is multiplied by it: then
        what they make together may be the nice one."""
        for x, scale in ((c, 1.0), (c * unit, unit)):
            near = self._all[np.abs(self._all - abs(x)) <= NICE * abs(x)]
            if near.size:
                return float(np.copysign(near[0], x) / scale)
        return None

    def as_written(self, c: float) -> float:
        """A constant as it is in the caller's program."""
        return smaller.as_written(c, self.cut) if self.cut else c

    def plainness(self, c: float) -> int:
        """0 for 1, 1 for -1, 2 for a half or 2, 3 for other small ones, 4 for the program's."""
        if c == 1:
            return 0
        if c == -1:
            return 1
        near = [abs(abs(c) - x) <= NICE * x or abs(1 / abs(c) - x) <= NICE * x for x in _SMALL]
        return 2 if near[1] else 3 if any(near) else 4

    def other_literals(self, x: float) -> list[float]:
        """Factors that turn a number of the program into another one that may have been meant."""
        if not x:
            return []
        wanted = {0.0, 1.0, -1.0, 2.0, 0.5, -x, 2 * x, x / 2, x + 1, x - 1, 1 / x, x**2, *self.literals, *self.sizes}
        return [w / x for w in sorted(wanted) if w != x and w]
