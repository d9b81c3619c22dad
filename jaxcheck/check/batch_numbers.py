"""What the numbers of a batch say of its points by themselves: which pass, and which are wrong beyond doubt."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck import bars
from jaxcheck.budget import until_stopped
from jaxcheck.check.doubts import implicit, limits
from jaxcheck.check.settings import Settings
from jaxcheck.evidence import batched, batched_little
from jaxcheck.problem.problem import Problem
from jaxcheck.program.converge import LONG, SHORT

# Kinds of evidence against a gradient: none that needs no second look; it is off by much; by little, but beyond doubt.
NONE, GROSS, LITTLE = 0, 1, 2


@dataclasses.dataclass(frozen=True, eq=False)
class Numbers:
    """What one program says of the points: their `table`; that of the `path` that is run, where that is another one;
    and which points are `clear`, in that they plainly pass. Of the first points alone, where time left the others.

    `kinds` is the evidence against each; `in_float64` says where it is the table's, not the path's. What finding that
    took besides is in `evaluations` and `compiled`."""

    table: batched.Table
    path: batched.Table | None
    clear: np.ndarray
    kinds: np.ndarray
    in_float64: np.ndarray
    evaluations: int
    compiled: int

    def badness(self) -> np.ndarray:
        bad = self.table.badness()
        return bad if self.path is None else np.fmax(bad, self.path.badness())


def judged(
    problem: Problem,
    rows: np.ndarray,
    table: batched.Table,
    path: batched.Table | None,
    clear: np.ndarray,
    settings: Settings,
    directions: int,
    enough: int,
) -> Numbers:
    """The numbers at points (n, P) with the evidence in them; what is looked for besides is where more points than
    `enough` are unclear."""
    nobody = np.zeros(len(clear), bool)
    found = _Found(problem, rows[: len(clear)], table, settings, directions)
    gross, run, little = nobody, nobody, nobody
    # Only a check of a point alone knows what is declared, and what no difference can judge.
    if not (settings.surrogate or implicit.of_map(problem.loss)):
        gross = batched.fails(table, settings.tolerance.bound, settings.tolerance.atol) & ~clear
        stops, many = limits.stops(problem), np.sum(~clear) > enough
        if path is not None and not stops:
            run = batched.fails(path, bars.COUNTED, settings.tolerance.atol) & ~clear
        if stops:
            gross = found.at_limit(gross) if many and gross.any() else nobody
        elif many:
            little = found.little(~clear & ~gross & ~run)
    kinds = np.where(gross | run, GROSS, np.where(little, LITTLE, NONE))
    return Numbers(table, path, clear, kinds, gross | little, found.evaluations, found.compiled)


@dataclasses.dataclass(eq=False)
class _Found:
    """A look at the points besides their table, and what it took."""

    problem: Problem
    rows: np.ndarray
    table: batched.Table
    settings: Settings
    directions: int
    evaluations: int = 0
    compiled: int = 0

    def little(self, asked: np.ndarray) -> np.ndarray:
        with until_stopped():
            found, new = batched_little.wrong(self.problem, self.rows, self.table, self.settings.tolerance, asked)
            self.compiled += new
            return found
        return np.zeros_like(asked)

    def at_limit(self, gross: np.ndarray) -> np.ndarray:
        """Which of the gross points are as wrong where loops that stop at a tolerance are run on: as stopped, a right
        implicit rule looks wrong. What still moves there must be a small part of what is wrong."""
        found, at, tolerance = np.zeros_like(gross), np.flatnonzero(gross), self.settings.tolerance
        with until_stopped():
            short, long = (self._run_on(at, patience) for patience in (SHORT, LONG))
            count = min(len(short.whole), len(long.whole))
            short, long = batched.first(short, count), batched.first(long, count)
            wrong = np.ones(count, bool)
            for one in (short, long):
                wrong &= batched.fails(one, tolerance.bound, tolerance.atol)
            for x, y in ((short.difference, long.difference), (short.difference_a, long.difference_a)):
                with np.errstate(all="ignore"):
                    wrong &= ~(np.abs(y - x) > bars.FAR_BELOW * y).any(axis=1)
            found[at[:count]] = wrong
        return found

    def _run_on(self, at: np.ndarray, patience) -> batched.Table:
        problem = limits.run_on(self.problem, patience)
        table = batched.measure(problem, self.rows[at], self.settings.seed, self.directions)
        self.evaluations, self.compiled = self.evaluations + table.evaluations, self.compiled + table.compiled
        return table
