"""Scans that run from the wrong end: `reverse=True` that was forgotten, or is one too many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.sites import Site
from jaxcheck.program.where.tape import STACKED, Op, Tape


def scans(tape: Tape) -> list[Site]:
    """The scans of a tape, each with the operations that take rows for a turn, and that put the turns' together."""
    found: dict[int, list[int]] = defaultdict(list)
    for k, op in enumerate(tape.ops):
        if op.label is not None and (op.label[1] == STACKED or op.label[1] >= tape.scans[op.label[0]][1]):
            found[op.label[0]].append(k)
    stacks = {loop: tape.scans[loop][0] for loop in found}
    return [Site(stacks[loop][0], tuple(ops), "scan") for loop, ops in found.items() if stacks[loop]]


def turned(those: Sequence[Site]) -> list[Edit]:
    """Each scan from the other end."""
    return [Edit(site, OUT, "reverse", other=_turned) for site in those]


def _turned(op: Op, xs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    is_stack = op.label is not None and op.label[1] == STACKED
    return op.run(*xs[::-1]) if is_stack else op.run(np.flip(xs[0], 0))
