"""Which steps of a ladder look at one smooth piece of the function: known from its decisions, not guessed from values.

Between two points at which a program decides everything alike (comparisons, maxima, orders, counts of loops) it is
one analytic formula (`program/ways/signed.py`). So the steps out to which every sample has the signature of the point
itself see one smooth function; and where the two sides differ however small the step, something is decided there.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcheck.evidence import blocks, rows
from jaxcheck.evidence.differences import ENOUGH, Ladder
from jaxcheck.notebook import cell
from jaxcheck.problem.problem import Problem
from jaxcheck.program.objective import cast
from jaxcheck.program.run.compile import execute
from jaxcheck.program.run.hoisting import as_inputs
from jaxcheck.program.ways.signed import decisions, signed


@dataclasses.dataclass(frozen=True, eq=False)
class Pieces:
    """What the signatures along D directions say, for K steps, largest first.

    Attributes:
        own: (2, K, D) to the right and to the left, the sample at this step, and at all smaller ones, lies on the
            point's own piece.
        decided: (D,) something is decided within rounding of the point, `AT`: it may stand on a kink. Where nothing
            is, a kink that the ladder sees lies beside the point.
        crossed: (D,) at the smallest steps each side is one piece, and they are two: something is decided at the
            point, with an effect or without. Not so along a tie, where at most rounding decides, now this way,
            now that.
        same, still: (D,) at those steps both sides are one piece, and the same; and it is that of the point itself.
    """

    own: np.ndarray
    decided: np.ndarray
    crossed: np.ndarray
    same: np.ndarray
    still: np.ndarray

    @property
    def analytic(self) -> np.ndarray:
        """(D,) enough of the smallest steps look at the point's own piece on both sides."""
        return (self.own.sum(axis=1) >= ENOUGH).all(axis=0)

    @property
    def smooth(self) -> np.ndarray:
        """(D,) how many of the smallest steps look at the point's own piece on both sides."""
        return self.own.all(axis=0).sum(axis=0)

    @property
    def beyond(self) -> np.ndarray:
        """(D,) the point lies on a piece of its own, wider than rounding and narrower than the smallest step."""
        return ~self.decided & ~self.own.any(axis=(0, 1))


# Smallest steps at which a side must be one piece.
SURE = 4
# Rounding units, relative to the direction's own scale, within which a kink is at the point: where a sum of a thousand
# terms of one size is zero by design, its rounding is met by the smaller ones when one term moves by the larger.
AT = (16.0, 256.0)


def pieces(problem: Problem, point: np.ndarray, directions: np.ndarray, ladder: Ladder) -> tuple[Pieces, int]:
    """The pieces met along `directions` (D, P), and how many programs were compiled."""
    beside = problem.resolution * np.outer(AT, [1.0, -1.0]).ravel()
    offsets = np.concatenate([ladder.offsets, beside])
    found, compiled = _signatures(problem, point, directions, offsets)
    found, beside = np.split(found, [len(ladder.offsets)])
    steps = len(ladder.steps)
    plus, minus = found[1 : steps + 1], found[steps + 1 :]
    here = np.stack([plus, minus]) == found[0]
    own = np.flip(np.logical_and.accumulate(np.flip(here, 1), axis=1), 1)
    decided = (beside != found[0]).any(axis=0)
    sure = ((plus[-SURE:] == plus[-1]) & (minus[-SURE:] == minus[-1])).all(axis=0)
    same = plus[-1] == minus[-1]
    return Pieces(own, decided, sure & ~same, sure & same, here[:, -SURE:].all(axis=(0, 1))), compiled


def meet(
    problem: Problem, point: np.ndarray, ones: np.ndarray, others: np.ndarray, ladder: Ladder
) -> tuple[np.ndarray, int]:
    """((D,) whether the smallest steps along each of `ones` (D, P) look at the piece that those along its partner among
    `others` look at, programs compiled)."""
    offsets = np.concatenate([[0.0], ladder.steps[-SURE:]])
    found, compiled = _signatures(problem, point, np.concatenate([ones, others]), offsets)
    first, second = np.split(found[1:], 2, axis=1)
    return (first == second).all(axis=0) & (first == first[-1]).all(axis=0), compiled


def _signatures(
    problem: Problem, point: np.ndarray, directions: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, int]:
    """((T, D) what the program decides at every sample, as one number, programs compiled)."""
    program, make = problem.loss.program, _signature(problem)
    given = tuple(program.closed.consts), tuple(problem.extras)
    name, total = ("pieces", tuple(problem.theta.leaves)), len(directions) * len(offsets)

    def at_once(chunk: int) -> tuple[Any, int]:
        def build(_: Any, given: Any, vector: Any, directions: Any, offsets: Any) -> Any:
            return rows.sample(make(given), vector, directions, offsets, chunk)

        return execute(
            (*name, chunk),
            build,
            [program],
            given,
            problem.place(point),
            along,
            offsets,
            work=problem.cost * total,
            keep=True,
        )

    def in_blocks(chunk: int) -> tuple[Any, int]:
        return blocks.sample(
            name, lambda _, given: make(given), [program], given, problem.place(point), along, offsets, chunk
        )

    with jax.enable_x64(True):
        along = problem.place(directions)
        long = blocks.long(program, total)
        chunk = (blocks if long else rows).chunk_of(program, total)
        found, compiled = blocks.within_memory(chunk, in_blocks if long else at_once)
    return np.asarray(found)[..., 0], compiled


def _signature(problem: Problem) -> Callable:
    """From (constants, extra inputs) to what the program decides at a theta, as a (1,) number."""
    closed, theta = problem.loss.program.closed, problem.theta
    opened, count = as_inputs(closed), len(closed.consts)
    moving = [count <= i < count + len(theta.leaves) for i in range(count + len(closed.in_avals))]

    def make(given: Any) -> Any:
        consts, extras = given
        run = signed(opened, moving)

        def signature(x: Any) -> Any:
            return run(*consts, *cast(closed.in_avals, [*theta.unravel(x), *extras]))[1].reshape(1)

        return signature

    return make


# What a sample may step over when it is asked what is decided at the point: a step that moves every float a little.
BESIDE = 1e-7


def deciders(problem: Problem, point: np.ndarray, directions: np.ndarray) -> tuple[str, ...]:
    """What decides otherwise on the two sides of the point along `directions` (D, P), as `` `max` at model.py:31 ``.

    Read off the program as it was traced, for one that was emitted again names no lines of the caller's; empty where
    there is no such program.
    """
    traced, theta = problem.primal, problem.theta
    if traced is None or traced.mixed or not traced.wide:
        return ()
    closed = traced.closed
    moving = [i < len(theta.leaves) for i in range(len(closed.in_avals))]
    with jax.enable_x64(True):
        places, run = decisions(closed, moving)
        if not places:
            return ()

        def signatures(x: Any) -> Any:
            return run(*cast(closed.in_avals, [*theta.unravel(x), *problem.extras]))[1]

        sides = point + BESIDE * np.concatenate([directions, -directions])
        found = np.asarray(jax.jit(lambda xs: jax.lax.map(signatures, xs))(sides))
    plus, minus = np.split(found, 2)
    return tuple(dict.fromkeys(_short(str(places[i])) for i in np.flatnonzero((plus != minus).any(axis=0))))


def _short(place: str) -> str:
    """`` `max` at model.py:31 `` from the whole path, column and function."""
    primitive, _, where = place.partition(" at ")
    file = re.match(r"(.*?):(\d+)", where)
    return f"{primitive} at {os.path.basename(cell(file[1]))}:{file[2]}" if file else primitive
