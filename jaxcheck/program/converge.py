"""The same program with its iterative loops run on to their limit.

A loop that stops at a tolerance gives something between the start and the limit, and its derivative as stopped
differs from the limit's by its stopping error. Here such a loop goes on after its condition turned false, until
what it carries no longer changes beyond rounding, so that the stopping error is seen and not guessed. A loop that
only counts is left alone: its number of iterations is part of what it computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxcheck.program import interpret, jaxpr
from jaxcheck.program.conditions import capped, only_scales, sources
from jaxcheck.program.custom import rules
from jaxcheck.program.draws import draws
from jaxcheck.program.foreign import without_foreign
from jaxcheck.program.run.compile import Program


class Patience(NamedTuple):
    """How many more iterations a loop gets that does not come to rest: a multiple of those it took, and a number."""

    times: int
    more: int


# A loop that gains a digit in n iterations and was stopped after three needs some 4 n more; a stop after the first
# steps of a slow one is what the constant is for. SHORT tells whether LONG was long enough.
LONG, SHORT = Patience(8, 64), Patience(2, 16)
# Units in the last place of the largest value met, and how often in a row: rest.
REST, QUIET = 4.0, 3
# Near the limit, a change this many times the smallest one is no progress: 0/0 in a method that ran past its end.
JUMP = 1e3
# What approaches a limit moves at most this much of what it moved when the loop stopped.
SLOWER = 0.5


class RunOn(jaxpr.OfArrays):
    """The way."""

    def __init__(self, patience: Patience, unread: frozenset[Any] = frozenset()):
        super().__init__()
        self._patience, self._unread = patience, unread

    def whole(self, eqn: Any, operands: list[Any]) -> bool:
        inner = (program for _, program in interpret.sub_jaxprs(eqn.params))
        return stops_at_tolerance(eqn, self._unread) or not any(_any_stops(p, self._unread) for p in inner)

    def equation(self, eqn: Any, operands: list[Any], state: None) -> tuple[Sequence[Any], None]:
        if stops_at_tolerance(eqn, self._unread):
            return self._loop(eqn, operands), state
        return interpret.bind(eqn, operands), state

    def _loop(self, eqn: Any, operands: list[Any]) -> list[Any]:
        a, b = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        condition, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
        asked, fixed = operands[:a], operands[a : a + b]
        init = [jaxpr.array(x, v.aval) for x, v in zip(operands[a + b :], eqn.outvars, strict=True)]
        # Under vmap the condition has one answer per row, and rows that are done stand still.
        rank = len(interpret.opened(condition).outvars[0].aval.shape)

        def going_on(values: list[Any]) -> Any:
            return jaxpr_as_fun(condition)(*asked, *values)[0]

        def body_with(fixed: list[Any]) -> Any:
            def once(values: list[Any]) -> list[Any]:
                out = jaxpr.run(self, body, [*fixed, *values], None)[0]
                return [jaxpr.array(x, v.aval) for x, v in zip(out, eqn.outvars, strict=True)]

            return once

        once = body_with(fixed)
        stopped, count = lax.while_loop(
            lambda c: jnp.any(going_on(c[0])), lambda c: (_chosen(going_on(c[0]), once(c[0]), c[0]), c[1] + 1),
            (init, np.int32(0)))  # fmt: skip
        start = stopped
        known = {v for i, v in enumerate(eqn.invars[:a]) if i in _tolerances(condition)}
        if any(v in known for v in eqn.invars[a : a + b] if not interpret.is_literal(v)):
            # The body looks at the tolerance too (a last step that is half of one): once more, with none.
            once = body_with(
                [
                    jnp.zeros_like(x) if not interpret.is_literal(v) and v in known else x
                    for x, v in zip(fixed, eqn.invars[a : a + b], strict=True)
                ]
            )
            start = lax.fori_loop(0, count, lambda i, values: once(values), init)
        seen = _seen(eqn, self._unread)
        scale = [jnp.maximum(_largest(init[i], rank), _largest(stopped[i], rank)) for i in seen]
        limit = self._patience.times * count + self._patience.more
        found, approached = _to_rest(once, start, seen, _deciding(eqn), scale, rank, limit)
        # Whether it has succeeded, and after how many turns, is what it was when the loop stopped.
        found = [x if _inexact(x) else y for x, y in zip(found, stopped, strict=True)]
        return _chosen(approached & jnp.logical_not(capped(condition, asked, stopped)), found, stopped)


def _to_rest(once: Any, start: list[Any], seen: Sequence[int], deciding: Sequence[int], scale: list[Any], rank: int,
             limit: Any) -> tuple[list[Any], Any]:  # fmt: skip
    """(What the loop carries once the values at `seen` rest, or just before it leaves the rails; whether it approaches
    a limit: every value at `deciding`, by which its end is decided, comes to rest, as a time does not), per row."""
    shape = start[seen[0]].shape[:rank]
    # One end of a bracket may stand still while the other closes in on it.
    beside = [i for i in deciding if i not in seen]
    near = max(float(jnp.finfo(start[i].dtype).eps) for i in seen) ** 0.5

    def moved(new: list[Any], old: list[Any]) -> Any:
        return jnp.stack([_largest(new[i] - old[i], rank) for i in deciding])

    def step(carried: Any) -> Any:
        values, scale, least, quiet, done, turn, moves = carried
        new = once(values)
        sound = jnp.ones(shape, bool)
        for x, y in zip(values, new, strict=True):
            if _inexact(x):
                sound &= jnp.all(jnp.isfinite(y) | ~jnp.isfinite(x), axis=tuple(range(rank, x.ndim)))
        scale = [jnp.maximum(s, _largest(new[i], rank)) for i, s in zip(seen, scale, strict=True)]
        widest = jnp.max(jnp.stack(scale), axis=0)
        sizes = {i: jnp.maximum(_largest(new[i], rank), widest) for i in beside} | dict(zip(seen, scale, strict=True))
        change, ulps = _change(values, new, sizes, rank)
        sound &= ~((least < near) & (change > JUMP * jnp.maximum(least, near**2)))
        quiet = jnp.where(ulps <= REST, quiet + 1, 0)
        accepted = sound & ~done
        moves = jnp.where(accepted, jnp.stack([now := moved(new, values), moves[0], jnp.maximum(now, moves[2])]), moves)
        values = _chosen(accepted, new, values)
        return values, scale, jnp.minimum(least, change), quiet, done | ~sound | (quiet >= QUIET), turn + 1, moves

    first = moved(once(start), start)
    carried = (start, scale, jnp.full(shape, jnp.inf, first.dtype), jnp.zeros(shape, np.int32), jnp.zeros(shape, bool),
               np.int32(0), jnp.stack([first] * 3))  # fmt: skip
    values, *_, (last, before, most) = lax.while_loop(lambda c: jnp.any(~c[4]) & (c[5] < limit), step, carried)
    # A step that is halved once nothing can be gained is at rest before and moves after; a time does not slow down.
    fading = (last <= SLOWER * before) & (last <= SLOWER**2 * most)
    size = jnp.stack([jnp.maximum(_largest(start[i], rank), _largest(values[i], rank)) for i in deciding])
    return values, jnp.all((last <= SLOWER * first) | (last <= near * size) | fading, axis=0)


def _change(old: list[Any], new: list[Any], sizes: dict[int, Any], rank: int) -> tuple[Any, Any]:
    """The largest change of the values that have a size here, relative to it, and in units of the last place."""
    change = ulps = jnp.zeros(next(iter(sizes.values())).shape)
    for i, size in sizes.items():
        relative = _largest(new[i] - old[i], rank) / jnp.where(size > 0, size, 1)
        unit = float(jnp.finfo(new[i].dtype).eps)
        change, ulps = jnp.maximum(change, relative), jnp.maximum(ulps, relative / unit)
    return change, ulps


def _chosen(where: Any, new: list[Any], old: list[Any]) -> list[Any]:
    """Row by row the new values or the old ones."""
    return [
        lax.select(jnp.broadcast_to(jaxpr.over_rows(where, x), x.shape), y, x)
        if jnp.ndim(where)
        else lax.select(where, y, x)
        for x, y in zip(old, new, strict=True)
    ]


def _inexact(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, np.inexact)


def _largest(x: Any, rank: int) -> Any:
    """The largest finite size in each row."""
    size = jnp.abs(x)
    size = jnp.where(jnp.isfinite(size), size, 0)
    return jnp.max(size, axis=tuple(range(rank, x.ndim)), initial=0).astype(jnp.zeros(()).dtype)


def stops_at_tolerance(eqn: Any, unread: frozenset[Any] = frozenset()) -> bool:
    """Whether an equation is a loop whose end is decided by floats it carries, and whose floats are read after; not one
    that only scales them."""
    decide = _deciders(eqn, unread)
    outputs = decide | set(_seen(eqn, unread)) if decide else ()
    return bool(decide) and not only_scales(eqn.params["body_jaxpr"], eqn.params["body_nconsts"], outputs)


def _deciders(eqn: Any, unread: frozenset[Any]) -> set[int]:
    """What a loop carries that decides when it ends, if floats do and floats of it are read after; else nothing."""
    if eqn.primitive.name != "while" or not _seen(eqn, unread):
        return set()
    condition, body = interpret.opened(eqn.params["cond_jaxpr"]), interpret.opened(eqn.params["body_jaxpr"])
    if draws(body):  # it rejects, or wanders: no iteration comes closer to anything
        return set()
    a, b = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    decide = {i - a for i in sources(condition, {0}) if i >= a}
    while True:  # what decides, and what that is made from in the iterations before
        more = decide | {i - b for i in sources(body, decide) if i >= b}
        if more == decide:
            break
        decide = more
    return decide if any(rules.is_inexact(eqn.outvars[i].aval) for i in decide) else set()


def _seen(eqn: Any, unread: frozenset[Any]) -> list[int]:
    """The floats that a loop carries and somebody reads afterwards."""
    return [i for i, v in enumerate(eqn.outvars) if rules.is_inexact(v.aval) and v not in unread]


def _unread(program: Any) -> frozenset[Any]:
    """Results of loops, at any depth, that nobody reads."""
    results, read = set(), set()
    for inner in map(interpret.opened, interpret.walk_jaxprs(program)):
        read.update(v for v in inner.outvars if not interpret.is_literal(v))
        for eqn in inner.eqns:
            read.update(v for v in eqn.invars if not interpret.is_literal(v))
            results.update(eqn.outvars if eqn.primitive.name == "while" else ())
    return frozenset(results - read)


def _deciding(eqn: Any) -> list[int]:
    """The floats that a loop's condition looks at, or else those from which it is made in the iterations before."""
    condition, a = interpret.opened(eqn.params["cond_jaxpr"]), eqn.params["cond_nconsts"]
    found = [i - a for i in sources(condition, {0}) if i >= a]
    floats = [i for i in found if rules.is_inexact(eqn.outvars[i].aval)]
    return sorted(floats) or [i for i, v in enumerate(eqn.outvars) if rules.is_inexact(v.aval)]


def _tolerances(condition: Any) -> set[int]:
    """The inputs of a loop's condition that a float must be above for the loop to go on."""
    program = interpret.opened(condition)
    places = {v: i for i, v in enumerate(program.invars) if rules.is_inexact(v.aval)}
    found = set()
    for eqn in program.eqns:
        low = {"gt": 1, "ge": 1, "lt": 0, "le": 0}.get(eqn.primitive.name)
        if low is not None and not interpret.is_literal(eqn.invars[low]) and eqn.invars[low] in places:
            found.add(places[eqn.invars[low]])
    return found


def iterates(program: Any) -> bool:
    """Whether a program holds, at any depth, a loop that stops at a tolerance."""
    program = without_foreign(program)
    return _any_stops(program, _unread(program))


def _any_stops(program: Any, unread: frozenset[Any]) -> bool:
    return any(stops_at_tolerance(eqn, unread) for eqn, _ in interpret.walk(program))


def is_decided_by(program: Any, inputs: Iterable[int]) -> bool:
    """Whether some of a program's inputs reach, at any depth, a loop that stops at a tolerance, so that its number
    of iterations may depend on them."""
    program = interpret.opened(without_foreign(program))
    reached = {program.invars[i] for i in inputs}
    for eqn in program.eqns:
        places = [i for i, v in enumerate(eqn.invars) if not interpret.is_literal(v) and v in reached]
        if not places:
            continue
        inner = jaxpr.nested(eqn)
        if inner is not None and len(interpret.opened(inner).invars) != len(eqn.invars):
            inner = None  # a linear solve: not all that it takes goes into the one program
        if _deciders(eqn, frozenset()) or (inner is not None and is_decided_by(inner, places)):
            return True
        if inner is None and any(_any_stops(p, frozenset()) for _, p in interpret.sub_jaxprs(eqn.params)):
            return True
        reached.update(eqn.outvars)
    return False


def further(traced: Any, patience: Patience = LONG) -> Any:
    """A `Traced` with its program's loops run on; None for None."""
    return None if traced is None else dataclasses.replace(traced, program=run_on(traced.program, patience))


def run_on(program: Program, patience: Patience = LONG) -> Program:
    """The program with its loops run on; itself where it has none that stops at a tolerance.

    Derivatives are not made of the result: make them first, and run their loops on.
    """
    closed = without_foreign(program.closed)
    unread = _unread(closed)
    if not _any_stops(closed, unread):
        return program
    with jax.enable_x64(interpret.has_64_bits(closed)):
        found = jax.make_jaxpr(lambda *args: jaxpr.run(RunOn(patience, unread), closed, args, None)[0])(
            *rules.abstract(interpret.opened(closed).invars)
        )
    return Program(Program.of(found).closed, program.lifted, program.native_islands)
