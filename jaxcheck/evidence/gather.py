"""Gathers the evidence of all leaves at one point."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import FINE_UNIT
from jaxcheck.budget import until_stopped
from jaxcheck.evidence import path
from jaxcheck.evidence.differences import Ladder, Slopes, slopes
from jaxcheck.evidence.gradient_bars import barred, of_leaf
from jaxcheck.evidence.measured import Evidence, Probes
from jaxcheck.evidence.sketch import own_scale
from jaxcheck.evidence.witnesses import is_long, measure
from jaxcheck.problem import repeat
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.scale import component_scale
from jaxcheck.there import there

# Smallest step scale of a component, relative to its leaf's RMS.
FLOOR = 1e-2


def gather(
    problem: Problem,
    point: np.ndarray,
    plan: dict[int, np.ndarray | None],
    ladder: Ladder,
    seed: int,
    wanted: int | None = None,
) -> Evidence:
    """The evidence of all leaves.

    Args:
        plan: leaf number -> (D, n) directions, or None for one direction per component.
        wanted: of a leaf's directions that many are of one kind, of which the first is needed; so are those beside
            them, and every component. Where time is short the others are left out, and a leaf that lacks what is
            needed is among `unseen`. Default: all are needed, or the check stops.
    """
    asked = _Asked.of(problem, point, plan)
    if wanted is not None and is_long(problem, len(asked.directions) * len(ladder.offsets)):
        asked = dataclasses.replace(asked, **_turns(asked.slots, wanted))
    first = int(asked.needed.sum()) if wanted is not None else None
    samples, m, a, compiled = measure(problem, point, asked.directions[asked.order], ladder, seed, first=first)
    order = asked.order[: samples.shape[1]]
    found, spent, sharpened = slopes(samples, ladder, problem.unit), len(order) * len(ladder.offsets) + 8, 0
    if problem.unit > FINE_UNIT and problem.manual is not None and problem.primal is not None and len(order):
        with until_stopped():
            sharp = path.sharpen(problem, point, asked.directions[order], found, there(m)[0])
            found, sharpened = sharp.slopes, sharp.count
            spent, compiled = spent + sharp.evaluations, compiled + sharp.compiled
    random = _random(problem, samples, m)
    numbers = problem.numbers if m is None else None
    given = barred(there(m), problem, point, problem.unit) if numbers is None else (numbers, np.zeros_like(numbers))
    known = (None, None) if a is None else barred(a, None, point, problem.unit)
    probes, unseen = _by_leaf(asked, order, found)
    leaves = tuple(
        of_leaf(problem, point, leaf, given, known, mine)
        for leaf, mine in zip(problem.theta.leaves, probes, strict=True)
    )
    seen = samples.shape[1] and samples.shape[2]
    return Evidence(
        samples[0, 0] if seen else np.full(problem.columns, np.nan),
        leaves,
        random,
        spent,
        compiled,
        sharpened,
        unseen,
        len(asked.directions) - len(order),
    )


# [(components of a leaf, one direction for each)], or (None, directions), all of the leaf's size.
Slots = list[tuple[np.ndarray | None, np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Asked:
    """`directions` (D, P) of all leaves, by leaf in `slots`; the `order` (D,) in which they are taken, and which of
    them are `needed` (D,)."""

    directions: np.ndarray
    slots: list[Slots]
    order: np.ndarray
    needed: np.ndarray

    @staticmethod
    def of(problem: Problem, point: np.ndarray, plan: dict[int, np.ndarray | None]) -> _Asked:
        blocks, slots = [], []
        for number, leaf in enumerate(problem.theta.leaves):
            local = plan.get(number, np.zeros((0, leaf.stop - leaf.start)))
            slots.append(_single(point[leaf.start : leaf.stop]) if local is None else [(None, local)])
            for _, directions in slots[-1]:
                wide = np.zeros((len(directions), problem.theta.size))
                wide[:, leaf.start : leaf.stop] = directions
                blocks.append(wide)
        directions = np.concatenate(blocks)
        return _Asked(directions, slots, np.arange(len(directions)), np.ones(len(directions), bool))


def _random(problem: Problem, samples: np.ndarray, m: np.ndarray | None) -> str:
    """What of a check differs from call to call, "" for nothing."""
    # The point itself was sampled once per direction.
    if samples.shape[1] > 1 and np.isfinite(samples[0]).all() and repeat.wandering(samples[0], problem.unit):
        return repeat.LOSS
    return repeat.GRADIENT if m is not None and repeat.differ(m[0], m[1], problem.unit) else ""


def _by_leaf(asked: _Asked, order: np.ndarray, found: Slopes) -> tuple[list[tuple[Probes, ...]], tuple[int, ...]]:
    """(the probes of each leaf, the leaves that lack what is needed), of slopes that were `found` in an `order`."""
    at = np.full(len(asked.directions), -1)
    at[order] = np.arange(len(order))
    probes, unseen, row = [], [], 0
    for number, slots in enumerate(asked.slots):
        rows = slice(row, row := row + sum(len(local) for _, local in slots))
        probes.append(_probes(slots, at[rows], found))
        unseen += [number] if (asked.needed[rows] & (at[rows] < 0)).any() else []
    return probes, tuple(unseen)


def _probes(slots: Slots, at: np.ndarray, found: Slopes) -> tuple[Probes, ...]:
    """The probes of one leaf; `at` says of each of its directions where it is among those found, -1 for nowhere."""
    probes, row = [], 0
    for indices, local in slots:
        mine, row = at[row : row + len(local)], row + len(local)
        here = np.flatnonzero(mine >= 0)
        if len(here) and indices is None:
            probes.append(Probes(found[mine[here]], directions=local[here]))
        elif len(here):
            single = there(indices)[here]
            probes.append(per_component(found[mine[here]], single, local[here, single]))
    return tuple(probes)


def _turns(slots: list[Slots], wanted: int) -> dict[str, np.ndarray]:
    """The order in which directions are taken, and which of all are needed: every leaf's first ones come first, then
    every leaf's second ones."""
    turn, needed, row = [], [], 0
    for local in slots:
        count = 0
        for indices, rows in local:
            for k in range(len(rows)):
                extra = indices is None and 0 < k < wanted
                turn.append((bool(extra), count, row))
                needed.append(not extra)
                count, row = count + 1, row + 1
    return {"order": np.array([row for *_, row in sorted(turn)], int), "needed": np.array(needed, bool)}


def moves_of(values: np.ndarray, chosen: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """[(components, how far each moves)] of those `chosen`: all at a part of the leaf's RMS at least; and once more,
    by their own size, those far below it, for all that the function does with them may lie below the first one's
    steps."""
    first = component_scale(values, FLOOR)
    own = own_scale(values, FLOOR)
    again = chosen[own[chosen] != first[chosen]]
    return [(chosen, first[chosen]), *([(again, own[again])] if again.size else [])]


def _single(values: np.ndarray) -> Slots:
    """[(components, one direction for each)] of all components, see `moves_of`."""
    out = []
    for indices, scale in moves_of(values, np.arange(len(values))):
        local = np.zeros((len(indices), len(values)))
        local[np.arange(len(indices)), indices] = scale
        out.append((indices, local))
    return out


def per_component(found: Slopes, indices: np.ndarray, scale: np.ndarray) -> Probes:
    """Slopes along scaled one-hot directions, turned into derivatives per unit of the component."""
    per = scale[:, None]
    names = ("value", "error", "left", "left_error", "right", "right_error", "rough", "reach", "steepest")
    fields = {name: getattr(found, name) / per for name in names}
    fields |= {"quotients": found.quotients / per[..., None], "steps": there(found.steps) * per[..., None]}
    return Probes(dataclasses.replace(found, **fields), indices=indices)
