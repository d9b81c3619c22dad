"""Gathers the evidence of all leaves at one point, and more of it where a leaf is under suspicion."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxcheck.budget import until_stopped
from jaxcheck.evidence import path, repeat
from jaxcheck.evidence.differences import Ladder, Slopes, slopes
from jaxcheck.evidence.problem import Evidence, LeafEvidence, Probes, Problem
from jaxcheck.evidence.sketch import component_scale, own_scale, typical, units
from jaxcheck.evidence.smooth import pieces
from jaxcheck.evidence.witnesses import is_long, measure
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
    if problem.unit > 1e-12 and problem.manual is not None and problem.primal is not None and len(order):
        with until_stopped():
            sharp = path.sharpen(problem, point, asked.directions[order], found, there(m)[0])
            found, sharpened = sharp.slopes, sharp.count
            spent, compiled = spent + sharp.evaluations, compiled + sharp.compiled
    random = _random(problem, samples, m)
    m, m_error = map(there, _gradient_with_error(m, problem, point))
    a, a_error = _gradient_with_error(a, None, point, problem.unit)
    at = np.full(len(asked.directions), -1)
    at[order] = np.arange(len(order))
    leaves, unseen, row = [], [], 0
    for number, leaf in enumerate(problem.theta.leaves):
        rows = slice(row, row := row + sum(len(local) for _, local in asked.slots[number]))
        where = slice(leaf.start, leaf.stop)
        leaves.append(
            LeafEvidence(
                leaf,
                point[where],
                m[:, where],
                m_error[:, where],
                None if a is None else a[:, where],
                None if a_error is None else a_error[:, where],
                _probes(asked.slots[number], at[rows], found),
                given_error(problem, point, m, where),
                problem.unit,
                problem.is_autodiff,
                sharp=problem.sharp,
            )
        )
        unseen += [number] if (asked.needed[rows] & (at[rows] < 0)).any() else []
    seen = samples.shape[1] and samples.shape[2]
    return Evidence(
        samples[0, 0] if seen else np.full(problem.columns, np.nan),
        tuple(leaves),
        random,
        spent,
        compiled,
        sharpened,
        tuple(unseen),
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


def _moves(values: np.ndarray, chosen: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """[(components, how far each moves)] of those `chosen`: all at a part of the leaf's RMS at least; and once more,
    by their own size, those far below it, for all that the function does with them may lie below the first one's
    steps."""
    first = component_scale(values, FLOOR)
    own = own_scale(values, FLOOR)
    again = chosen[own[chosen] != first[chosen]]
    return [(chosen, first[chosen]), *([(again, own[again])] if again.size else [])]


def _single(values: np.ndarray) -> Slots:
    """[(components, one direction for each)] of all components, see `_moves`."""
    out = []
    for indices, scale in _moves(values, np.arange(len(values))):
        local = np.zeros((len(indices), len(values)))
        local[np.arange(len(indices)), indices] = scale
        out.append((indices, local))
    return out


def given_error(problem: Problem, point: np.ndarray, m: np.ndarray, where: slice) -> np.ndarray:
    """(G, n) rounding of a gradient given as numbers: it was computed in some precision by steps unknown.

    Where there is an autodiff gradient, what rounding does to that in the same precision: each entry's bar, and the
    RMS of its leaf's beside it. Where there is none, forty units of the leaf's RMS: above what networks of up to
    twelve layers lose in float32 (a test holds that), at most the RMS itself.
    """
    part = m[:, where]
    if problem.numbers_unit is None:
        return np.zeros_like(part)
    if problem.numbers_bar is not None and np.isfinite(problem.numbers_bar[:, where]).all():
        bar = problem.numbers_bar[:, where]
        return bar + typical(bar, units(point[where])) + problem.numbers_unit[where] * np.abs(part)
    return np.minimum(40 * problem.numbers_unit[where], 1.0) * typical(part, units(point[where]))


def tied_directions(values: np.ndarray, seed: int) -> np.ndarray:
    """(2, n) directions that move equal values together.

    Where the point ties several components (a maximum taken twice), each alone meets a kink, but
    together they move on smooth ground: there a gradient that counts the tie twice shows.
    """
    rng = np.random.default_rng([seed, 11])
    scale = own_scale(values, 1e-3)
    _, group = np.unique(values, return_inverse=True)
    size = (2, group.max(initial=0) + 1)
    weights = rng.choice([-1.0, 1.0], size) * rng.uniform(0.5, 1.5, size)
    return weights[:, group] * scale


def per_component(found: Slopes, indices: np.ndarray, scale: np.ndarray) -> Probes:
    """Slopes along scaled one-hot directions, turned into derivatives per unit of the component."""
    per = scale[:, None]
    fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    for name in ("value", "error", "left", "left_error", "right", "right_error", "rough", "reach", "steepest"):
        fields[name] = fields[name] / per
    fields["quotients"] = fields["quotients"] / per[..., None]
    fields["steps"] = there(fields["steps"]) * per[..., None]
    return Probes(Slopes(**fields), indices=indices)


def follow_up(
    problem: Problem,
    point: np.ndarray,
    number: int,
    indices: np.ndarray,
    ladder: Ladder,
    seed: int,
    floor: float = FLOOR,
    scale: np.ndarray | None = None,
    again: Sequence[Probes] = (),
) -> tuple[tuple[Probes, Probes], int, int]:
    """The full ladder on chosen components of one leaf, and along its ties or, in their place, other directions.

    Args:
        scale: how far each of them may move; default their own size, at least `floor` of the leaf's RMS.
        again: probes whose directions are taken once more.

    Returns:
        ((probes of the components, probes of the other directions), evaluations, compiled).
    """
    leaf = problem.theta.leaves[number]
    if scale is None:
        scale = component_scale(point[leaf.start : leaf.stop], floor)[indices]
    dense = [p.directions for p in again if p.directions is not None]
    ties = np.concatenate(dense) if dense else tied_directions(point[leaf.start : leaf.stop], seed)
    count = len(indices)
    padded = _padded(problem, count + len(ties))
    wide = np.zeros((padded, problem.theta.size))
    wide[np.arange(count), leaf.start + indices] = scale
    wide[count : count + len(ties), leaf.start : leaf.stop] = ties
    samples, _, _, compiled = measure(problem, point, wide, ladder, seed, gradients=False)
    found = slopes(samples[:, : count + len(ties)], ladder, problem.unit)
    single = per_component(found[:count], indices, scale)
    return (single, Probes(found[count:], directions=ties)), padded * len(ladder.offsets), compiled


def closer(
    problem: Problem,
    point: np.ndarray,
    number: int,
    probes: Sequence[Probes],
    indices: np.ndarray,
    ladder: Ladder,
    seed: int,
    noise: np.ndarray,
) -> tuple[tuple[Probes, ...], int, int]:
    """The probes of a leaf once more, with the round-off of the values measured (`noise`, (G,)) and the smooth steps
    known: the directions as they were, and of single components `indices`, see `_moves`.

    Returns:
        (probes, evaluations, compiled).
    """
    leaf = problem.theta.leaves[number]
    dense = [p.directions for p in probes if p.directions is not None]
    single = []
    if any(p.directions is None for p in probes) and len(indices):
        single = _moves(point[leaf.start : leaf.stop], indices)
    count = sum(len(chosen) for chosen, _ in single) + sum(map(len, dense))
    padded = _padded(problem, count)
    wide, row = np.zeros((padded, problem.theta.size)), 0
    for chosen, scale in single:
        wide[row + np.arange(len(chosen)), leaf.start + chosen] = scale
        row += len(chosen)
    for block in dense:
        wide[row : row + len(block), leaf.start : leaf.stop] = block
        row += len(block)
    samples, _, _, compiled = measure(problem, point, wide, ladder, seed, gradients=False)
    seen, new = None, 0
    if not problem.at_limit:  # where a loop comes to rest is no decision of the program
        seen, new = pieces(problem, point, wide, ladder)
    found = slopes(
        samples[:, :count],
        ladder,
        problem.unit,
        noise=noise,
        own=seen and seen.own[..., :count],
        decided=seen and seen.decided[:count],
    )
    out, row = [], 0

    def add(size, make):
        nonlocal row
        here, row = slice(row, row + size), row + size
        names = ("crossed", "analytic", "beyond", "smooth")
        known = {} if seen is None else {name: getattr(seen, name)[here] for name in names}
        out.append(dataclasses.replace(make(found[here]), **known))

    for chosen, scale in single:
        add(len(chosen), lambda s, chosen=chosen, scale=scale: per_component(s, chosen, scale))
    for block in dense:
        add(len(block), lambda s, block=block: Probes(s, directions=block))
    return tuple(out), 2 * padded * len(ladder.offsets), compiled + new


def _padded(problem: Problem, rows: int) -> int:
    """To a power of two, so that the next follow-up finds this one's program; what runs row by row has none."""
    return rows if problem.primal is None else 1 << max(2, int(np.ceil(np.log2(max(rows, 1)))))


def _gradient_with_error(
    stack: np.ndarray | None, problem: Problem | None, point: np.ndarray, unit: float | None = None
):
    """(4, G, P) evaluations to the gradient and its round-off bar (G, P): the scatter over the neighbours,
    and for M 16 units of its leaf's RMS as well (A and M are compared with the sum of their bars)."""
    if stack is None:
        if problem is None:
            return None, None
        numbers = problem.numbers
        return numbers, np.zeros_like(numbers)
    unit = there(problem).unit if unit is None else unit
    with np.errstate(all="ignore"):
        scatter = np.abs(stack[2:] - stack[0]).max(axis=0)
        return stack[0], bar(stack[0], scatter, problem, point, unit)


def bar(
    gradient: np.ndarray, scatter: np.ndarray, problem: Problem | None, point: np.ndarray, unit: float
) -> np.ndarray:
    """The round-off bar of a gradient (G, P) that scatters so much between neighbours; `problem` for M alone."""
    with np.errstate(all="ignore"):
        error = np.where(np.isfinite(scatter), scatter, 0.0) + 2 * unit * np.abs(gradient)
        for leaf in problem.theta.leaves if problem else ():
            where = slice(leaf.start, leaf.stop)
            error[:, where] += 16 * unit * typical(gradient[:, where], units(point[where]))
        return error
