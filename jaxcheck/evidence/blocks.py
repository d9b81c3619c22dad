"""Rows of a program in several calls, where one call would take long: between them the clock is looked at.

The first call runs one chunk, and is timed; the others run as many as take about a second. All are one compiled
program, whose number of chunks is an argument of it. A chunk that does not fit into memory is halved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck import budget
from jaxcheck.evidence import rows
from jaxcheck.program import kept, spread
from jaxcheck.program.compile import Program, execute
from jaxcheck.program.memory import Exhausted

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


def sample(name: Any, make: Callable, programs: Sequence[Program], args: Any, theta: Any, directions: Any, offsets: Any,
           chunk: int, first: int | None = None) -> tuple[np.ndarray, int]:
    """`rows.sample` of `make(calls, args)`, a function of theta, in several calls.

    Args:
        programs: what `make` calls for one row, with what `args` hold besides.
        first: directions that are needed; what follows them may be left out when time is short. None: all are, and
            what stops the check is raised.

    Returns:
        ((T, D, G), programs compiled); with `first` perhaps of fewer directions.
    """
    steps = len(offsets)
    total = len(directions) * steps
    work = sum(p.cost for p in programs) * total
    shares = spread.shares(programs, sum(p.effort for p in programs) * total, args, theta, directions)
    lanes, width, over = shares.lanes, shares.width, shares.mesh
    chunk = min(chunk, -(-total // width))
    turns = -(-total // (chunk * width))
    room = min(turns, ROOM)

    def build(calls, args, theta, directions, offsets, begin, number):
        f = make(calls, args)

        def row(index):
            index = jnp.minimum(index, total - 1)
            return f(theta + offsets[index % steps] * directions[index // steps])

        def block(at):
            return jax.vmap(row)(at * chunk + jnp.arange(chunk)) if chunk > 1 else row(at)[None]

        like = jax.eval_shape(block, begin[0])
        return jax.lax.fori_loop(0, number, lambda i, out: out.at[i].set(block(begin[0] + i * width)),
                                 jnp.zeros((room, *like.shape), like.dtype))

    compiled, clock = 0, budget.current()

    def run() -> list[np.ndarray]:
        """The blocks of each turn, (lanes, chunk, G)."""
        nonlocal compiled
        parts, pace = [], 0.0
        key = (name, "blocks", chunk, room, total, width)
        shelf = kept.shelf(key, programs, (args, theta, directions, offsets))
        given, *arrays = spread.everywhere((args, theta, directions, offsets), over)
        try:
            while len(parts) < turns:
                done = len(parts) * width * chunk
                earlier = shelf.take(len(parts)) if shelf is not None else None
                if earlier is not None:
                    clock.ask()
                    parts += list(earlier.value)
                    pace = earlier.seconds / len(earlier.value)
                    clock.row_seconds = pace / (chunk * lanes)
                    continue
                part = budget.DIRECTIONS if first is not None and done >= first * steps else 1.0
                number = min(turns - len(parts), room, max(1, int(min(clock.block, clock.left) / pace))) if pace else 1
                clock.ask(seconds=pace * number, part=part)
                clock.tell("rows", done, total)
                before = clock.run_seconds
                begin = (len(parts) * shares.processes + shares.process) * lanes + np.arange(lanes)
                out, new = execute(key, build, programs, given, *arrays, begin, np.int64(number), work=work,
                                   part=number / turns, over=over, split=(4,))
                found = np.swapaxes(np.asarray(out).reshape(lanes, room, chunk, -1)[:, :number], 0, 1)
                parts += list(found)
                if shelf is not None:
                    shelf.put(found, clock.run_seconds - before)
                pace = (clock.run_seconds - before) / number
                clock.row_seconds, compiled = pace / (chunk * lanes), compiled + new
        except (budget.Stopped, KeyboardInterrupt) as why:
            if isinstance(why, KeyboardInterrupt):
                clock.pressed()
        return parts

    parts = shares.joined(f"rows of {total}, {chunk} at a time", run)
    if first is None and len(parts) < turns * shares.processes:
        raise budget.Stopped(clock.stopped)
    if not parts:
        return np.zeros((steps, 0, 1)), compiled
    flat = np.concatenate(parts).reshape(len(parts) * lanes * chunk, -1)
    whole = min(len(flat), total) // steps
    return np.swapaxes(flat[: whole * steps].reshape(whole, steps, -1), 0, 1), compiled


def sample_host(f: Callable, theta: np.ndarray, directions: np.ndarray, offsets: np.ndarray,
                first: int | None = None, of: Any = None) -> np.ndarray:
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
    try:
        for found in kept.in_turn(shelf, len(directions), along):
            out.append(found)  # one by one: what is known when it ends early is kept
    except (budget.Stopped, KeyboardInterrupt) as why:
        if first is None:
            raise
        if isinstance(why, KeyboardInterrupt):
            clock.pressed()
    if not out:
        return np.zeros((len(offsets), 0, 1))
    return np.swapaxes(np.asarray(out, np.float64).reshape(len(out), len(offsets), -1), 0, 1)


