"""What a check looks at: every component where that is cheap, else a few directions of each leaf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxcheck.bars import FINE_UNIT, LEAST_COST, ONE_DIRECTION, SEQUENTIAL, WORK
from jaxcheck.budget import DIRECTIONS, TELLING, current
from jaxcheck.check.settings import Settings
from jaxcheck.evidence import sketch
from jaxcheck.evidence.differences import Ladder
from jaxcheck.options import Exhaustive, Sketch
from jaxcheck.problem.problem import Problem
from jaxcheck.theta import Leaf

# Random directions of each leaf.
PER_LEAF = 3
# A loss with its gradient takes about as long as so many losses.
PAIR = 4


def ladder_for(problem: Problem) -> Ladder:
    """Float64 bears small steps; with a coarser unit they would only sample rounding."""
    return Ladder() if problem.unit < FINE_UNIT else Ladder(first=0.5, ratio=2.0, count=10)


class Drawn(Mapping[int, np.ndarray | None]):
    """`sketch.directions` of each leaf that is not empty, drawn when it is first asked for: where all leaves share
    theirs, hardly any is."""

    def __init__(self, leaves: Sequence[Leaf], point: np.ndarray, wanted: int, seed: int, alone: bool):
        self._leaves = {k: leaf for k, leaf in enumerate(leaves) if leaf.size}
        self._draw = lambda leaf: sketch.directions(leaf, point[leaf.start : leaf.stop], wanted, seed, alone)
        self._drawn: dict[int, np.ndarray] = {}

    def __getitem__(self, k: int) -> np.ndarray | None:
        if k not in self._drawn:
            self._drawn[k] = self._draw(self._leaves[k])
        return self._drawn[k]

    def __iter__(self) -> Iterator[int]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)


def plan(
    problem: Problem, settings: Settings, point: np.ndarray
) -> tuple[Mapping[int, np.ndarray | None], int, str, str]:
    """(directions per leaf for `gather`, how many of one kind each has, mode, why)."""
    leaves = problem.theta.leaves
    ladder = ladder_for(problem)
    alone = problem.primal is not None and problem.primal.program.sequential
    cost = problem.theta.size * len(ladder.offsets) * max(problem.cost, SEQUENTIAL if alone else LEAST_COST)
    limit = WORK * (1 if problem.autodiff or problem.host_autodiff else 5)
    cheap = cost <= limit and not _slow(problem, problem.theta.size * len(ladder.offsets))
    if settings.mode is None and problem.theta.size <= 1024 and cheap:
        return {k: None for k in range(len(leaves))}, 1, "exhaustive", "every component is cheap here"
    wanted = settings.mode.directions if isinstance(settings.mode, Sketch) else PER_LEAF
    rows = wanted * len(leaves) * len(ladder.offsets) * problem.cost
    if settings.mode is None and rows > ONE_DIRECTION:
        wanted = 1
    alone = not problem.autodiff and not problem.host_autodiff
    directions = Drawn(leaves, point, wanted, settings.seed, alone)
    if isinstance(settings.mode, Exhaustive):
        if settings.mode.step is None and problem.theta.size <= 256 and cost <= limit:
            return {k: None for k in range(len(leaves))}, 1, "exhaustive", "asked for"
        return directions, wanted, "exhaustive", "asked for"
    why = "asked for" if settings.mode else f"{problem.theta.size} components, too many to take one by one by default"
    if settings.mode is None and problem.theta.size <= 1024 and cost <= limit:
        why = f"one evaluation takes about {_seen(problem):.1g} s: component by component takes too long"
    return directions, wanted, "sketch", why


def _slow(problem: Problem, rows: int) -> bool:
    """Whether so many evaluations would not fit into the budget by what one was seen to take. Where that is little,
    it says nothing of a compiled program: a call has its own cost, and many rows have it once."""
    seconds = _seen(problem)
    return (problem.primal is None or seconds > TELLING) and rows * seconds > DIRECTIONS * current().seconds


def _seen(problem: Problem) -> float:
    """Seconds that one evaluation was seen to take; NaN where none was timed."""
    return current().row_seconds if problem.primal is None else current().pair_seconds / PAIR
