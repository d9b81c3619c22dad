"""Every component of theta: the textbook's loop, vmapped one leaf at a time.

Either formula (1) with a step of the caller's, or two steps chosen per component with an error bar.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence import rows
from jaxcheck.evidence.differences import Slopes, two_steps
from jaxcheck.evidence.sketch import component_scale
from jaxcheck.evidence.witnesses import Probes, Problem
from jaxcheck.program import columns
from jaxcheck.program.batching import sequential
from jaxcheck.program.compile import execute
from jaxcheck.program.objective import call

# Steps of the two-step scheme, relative to a component's scale. Their truncation, h^4 after the
# combination, and round-off, eps/h, meet near 1e-12; a ReLU's kink is rarely within 1e-4.
STEP, RATIO = 2.5e-5, 4.0
# Elements from which on it pays to plan what a perturbation leaves unmoved.
COLUMNS_FROM = 1e8


@dataclasses.dataclass(frozen=True, eq=False)
class Differences:
    """Per leaf: (value (n, G), error (n, G)); error is NaN where the caller chose the step."""

    leaves: tuple[tuple[np.ndarray, np.ndarray], ...]
    evaluations: int
    compiled: int


def samples(problem: Problem, point: np.ndarray, number: int, steps: np.ndarray, chunk: int | None,
            tick: Callable[[int], None]) -> tuple[np.ndarray, int]:
    """Outputs (S, n, G) for one leaf with each component moved by steps[s, i]; and programs compiled."""
    theta = problem.theta
    leaf = theta.leaves[number]
    if problem.primal is None:
        size, count = leaf.stop - leaf.start, len(steps)
        out = np.empty((count, size, problem.columns))
        for i in range(size):
            for s in range(count):
                moved = point.copy()
                moved[leaf.start + i] += steps[s, i]
                out[s, i] = problem.host_primal(moved)
            tick(1)
        return out, 0
    # Small leaves are evaluated as the textbook writes it, J(theta +- eps e_i) to the last digit.
    large = steps.size * problem.cost > COLUMNS_FROM
    plan = columns.plan(problem.loss.program, number) if large else None
    out, compiled = _compiled(problem, point, number, steps, chunk, tick, plan)
    if plan and not np.isfinite(out).all():
        # Whole values may be finite where a change is not: infinity less infinity.
        out, more = _compiled(problem, point, number, steps, chunk, lambda _: None, None)
        compiled += more
    return out, compiled


def _compiled(problem: Problem, point: np.ndarray, number: int, steps: np.ndarray, chunk: int | None,
              tick: Callable[[int], None], plan: columns.Plan | None) -> tuple[np.ndarray, int]:
    """`samples` of a program, by the plan that says what has to be computed for each component, or whole."""
    program, theta = problem.loss.program, problem.theta
    count, size = steps.shape
    cost = max(plan.cost if plan else problem.cost, 1.0)
    if not plan and sequential(program.closed, number):
        chunk = 1
    chunk = min(size, chunk or max(1, rows.chunk_rows(cost, size * count) // count))
    # Calls of about a second each, so that progress shows and an interrupt loses little; all of one length.
    blocks = -(-size // chunk)
    calls = -(-blocks // max(1, int(3e8 / cost / count / chunk)))
    per_call = chunk * -(-blocks // calls)
    avals = program.closed.in_avals

    def build(programs, consts, values, extras, start, steps):
        if plan:
            moved = call(lambda *flat: plan.evaluator(consts, flat), avals, [*values, *extras])
        else:
            moved = rows.one_hot(lambda leaves: call(programs[0], avals, [*leaves, *extras]), values, number)

        def row(index, step):
            return moved(index, step)[0].reshape(-1).astype(jnp.float64)

        return rows.components(row, start, per_call, chunk, steps)

    parts, compiled = [], 0
    with jax.enable_x64(True):
        values = [jnp.asarray(v) for v in theta.unravel(point)]
        moves = jnp.asarray(steps)
        name = ("components", number, per_call, chunk, plan is not None)
        for start in range(0, size, per_call):
            out, new = execute(name, build, [program], tuple(program.closed.consts), values, tuple(problem.extras),
                               np.int64(start), moves, work=cost * size * count)
            parts.append(np.asarray(out))
            compiled += new
            tick(min(per_call, size - start))
    return np.concatenate(parts, axis=1)[:, :size], compiled


def textbook(problem: Problem, point: np.ndarray, step: float, scheme: str, chunk: int | None,
             tick: Callable[[int], None]) -> Differences:
    """Formula (1) with an absolute step, as written; `scheme` "forward" takes J(theta) for the second value."""
    signs = (1.0, -1.0) if scheme == "central" else (1.0, 0.0)
    leaves, compiled = [], 0
    for number, leaf in enumerate(problem.theta.leaves):
        n = leaf.stop - leaf.start
        if not n:
            leaves.append((np.zeros((0, problem.columns)),) * 2)
            continue
        steps = np.array(signs)[:, None] * np.full((1, n), step)
        out, new = samples(problem, point, number, steps, chunk, tick)
        compiled += new
        with np.errstate(all="ignore"):
            value = (out[0] - out[1]) / (step * (signs[0] - signs[1]))
        leaves.append((value, np.full_like(value, np.nan)))
    return Differences(tuple(leaves), 2 * problem.theta.size, compiled)


def two_step(problem: Problem, point: np.ndarray, chunk: int | None, tick: Callable[[int], None]) -> Differences:
    """Centred differences from two steps per component, with error bars."""
    leaves, compiled = [], 0
    for number, leaf in enumerate(problem.theta.leaves):
        n = leaf.stop - leaf.start
        if not n:
            leaves.append((np.zeros((0, problem.columns)),) * 2)
            continue
        h = STEP * component_scale(point[leaf.start : leaf.stop], 0.1)
        steps = np.array([RATIO, -RATIO, 1.0, -1.0])[:, None] * h
        out, new = samples(problem, point, number, steps, chunk, tick)
        compiled += new
        size = np.abs(out[2:]).max(axis=0)
        leaves.append(two_steps((out[0], out[1]), (out[2], out[3]), h[:, None], RATIO, size, problem.unit))
    return Differences(tuple(leaves), 4 * problem.theta.size, compiled)


def as_probes(value: np.ndarray, error: np.ndarray) -> Probes:
    """Two-step differences as probes: no one-sided slopes, so a kink shows as a wide bar."""
    nan, no = np.full_like(value, np.nan), np.zeros(value.shape, bool)
    size = np.abs(value)
    slopes = Slopes(value, error, nan, nan, nan, nan, no, no, no, error, no, size, value[..., None], size, 0 * size,
                    np.full_like(value, np.inf), 0 * size)
    return Probes(slopes, indices=np.arange(len(value)))
