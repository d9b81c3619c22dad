"""Rows of a program in several calls, where one call would take long: between them the clock is looked at.

The first call runs one chunk, and is timed; the others run as many as take about a second. All are one compiled
program, whose number of chunks is an argument of it. A chunk that does not fit into memory is halved.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck import budget
from jaxcheck.evidence import rows
from jaxcheck.program.run import kept, spread
from jaxcheck.program.run.compile import Program, execute
from jaxcheck.program.run.memory import Exhausted

# Elements up to which rows are one call: some two seconds of the slowest programs seen.
ONE_CALL = 3e8
# Chunks that one call has room for.
ROOM = 1024
# A row of so many elements, most of them by products of matrices, goes alone: XLA on CPU multiplies one pair of
# matrices with all cores, and a batch of pairs many times slower.
ALONE, MOSTLY = 3e7, 3.0

T = TypeVar("T")


def long(program: Program, count: int) -> bool:
    """Whether so many rows are too many for one call."""
    return program.effort * count > ONE_CALL


def chunk_of(program: Program, count: int) -> int:
    """Rows per chunk, where they are `long`: of about a second at most."""
    if program.effort > ALONE and program.effort > MOSTLY * program.cost:
        return 1
    return max(1, min(rows.chunk_of(program, count), int(ONE_CALL / max(program.effort, 1.0))))


def within_memory(chunk: int, run: Callable[[int], T]) -> T:
    """`run(chunk)`, with half the chunk for as long as the memory does not suffice.

    Raises:
        Exhausted: one row at a time takes more than there is.
    """
    while True:
        try:
            return run(chunk)
        except MemoryError as error:
            if chunk == 1:
                raise Exhausted(f"not even one row at a time fits into memory ({error})") from error
        budget.current().ask()
        chunk = max(1, chunk // 2)


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """Rows in `turns` turns of `chunk` rows on each lane, `room` turns in one call at most."""

    total: int
    chunk: int
    turns: int
    room: int
    shares: spread.Shares

    @staticmethod
    def of(programs: Sequence[Program], total: int, chunk: int, given: tuple) -> _Rows:
        shares = spread.shares(programs, sum(p.effort for p in programs) * total, *given)
        chunk = min(chunk, -(-total // shares.width))
        turns = -(-total // (chunk * shares.width))
        return _Rows(total, chunk, turns, min(turns, ROOM), shares)

    def number(self, pace: float, left: int) -> int:
        """Turns of the next call, by the seconds that one takes; one where that is not known yet."""
        clock = budget.current()
        return min(left, self.room, max(1, int(min(clock.block, clock.left) / pace))) if pace else 1


def _program(make: Callable, plan: _Rows) -> Callable:
    """What one call runs."""

    def build(calls, args, theta, directions, offsets, begin, number):
        f, steps = make(calls, args), len(offsets)

        def row(index):
            index = jnp.minimum(index, plan.total - 1)
            return f(theta + offsets[index % steps] * directions[index // steps])

        def block(at):
            return jax.vmap(row)(at * plan.chunk + jnp.arange(plan.chunk)) if plan.chunk > 1 else row(at)[None]

        like = jax.eval_shape(block, begin[0])
        return jax.lax.fori_loop(
            0,
            number,
            lambda i, out: out.at[i].set(block(begin[0] + i * plan.shares.width)),
            jnp.zeros((plan.room, *like.shape), like.dtype),
        )

    return build


def sample(
    name: Any,
    make: Callable,
    programs: Sequence[Program],
    args: Any,
    theta: Any,
    directions: Any,
    offsets: Any,
    chunk: int,
    first: int | None = None,
) -> tuple[np.ndarray, int]:
    """`rows.sample` of `make(calls, args)`, a function of theta, in several calls.

    Args:
        programs: what `make` calls for one row, with what `args` hold besides.
        first: directions that are needed; what follows them may be left out when time is short. None: all are, and
            what stops the check is raised.

    Returns:
        ((T, D, G), programs compiled); with `first` perhaps of fewer directions.
    """
    steps, given = len(offsets), (args, theta, directions)
    plan = _Rows.of(programs, len(directions) * steps, chunk, given)
    needed, compiled = None if first is None else first * steps, 0

    def run() -> list[np.ndarray]:
        nonlocal compiled
        parts: list[np.ndarray] = []
        with budget.cut_short():
            for found, new in _turns(name, _program(make, plan), programs, plan, (*given, offsets), needed):
                parts += found
                compiled += new
        return parts

    shares = plan.shares
    parts = shares.joined(f"rows of {plan.total}, {plan.chunk} at a time", run)
    if first is None and len(parts) < plan.turns * shares.processes:
        raise budget.Stopped(budget.current().stopped)
    if not parts:
        return np.zeros((steps, 0, 1)), compiled
    flat = np.concatenate(parts).reshape(len(parts) * shares.lanes * plan.chunk, -1)
    whole = min(len(flat), plan.total) // steps
    return np.swapaxes(flat[: whole * steps].reshape(whole, steps, -1), 0, 1), compiled


def _turns(
    name: Any, build: Callable, programs: Sequence[Program], plan: _Rows, given: tuple, needed: int | None
) -> Iterator[tuple[list[np.ndarray], int]]:
    """(blocks of some turns, (lanes, chunk, G) each; programs compiled for them), call by call.

    Args:
        given: what the program is given beside the turns.
        needed: rows after which time may be short.
    """
    clock, shares, pace, done = budget.current(), plan.shares, 0.0, 0
    key = (name, "blocks", plan.chunk, plan.room, plan.total, shares.width)
    shelf = kept.shelf(key, programs, given)
    # Once on the device: a call for every second of work would copy NumPy's again each time.
    arrays = jax.device_put(spread.everywhere(given, shares.mesh))
    while done < plan.turns:
        found_rows = done * shares.width * plan.chunk
        earlier = shelf.take(done) if shelf is not None else None
        if earlier is not None:
            clock.ask()
            found, new, pace = list(earlier.value), 0, earlier.seconds / len(earlier.value)
        else:
            number = plan.number(pace, plan.turns - done)
            clock.ask(
                seconds=pace * number, part=budget.DIRECTIONS if needed is not None and found_rows >= needed else 1.0
            )
            clock.tell("rows", found_rows, plan.total)
            before = clock.run_seconds
            begin = (done * shares.processes + shares.process) * shares.lanes + np.arange(shares.lanes)
            out, new = execute(
                key,
                build,
                programs,
                *arrays,
                begin,
                np.int64(number),
                part=number / plan.turns,
                work=sum(p.cost for p in programs) * plan.total,
                over=shares.mesh,
                split=(4,),
            )
            out = np.asarray(out).reshape(shares.lanes, plan.room, plan.chunk, -1)[:, :number]
            found = list(np.swapaxes(out, 0, 1))
            if shelf is not None:
                shelf.put(np.stack(found), clock.run_seconds - before)
            pace = (clock.run_seconds - before) / number
        clock.row_seconds = pace / (plan.chunk * shares.lanes)
        done += len(found)
        yield found, new


def sample_host(
    f: Callable,
    theta: np.ndarray,
    directions: np.ndarray,
    offsets: np.ndarray,
    first: int | None = None,
    of: Any = None,
) -> np.ndarray:
    """`rows.sample` for a function that JAX cannot trace: row by row, in Python. See `sample` for `first`.

    Args:
        of: what `f` depends on besides, by its content.
    """
    clock, out, total = budget.current(), [], len(directions) * len(offsets)

    def along(number: int) -> np.ndarray:
        part = budget.DIRECTIONS if first is not None and number >= first else 1.0
        found = []
        for k, t in enumerate(offsets):
            clock.ask(seconds=clock.row_seconds if clock.row_seconds > 0 else 0.0, part=part)
            clock.tell("rows", number * len(offsets) + k, total)
            start = time.perf_counter()
            found.append(f(theta + t * directions[number]))
            clock.row_seconds = time.perf_counter() - start
        return np.asarray(found, np.float64)

    shelf = kept.shelf(("rows of Python's", of), [], (theta, directions, offsets))
    with contextlib.nullcontext() if first is None else budget.cut_short():
        for found in kept.in_turn(shelf, len(directions), along):
            out.append(found)  # one by one: what is known when it ends early is kept
    if not out:
        return np.zeros((len(offsets), 0, 1))
    return np.swapaxes(np.asarray(out, np.float64).reshape(len(out), len(offsets), -1), 0, 1)
