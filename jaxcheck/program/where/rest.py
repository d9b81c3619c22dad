"""Loops that stopped at a tolerance, run on until they rest, as a rule for such a loop takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxcheck.bars import AT_REST, NEAR_REST

# Turns at least that a loop is run on.
MOST = 100


def run_on(
    tape: Any, turn: Callable[[list[int]], list[int]], stopped: list[int], turns: int, longest: int
) -> list[int]:
    """What a loop comes to; what it stopped with, and the tape as it was, where it does not rest near that.

    Args:
        tape: a `tape.Tape`, to which `turn` adds one more turn: from the values carried to those that it gives.
        turns: that were run.
        longest: the operations that the tape may have.
    """
    if any(tape.values[i].dtype.kind != "f" for i in stopped):
        return stopped
    operations, length, carried = len(tape.ops), len(tape.values), stopped
    for spare in range(max(MOST, turns)):
        if len(tape.ops) >= longest:
            break
        last, carried = carried, turn(carried)
        moved = max((_apart(tape.values[i], tape.values[j]) for i, j in zip(last, carried, strict=True)), default=1.0)
        if not moved < NEAR_REST:
            break
        if moved <= AT_REST:
            for _ in range(spare + turns):  # at another point it may take longer
                carried = turn(carried)
            return carried
    for op in tape.ops[operations:]:
        for i in op.outs:
            tape.makers.pop(i, None)
    tape.literals -= set(range(length, len(tape.values)))
    del tape.ops[operations:], tape.values[length:]
    return stopped


def _apart(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.linalg.norm(x - y) / max(float(np.linalg.norm(y)), np.finfo(float).tiny))
