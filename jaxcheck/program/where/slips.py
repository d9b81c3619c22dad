"""What would have to go wrong in the loss's own backward pass to give the gradient under test: a derivative taken for
one, a path left out, a value of another step, a sum that is a mean. The pass under test need not be JAX's for that."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from jaxcheck.bars import REPAIRED
from jaxcheck.program.where.nonsense import tried
from jaxcheck.program.where.sites import sites
from jaxcheck.program.where.slip import Slip
from jaxcheck.program.where.slip_kinds import KINDS
from jaxcheck.program.where.tape import Tape

# Statements at most.
MOST = 3


def explain(
    tape: Tape,
    runs: Sequence[Sequence[np.ndarray]],
    seeds: Mapping[int, np.ndarray],
    count: int,
    given: Sequence[Sequence[np.ndarray]],
    deadline: float,
) -> list[str]:
    """What explains all gradients, at every point; the plainest first, three at most.

    Args:
        tape: of the loss, `runs` its values at each point, `seeds` the cotangents of its outputs.
        count: the inputs that gradients are taken in.
        given: the gradients under test, at each point.
        deadline: by `time.perf_counter`.
    """
    those = [s for s in sites(tape) if tape.values[tape.ops[s.ops[0]].outs[0]].dtype.kind == "f"]
    found: list[str] = []
    for kind in KINDS:
        for slip in kind(tape, those):
            if time.perf_counter() > deadline or len(found) == MOST:
                return found
            if all(_fits(slip, tape, values, seeds, grads[:count]) for values, grads in zip(runs, given, strict=True)):
                found.append(slip.said)
                break  # the rest of its kind says the same in other words
    return found


def _fits(
    slip: Slip, tape: Tape, values: Sequence[np.ndarray], seeds: Mapping[int, np.ndarray], grads: Sequence[np.ndarray]
) -> bool:
    total = tried(slip.back, tape, values, seeds)
    if total is None:
        return False
    for i, g in zip(tape.inputs, grads, strict=False):
        mine = np.reshape(total.get(i, np.zeros(g.shape)), -1)
        if mine.size != g.size or not np.linalg.norm(mine - g.ravel()) <= REPAIRED * np.linalg.norm(g):
            return False
    return True
