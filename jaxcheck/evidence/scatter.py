"""M and A of a large problem at its point, with their scatter beside it, in no array of more than a few times P."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.bars import UNITS
from jaxcheck.evidence import blocks
from jaxcheck.evidence.problem import Problem
from jaxcheck.evidence.repeat import differ
from jaxcheck.evidence.witnesses import gradient_of, nearby, on_host, outputs_of, signs
from jaxcheck.program.run.compile import execute


def gradients(problem: Problem, point: np.ndarray, seed: int):
    """M and A at the point, and their scatter beside it.

    Returns:
        (outputs (G,), one entry for each of M and A: (gradient (G, P), scatter (G, P), whether a second run gave the
        same, but for the order of sums) or None, programs compiled).

    Raises:
        Stopped: before both were there.
    """
    traced = problem.derivatives
    moves = np.concatenate([np.zeros((1, point.size), np.int8), signs(seed, point.size)])
    alone = problem.layout is not None or any(blocks.long(t.program, 4) for t in traced)
    with jax.enable_x64(True):
        outputs, found, compiled = (_one_by_one if alone else _together)(problem, traced, point, moves)
    m, a = problem.of_each(found)
    if m is None and problem.host_manual is not None:
        stack = on_host(problem.host_manual, nearby(point, seed, problem.unit), ("gradient", problem.theta.values))
        with np.errstate(all="ignore"):
            m = (stack[0], np.abs(stack[2:] - stack[0]).max(axis=0), not differ(stack[0], stack[1], problem.unit))
    return outputs, m, a, compiled


def _together(problem: Problem, traced, point, moves):
    def build(programs, point, moves, extras, unit):
        step = 4 * unit
        primal, *rest = programs

        def witness(t, p):
            # The gradient stands in the loop alone: a large one takes a compiler long, and twice as long twice.
            def turn(carried, turn_and_sign):
                known, spread, same = carried
                number, sign = turn_and_sign
                found = gradient_of(problem, t, p, point * (1 + step * sign.astype(point.dtype)), extras)
                first = jnp.where(number == 0, found, known)
                sizes = jnp.where(jnp.isfinite(first), jnp.abs(first), 0)
                # As in `repeat.differ`: another order of the sums is no other gradient.
                near = UNITS * unit * jnp.max(sizes, axis=-1, keepdims=True, initial=0.0)
                alike = (found == first) | (jnp.isnan(found) & jnp.isnan(first))
                again = jnp.all(jnp.where(alike, 0, jnp.abs(found - first)) <= near)
                spread = jnp.where(number == 0, 0.0, jnp.maximum(spread, jnp.abs(found - first)))
                return (first, spread, same & ((number != 1) | again)), None

            blank = jnp.zeros((problem.columns, problem.theta.size))
            start = blank, blank, jnp.bool_(True)
            return jax.lax.scan(turn, start, (jnp.arange(len(moves) + 1), jnp.concatenate([moves[:1], moves])))[0]

        return outputs_of(problem, primal, point, extras), [witness(t, p) for t, p in zip(traced, rest, strict=True)]

    (outputs, found), compiled = execute(
        ("gradients", problem.columns, tuple(problem.theta.leaves)),
        build,
        [problem.loss.program, *(t.program for t in traced)],
        point,
        moves,
        tuple(problem.extras),
        problem.unit,
        work=4 * problem.cost,
    )
    return np.asarray(outputs), [(np.asarray(g), np.asarray(spread), bool(same)) for g, spread, same in found], compiled


def _one_by_one(problem: Problem, traced, point, moves):
    """The same, a call for each evaluation: between them the clock is looked at."""
    key, extras = tuple(problem.theta.leaves), tuple(problem.extras)
    outputs, compiled = execute(
        ("outputs at", problem.columns, key),
        lambda programs, x, extras: outputs_of(problem, programs[0], x, extras),
        [problem.loss.program],
        problem.place(point),
        extras,
        work=problem.cost,
    )
    out, at = [], problem.place(point)
    for t in traced:

        def build(programs, point, sign, extras, step, t=t):
            x = point * (1 + step * sign.astype(point.dtype))
            return gradient_of(problem, t, programs[0], x, extras)

        spread, same = 0.0, True
        for k, sign in enumerate([moves[0], *moves]):
            found, new = execute(
                ("gradient at", problem.columns, key),
                build,
                [t.program],
                at,
                problem.place(sign),
                extras,
                4 * problem.unit,
                work=t.program.cost,
            )
            found, compiled = np.asarray(found), compiled + new
            if not k:
                first = found
            with np.errstate(all="ignore"):
                spread = np.maximum(spread, np.abs(found - first))
            same &= k > 1 or not differ(found, first, problem.unit)
        out.append((first, spread, same))
    return np.asarray(outputs), out, compiled
