"""From a loss, a backward pass and a point to a problem for the search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcheck.bars import ASTRAY, REPAIRED
from jaxcheck.program.where.constants import Constants
from jaxcheck.program.where.search import Problem
from jaxcheck.program.where.tape import Tape, record
from jaxcheck.program.where.truths import truths

# How far the second point is from the first, relative to each number, and to the leaf's RMS.
FAR, APART = 0.25, 0.05


def of_loss(loss: Any, manual: Any, values: Sequence[Any], count: int, cotangents: Sequence[Any], seconds: float
            ) -> Problem | None:
    """The problem of a backward pass against the truth that follows from the loss; None where no result is wrong, or
    the loss itself has nothing to say at one of the points.

    Args:
        loss, manual: closed jaxprs of the same inputs; the results of `manual` are, but for axes of length 1, the
            gradients in the first `count` inputs of the loss's outputs times `cotangents`. Where `manual` takes more
            inputs than the loss, those are the cotangents.
        values: of the inputs.
        seconds: for the search.

    Raises:
        Unflattened: see `record`.
        Whatever an equation raises.
    """
    deadline = time.perf_counter() + seconds
    ahead, back = record(loss, values), record(manual, [*values, *cotangents][: len(manual.in_avals)])
    other = [second_point(x, k) if k < count else x for k, x in enumerate(back.values[i] for i in back.inputs)]
    runs, losses = [back.values], [ahead.values]
    with np.errstate(all="ignore"):
        runs.append(back.replay(back.values, dict(zip(back.inputs, other, strict=True))))
        losses.append(ahead.replay(ahead.values, dict(zip(ahead.inputs, other[: len(ahead.inputs)], strict=True))))
        seeds = dict(zip(ahead.outputs, (np.asarray(c, float) for c in cotangents), strict=True))
        known = [ahead.back(v, seeds) for v in losses]
    targets = [[_as(total.get(i), run[o]) for i, o in zip(ahead.inputs[:count], back.outputs, strict=True)]
               for run, (total, _) in zip(runs, known, strict=True)]
    if not all(np.isfinite(t).all() for row in targets for t in row):
        return None
    literals = [float(t.values[i]) for t in (ahead, back) for i in t.literals if np.asarray(t.values[i]).dtype.kind in "fi"]
    sizes = {n for t in (ahead, back) for x in t.values for n in (*np.shape(x), np.size(x))}
    problem = Problem(back, runs, targets, truths(ahead, losses, known), Constants(sizes, literals), deadline)
    wrong = [problem.error(run, point) > ASTRAY for point, run in enumerate(runs)]
    astray = [problem.error(run, point) > REPAIRED for point, run in enumerate(runs)]
    if not all(w.any() for w in wrong) or any((a & ~w).any() for a, w in zip(astray, wrong, strict=True)):
        return None
    return problem


def _as(x: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    return np.zeros(like.shape) if x is None else np.reshape(x, like.shape)


def second_point(x: np.ndarray, k: int) -> np.ndarray:
    """Another value of an input, of the same signs."""
    if x.dtype.kind != "f":
        return x
    rng = np.random.default_rng([5, k])
    rms = np.sqrt(np.mean(x**2)) if x.size else 0.0
    return x * (1 + FAR * rng.uniform(-1, 1, x.shape)) + APART * rms * np.sign(x) * rng.uniform(0, 1, x.shape)


__all__ = ["Problem", "Tape", "of_loss"]
