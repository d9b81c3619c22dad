"""Every component of theta: the textbook's loop, vmapped one leaf at a time.

Either formula (1) with a step of the caller's, or two steps chosen per component with an error bar.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck import budget
from jaxcheck.evidence import blocks, rows
from jaxcheck.evidence.differences import two_steps
from jaxcheck.evidence.measured import Probes
from jaxcheck.evidence.projected import exact
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.scale import component_scale
from jaxcheck.program.mode import as_jax
from jaxcheck.program.objective import call
from jaxcheck.program.run import columns, kept, spread
from jaxcheck.program.run.batching import sequential
from jaxcheck.program.run.compile import execute
from jaxcheck.there import there

# Steps of the two-step scheme, relative to a component's scale. Their truncation, h^4 after the
# combination, and round-off, eps/h, meet near 1e-12; a ReLU's kink is rarely within 1e-4.
STEP, RATIO = 2.5e-5, 4.0
# The least scale of a component, relative to the RMS of its leaf: what is nearly zero beside others moves as they do.
LEAST_SCALE = 0.1
# Elements from which on it pays to plan what a perturbation leaves unmoved.
COLUMNS_FROM = 1e8


@dataclasses.dataclass(frozen=True, eq=False)
class Differences:
    """Per leaf: (value (n, G), error (n, G)); error is NaN where the caller chose the step."""

    leaves: tuple[tuple[np.ndarray, np.ndarray], ...]
    evaluations: int
    compiled: int
    left_out: tuple[int, ...] = ()  # of each leaf, how many of its last components time left without: NaN there


def samples(
    problem: Problem, point: np.ndarray, number: int, steps: np.ndarray, chunk: int | None
) -> tuple[np.ndarray, int]:
    """Outputs (S, n, G) for one leaf with each component moved by steps[s, i]; and programs compiled.

    A check that is stopped meanwhile leaves the last components NaN.
    """
    theta, clock = problem.theta, budget.current()
    leaf = theta.leaves[number]
    if problem.primal is None:
        size, count = leaf.stop - leaf.start, len(steps)
        out = np.full((count, size, problem.columns), np.nan)

        def component(i: int) -> np.ndarray:
            clock.tell("components", leaf.start + i, theta.size)
            found = []
            for step in steps[:, i]:
                clock.ask()
                moved = point.copy()
                moved[leaf.start + i] += step
                found.append(there(problem.host_primal)(moved))
            return np.reshape(np.asarray(found, np.float64), (count, problem.columns))

        shelf = kept.shelf(("components of Python's", number, theta.values), [], (point, steps))
        with budget.until_stopped():
            for i, found in enumerate(kept.in_turn(shelf, size, component)):
                out[:, i] = found
        return out, 0
    # Small leaves are evaluated as the textbook writes it, J(theta +- eps e_i) to the last digit.
    large = steps.size * problem.cost > COLUMNS_FROM
    plan = columns.plan(problem.loss.program, number) if large else None
    out, compiled = _compiled(problem, point, number, steps, chunk, plan)
    if plan and not clock.stopped and not np.isfinite(out).all():
        # Whole values may be finite where a change is not: infinity less infinity.
        out, more = _compiled(problem, point, number, steps, chunk, None)
        compiled += more
    return out, compiled


def _compiled(
    problem: Problem, point: np.ndarray, number: int, steps: np.ndarray, chunk: int | None, plan: columns.Plan | None
) -> tuple[np.ndarray, int]:
    """`samples` of a program, by the plan that says what has to be computed for each component, or whole."""
    count, size = steps.shape
    cost = max(plan.cost if plan else problem.cost, 1.0)
    if not plan and sequential(problem.loss.program.closed, number):
        chunk = 1
    at_once = min(size, chunk or max(1, rows.chunk_rows(cost, size * count) // count))
    return blocks.within_memory(at_once, lambda chunk: _in_calls(problem, point, number, steps, chunk, plan))


def _in_calls(
    problem: Problem, point: np.ndarray, number: int, steps: np.ndarray, chunk: int, plan: columns.Plan | None
) -> tuple[np.ndarray, int]:
    program, theta = problem.loss.program, problem.theta
    count, size = steps.shape
    cost = max(plan.cost if plan else problem.cost, 1.0)
    effort = plan.cost if plan else max(program.effort, 1.0)
    shares = spread.shares([program], effort * count * size, problem.extras, point, steps)
    over, chunk = shares.mesh, min(chunk, -(-size // shares.width))
    # Calls of about a second each, so that progress shows and an interrupt loses little; all of one length.
    turns = -(-size // (chunk * shares.width))
    calls = -(-turns // max(1, int(blocks.ONE_CALL / effort / count / chunk)))
    per_call = chunk * shares.lanes * -(-turns // calls)
    name = ("components", number, per_call, chunk, plan is not None)
    build, compiled, clock = _program(problem, number, chunk, plan), 0, budget.current()
    spent: dict[str, Any] = dict(work=cost * size * count, part=min(1.0, per_call / size))

    def work() -> list[np.ndarray]:
        nonlocal compiled
        parts = []
        values, moves = spread.everywhere(([as_jax(v) for v in theta.unravel(point)], as_jax(steps)), over)
        with budget.cut_short():
            for start in shares.starts(size, per_call):
                clock.tell("components", theta.leaves[number].start + start, theta.size)
                rows = np.arange(start, start + per_call)
                given = (program.copies(over), values, tuple(problem.extras), rows, moves)
                out, new = execute(name, build, [program], *given, over=over, split=(3,), keep=True, **spent)
                parts.append(np.moveaxis(np.asarray(out), 0, 1))
                compiled += new
        return parts

    with jax.enable_x64(True):
        parts = shares.joined(f"the components of leaf {number}, {per_call} at a time", work)
    parts.append(np.full((count, max(0, size - per_call * len(parts)), problem.columns), np.nan))
    return np.concatenate(parts, axis=1)[:, :size], compiled


def _program(problem: Problem, number: int, chunk: int, plan: columns.Plan | None) -> Callable:
    """What one call runs."""
    avals = problem.loss.program.closed.in_avals

    def build(programs, consts, values, extras, indices, steps):
        if plan is not None:
            evaluator = plan.evaluator
            moved = cast(Callable, call(lambda *flat: evaluator(consts, flat), avals, [*values, *extras]))
        else:
            moved = rows.one_hot(lambda leaves: call(programs[0], avals, [*leaves, *extras]), values, number)

        def row(index, step):
            return moved(index, step)[0].reshape(-1).astype(jnp.float64)

        return rows.components(row, indices, chunk, steps)

    return build


def textbook(problem: Problem, point: np.ndarray, step: float, scheme: str, chunk: int | None) -> Differences:
    """Formula (1) with an absolute step, as written; `scheme` "forward" takes J(theta) for the second value."""
    signs = (1.0, -1.0) if scheme == "central" else (1.0, 0.0)

    def one(number: int, n: int):
        steps = np.array(signs)[:, None] * np.full((1, n), step)
        out, new = samples(problem, point, number, steps, chunk)
        with np.errstate(all="ignore"):
            value = (out[0] - out[1]) / (step * (signs[0] - signs[1]))
        return (value, np.full_like(value, np.nan)), new

    return _leaf_by_leaf(problem, one, 2)


def two_step(problem: Problem, point: np.ndarray, chunk: int | None) -> Differences:
    """Centred differences from two steps per component, with error bars."""

    def one(number: int, n: int):
        leaf = problem.theta.leaves[number]
        h = STEP * component_scale(point[leaf.start : leaf.stop], LEAST_SCALE)
        steps = np.array([RATIO, -RATIO, 1.0, -1.0])[:, None] * h
        out, new = samples(problem, point, number, steps, chunk)
        size = np.abs(out[2:]).max(axis=0)
        return two_steps((out[0], out[1]), (out[2], out[3]), h[:, None], RATIO, size, problem.unit), new

    return _leaf_by_leaf(problem, one, 4)


def _leaf_by_leaf(problem: Problem, one: Callable, each: int) -> Differences:
    """The leaves in turn; what comes after a stop is NaN."""
    leaves, compiled, taken, left_out, clock = [], 0, 0, [], budget.current()
    for number, leaf in enumerate(problem.theta.leaves):
        n, new = leaf.stop - leaf.start, 0
        found = (np.full((n, problem.columns), np.nan),) * 2
        if n and not clock.stopped:
            with budget.until_stopped():
                found, new = one(number, n)
        missing = np.cumprod(np.isnan(found[0][::-1]).all(axis=1)).sum() if clock.stopped else 0
        compiled, taken = compiled + new, taken + each * (n - int(missing))
        left_out.append(int(missing))
        leaves.append(found)
    return Differences(tuple(leaves), taken, compiled, tuple(left_out))


def as_probes(value: np.ndarray, error: np.ndarray) -> Probes:
    """Two-step differences as probes: no one-sided slopes, so a kink shows as a wide bar."""
    nan, none = np.full_like(value, np.nan), 0 * np.abs(value)
    sides = dict.fromkeys(("left", "left_error", "right", "right_error"), nan)
    known = dataclasses.replace(exact(value, error), quotients=value[..., None], noise=none, span=none, **sides)
    return Probes(known, indices=np.arange(len(value)))
