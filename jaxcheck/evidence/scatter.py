"""M and A of a large problem at its point, with their scatter beside it, in no array of more than a few times P."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence import blocks
from jaxcheck.evidence.witnesses import nearby, on_host, signs
from jaxcheck.problem import repeat
from jaxcheck.problem.at_theta import gradient_of
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.repeat import differ
from jaxcheck.program.run.compile import execute


def gradients(problem: Problem, point: np.ndarray, seed: int):
    """M and A at the point, and their scatter beside it.

    Returns:
        (one entry for each of M and A: (gradient (G, P), scatter (G, P), whether a second run gave the same, but for
        the order of sums) or None; programs compiled).

    Raises:
        Stopped: before both were there.
    """
    traced = problem.derivatives
    moves = np.concatenate([np.zeros((1, point.size), np.int8), signs(seed, point.size)])
    alone = problem.layout is not None or any(blocks.long(t.program, 4) for t in traced)
    with jax.enable_x64(True):
        found, compiled = (_one_by_one if alone else _together)(problem, traced, point, moves)
    m, a = problem.of_each(found)
    if m is None and problem.host_manual is not None:
        stack = on_host(problem.host_manual, nearby(point, seed, problem.unit), ("gradient", problem.theta.values))
        with np.errstate(all="ignore"):
            m = (stack[0], np.abs(stack[2:] - stack[0]).max(axis=0), not differ(stack[0], stack[1], problem.unit))
    return m, a, compiled


def _together(problem: Problem, traced, point, moves):
    def build(programs, point, moves, extras, unit):
        def witness(t, p):
            # The gradient stands in the loop alone: a large one takes a compiler long, and twice as long twice.
            def turn(carried, turn_and_sign):
                number, sign = turn_and_sign
                return _one_more(problem, t, p, point, sign, extras, unit, number, carried), None

            in_turn = jnp.concatenate([moves[:1], moves])
            blank = jnp.zeros((problem.columns, problem.theta.size))
            return jax.lax.scan(turn, (blank, blank, jnp.bool_(True)), (jnp.arange(len(in_turn)), in_turn))[0]

        return [witness(t, p) for t, p in zip(traced, programs, strict=True)]

    found, compiled = execute(
        ("gradients", problem.columns, tuple(problem.theta.leaves)),
        build,
        [t.program for t in traced],
        point,
        moves,
        tuple(problem.extras),
        problem.unit,
        work=4 * problem.cost,
    )
    return [(np.asarray(g), np.asarray(spread), bool(same)) for g, spread, same in found], compiled


def _one_more(problem, t, p, point, sign, extras, unit, number, carried):
    """(the gradient, its scatter so far, whether the second run gave the same) after run `number`, in JAX."""
    known, spread, same = carried
    at = jax.tree.map(lambda x, s: x * (1 + 4 * unit * s.astype(x.dtype)), point, sign)
    found = gradient_of(problem, t, p, at, extras)
    first = jax.tree.map(lambda new, old: jnp.where(number == 0, new, old), found, known)
    apart = jax.tree.map(lambda x, y: jnp.abs(x - y), found, first)
    spread = jax.tree.map(lambda x, y: jnp.where(number == 0, 0.0, jnp.maximum(x, y)), spread, apart)
    # As in `repeat.differ`: another order of the sums is no other gradient.
    alike = jax.tree.map(lambda x, y: (x == y) | (jnp.isnan(x) & jnp.isnan(y)), found, first)
    off = _largest(jax.tree.map(lambda x, y: jnp.where(x, 0, y), alike, apart))
    size = _largest(jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), jnp.abs(x), 0), first))
    again = jnp.all(off <= repeat.units_of(problem.unit) * unit * size)
    return first, spread, same & ((number != 1) | again)


def _largest(gradient):
    """(G,) the largest entry of each row of non-negative ones."""
    return functools.reduce(jnp.maximum, [x.max(range(1, x.ndim), initial=0.0) for x in jax.tree.leaves(gradient)])


def _one_by_one(problem: Problem, traced, point, moves):
    """The same, a call for each evaluation: between them the clock is looked at."""
    key, extras, compiled = tuple(problem.theta.leaves), tuple(problem.extras), 0
    out, at, blank = [], problem.place(point), np.zeros((problem.columns, point.size))
    for t in traced:

        def build(programs, point, sign, extras, unit, number, *carried, t=t):
            return _one_more(problem, t, programs[0], point, sign, extras, unit, number, carried)

        found = problem.place(blank), problem.place(blank), np.bool_(True)
        for k, sign in enumerate([moves[0], *moves]):
            found, new = execute(
                ("gradient at", problem.columns, key),
                build,
                [t.program],
                at,
                problem.place(sign),
                extras,
                problem.unit,
                np.int64(k),
                *found,
                work=t.program.cost,
            )
            compiled += new
        gradient, spread, same = found
        out.append((np.asarray(gradient), np.asarray(spread), bool(same)))
    return out, compiled
