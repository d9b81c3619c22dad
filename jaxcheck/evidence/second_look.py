"""More differences of one leaf that is in doubt: of single components, of its ties, and of what was seen before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxcheck.evidence.differences import Ladder, slopes
from jaxcheck.evidence.gather import FLOOR, moves_of, per_component
from jaxcheck.evidence.measured import Probes
from jaxcheck.evidence.sketch import own_scale
from jaxcheck.evidence.smooth import pieces
from jaxcheck.evidence.witnesses import measure
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.scale import component_scale


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
    known: the directions as they were, and of single components `indices`, see `gather.moves_of`.

    Returns:
        (probes, evaluations, compiled).
    """
    leaf = problem.theta.leaves[number]
    dense = [p.directions for p in probes if p.directions is not None]
    single = []
    if any(p.directions is None for p in probes) and len(indices):
        single = moves_of(point[leaf.start : leaf.stop], indices)
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
