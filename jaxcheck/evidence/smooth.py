"""Which steps of a ladder look at one smooth piece of the function: known from its decisions, not guessed from values.

Between two points at which a program decides everything alike (comparisons, maxima, orders, counts of loops) it is
one analytic formula (`program/ways/signed.py`). So the steps out to which every sample has the signature of the point
itself see one smooth function; and where the two sides differ however small the step, something is decided there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence import rows
from jaxcheck.evidence.differences import Ladder
from jaxcheck.evidence.witnesses import Problem
from jaxcheck.program.compile import execute
from jaxcheck.program.constants import as_inputs
from jaxcheck.program.objective import cast
from jaxcheck.program.ways.signed import signed


@dataclasses.dataclass(frozen=True, eq=False)
class Pieces:
    """What the signatures along D directions say, for K steps, largest first.

    Attributes:
        smooth: (K, D) both samples at this step, and at all smaller ones, lie on the point's own piece.
        decided: (D,) the two sides differ from each other at the smallest step: a kink, a jump, a tie, or a
            decision without effect.
    """

    smooth: np.ndarray
    decided: np.ndarray


def pieces(problem: Problem, point: np.ndarray, directions: np.ndarray, ladder: Ladder) -> tuple[Pieces, int]:
    """The pieces met along `directions` (D, P), and how many programs were compiled."""
    program = problem.primal.program
    closed, theta = program.closed, problem.theta
    count = len(closed.consts)
    opened = as_inputs(closed)
    moving = [count <= i < count + len(theta.leaves) for i in range(count + len(closed.in_avals))]
    total = len(directions) * len(ladder.offsets)
    chunk = rows.chunk_of(program, total)

    def build(_: Any, consts: Any, vector: Any, extras: Any, directions: Any, offsets: Any) -> Any:
        run = signed(opened, moving)

        def signature(x: Any) -> Any:
            return run(*consts, *cast(closed.in_avals, [*theta.unravel(x), *extras]))[1].reshape(1)

        return rows.sample(signature, vector, directions, offsets, chunk)[..., 0]

    with jax.enable_x64(True):
        found, compiled = execute(("pieces", chunk, tuple(theta.leaves)), build, [program], tuple(closed.consts), point,
                                  tuple(problem.extras), jnp.asarray(directions), jnp.asarray(ladder.offsets),
                                  work=problem.cost * total)
    found = np.asarray(found)
    steps = len(ladder.steps)
    plus, minus = found[1 : steps + 1], found[steps + 1 :]
    here = (plus == found[0]) & (minus == found[0])
    smooth = np.flip(np.logical_and.accumulate(np.flip(here, 0), axis=0), 0)
    return Pieces(smooth, plus[-1] != minus[-1]), compiled
