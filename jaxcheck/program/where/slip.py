"""A slip in the backward pass of a loss, as it would be taken by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxcheck.program.where.tape import Tape

# What an operation is given, and gives, on the way back: (operands, results, cotangents, what is right).
Pull = Callable[[Sequence[np.ndarray], Sequence[np.ndarray], Sequence, Sequence], Sequence]


@dataclasses.dataclass(frozen=True, eq=False)
class Slip:
    """A way to go wrong, and what is then said of it.

    `pulls` are done in place of an operation's own; `held` is another value that (operation, operand) has on the way
    back, operand -1 being the result; `masks` are what a value's cotangent is multiplied by.
    """

    said: str
    pulls: Mapping[int, Pull] = dataclasses.field(default_factory=dict)
    held: Mapping[tuple[int, int], int] = dataclasses.field(default_factory=dict)
    masks: Mapping[int, Callable[[np.ndarray], np.ndarray]] = dataclasses.field(default_factory=dict)

    def back(self, tape: Tape, values: Sequence[np.ndarray], seeds: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The cotangents of all values."""
        total = dict(seeds)
        for k in range(len(tape.ops) - 1, -1, -1):
            op = tape.ops[k]
            given = [total.get(i) for i in op.outs]
            if all(g is None for g in given):
                continue
            given = [
                self.masks[i](values[i]) * g if g is not None and i in self.masks else g
                for i, g in zip(op.outs, given, strict=True)
            ]
            operands = [values[self.held.get((k, j), i)] for j, i in enumerate(op.ins)]
            results = [values[self.held.get((k, -1), i)] for i in op.outs]
            found = op.back(operands, results, given)
            if k in self.pulls:
                found = self.pulls[k](operands, results, given, found)
            for i, g in zip(op.ins, found, strict=True):
                if g is not None:
                    total[i] = total[i] + g if i in total else g
        return total
