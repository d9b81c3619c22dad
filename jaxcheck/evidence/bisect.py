"""Which components of a leaf are wrong, where no autodiff says so: signed blocks are halved.

A direction that moves a block of components, each by its own size and up or down at random, shows how far the gradient
is off from the differences there: signs, and sizes that are never the same, keep errors from cancelling. What one half
of a block is off by, the other half is not; so a level costs one direction for each wrong block of it, and one wrong
component of P is found along log2(P) directions. What is left when the components found are taken out shows along fresh
signs.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import BARS, FINE_UNIT
from jaxcheck.evidence.differences import EPS, Ladder
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.evidence.sketch import own_scale
from jaxcheck.evidence.witnesses import measure
from jaxcheck.problem.problem import Problem

# Components that are looked for, rounds of fresh signs, and wrong blocks of one level beyond which nobody goes on.
MOST, ROUNDS, SPREAD = 16, 4, 12
# The larger of two steps, relative to what each component may move by, and how much smaller the other is.
STEP, FINER = 1e-3, 4.0
# Steps at which values show their noise, relative likewise.
NEAR = 1e-12
# The larger step where the function's values are coarser than float64's.
COARSE = 0.1


@dataclasses.dataclass(frozen=True)
class _Pair(Ladder):
    """Two centred quotients, and nothing at the point itself."""

    first: float = STEP
    ratio: float = FINER
    count: int = 2

    @property
    def offsets(self) -> np.ndarray:
        return np.concatenate([self.steps, -self.steps])


@dataclasses.dataclass(frozen=True)
class _Near(Ladder):
    """Next to the point, where values differ by their noise."""

    @property
    def offsets(self) -> np.ndarray:
        return NEAR * np.arange(self.count)


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """The wrong components of a leaf, sorted; where there are too many (`spread`), one of each of the wrong blocks at
    which it ended; what it took."""

    indices: np.ndarray
    spread: bool
    evaluations: int
    compiled: int


def wrong_components(problem: Problem, point: np.ndarray, number: int, ev: LeafEvidence, seed: int) -> Found:
    """The components of one leaf that its differences contradict.

    Raises:
        Stopped: time was up before all was measured.
    """
    look, left = _Look(problem, point, number, ev), np.ones(len(ev.values), bool)
    found: list[int] = []
    spread = False
    for turn in range(ROUNDS):
        more, spread = _one_round(look, np.flatnonzero(left), [seed, number, turn])
        found += more
        left[more] = False
        if spread or not more or len(found) >= MOST:
            break
    return Found(np.sort(np.array(found, int)), spread, look.evaluations, look.compiled)


def _one_round(look: _Look, those: np.ndarray, seed: list[int]) -> tuple[list[int], bool]:
    """(the wrong components that show with one set of signs, or some of them; whether there are too many)."""
    rng = np.random.default_rng(seed)
    look.draw(rng, those)
    off, bar = look.off([those])
    blocks = [(those, off[0], bar[0])] if abs(off[0]) > BARS * bar[0] else []
    found: list[int] = []
    while blocks:
        done = [int(block[0]) for block, *_ in blocks if len(block) == 1]
        found += done
        open_ = [b for b in blocks if len(b[0]) > 1]
        if len(open_) > SPREAD or len(found) > MOST:
            some = rng.permutation(len(blocks))[:SPREAD]
            return [int(rng.choice(blocks[k][0])) for k in some], True
        halves = [np.array_split(block, 2) for block, *_ in open_]
        off, bar = look.off([left for left, _ in halves]) if halves else ([], [])
        blocks = []
        for (left, right), (_, whole, whole_bar), o, b in zip(halves, open_, off, bar, strict=True):
            blocks += [
                half for half in ((left, o, b), (right, whole - o, whole_bar + b)) if abs(half[1]) > BARS * half[2]
            ]
    return found, False


class _Look:
    """What a leaf's gradient is off by along blocks of its components."""

    def __init__(self, problem: Problem, point: np.ndarray, number: int, ev: LeafEvidence):
        self.problem, self.point, self.ev = problem, point, ev
        self.leaf = problem.theta.leaves[number]
        self.scale = own_scale(ev.values, 1e-2)
        self.signs = np.ones(len(ev.values))
        self.column = _worst_column(ev)
        self.evaluations, self.compiled, self.noise = 0, 0, 0.0

    def draw(self, rng: np.random.Generator, those: np.ndarray) -> None:
        """Fresh signs; and how far values scatter."""
        n = len(self.scale)
        self.signs = rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 1.5, n)
        if not self.noise:
            f, _ = self._sample([those], _Near())
            self.noise = float(np.ptp(f)) + 2 * max(self.problem.unit, EPS) * float(np.abs(f).max())

    def off(self, blocks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(M less N along each block, its bar)."""
        ladder = _Pair() if self.problem.unit < FINE_UNIT else _Pair(first=COARSE)
        f, local = self._sample(blocks, ladder)
        h = ladder.steps
        large, small = ((f[k] - f[2 + k]) / (2 * h[k]) for k in (0, 1))
        slope = small + (small - large) / (FINER**2 - 1)
        claim = local @ self.ev.m[self.column]
        rounding = np.sqrt(local**2 @ self.ev.m_error[self.column] ** 2)
        return claim - slope, np.abs(small - large) / (FINER**2 - 1) + self.noise / h[1] + rounding

    def _sample(self, blocks: list[np.ndarray], ladder: Ladder) -> tuple[np.ndarray, np.ndarray]:
        """(values (T, D) along each block, the directions)."""
        local = np.zeros((len(blocks), len(self.scale)))
        for row, block in zip(local, blocks, strict=True):
            row[block] = self.signs[block] * self.scale[block]
        # Of traced programs those of a few sizes are compiled.
        padded = len(blocks) if self.problem.primal is None else 1 << int(np.ceil(np.log2(len(blocks))))
        wide = np.zeros((padded, self.problem.theta.size))
        wide[: len(blocks), self.leaf.start : self.leaf.stop] = local
        samples, _, _, new = measure(self.problem, self.point, wide, ladder, 0, gradients=False)
        self.evaluations += padded * len(ladder.offsets)
        self.compiled += new
        return samples[:, : len(blocks), self.column], local


def _worst_column(ev: LeafEvidence) -> int:
    """The column that the directions contradict most."""
    best = np.zeros(len(ev.m))
    for p in ev.probes:
        if p.directions is not None:
            with np.errstate(all="ignore"):
                off = np.abs(p.project(ev.m) - p.slopes.value) / p.slopes.error
                best = np.fmax(best, np.nanmax(off, axis=0))
    return int(np.argmax(best))
