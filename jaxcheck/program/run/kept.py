"""Chunks of rows that an earlier run has measured: found by what is computed, never by when or in what order.

The key of a chunk is the content of everything that goes into it: the programs with their constants, the inputs, and
the name of what is done with them. So what was measured of another program or point is not found, whatever happens.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck import budget
from jaxcheck.program.mode import is_wide
from jaxcheck.program.run import portable
from jaxcheck.store import Chunk, Store, digest

# Rows of Python's are stored together, as many as take so many seconds.
SPAN = 0.5


class Shelf:
    """The chunks of one computation, each at its place: the number of its first row, say."""

    def __init__(self, store: Store, what: str, key: bytes):
        self._store, self._what, self._key = store, what, key
        self._at, self._turn = 0, b""

    def take(self, at: int = 0) -> Chunk | None:
        """What an earlier run has measured there, or None; then it is this run's to `put`."""
        self._at, self._turn = at, self._store.turn(digest(self._key, str(at).encode()))
        return self._store.get(self._turn)

    def put(self, value: Any, seconds: float) -> None:
        """Store what was measured at the place last asked for; whole when this returns."""
        self._store.put(self._turn, f"{self._what} at {self._at}", Chunk(value, seconds))


class Kept:
    """The file of a check, and the digests of arrays, each made once: of NumPy's, which may be written into, only of
    those that nobody else has."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[int, tuple[Any, bytes]] = {}

    def trust(self, arrays: Any) -> None:
        """Remember the digests of the arrays of a tree, and keep them alive: nobody writes into them."""
        for x in jax.tree_util.tree_leaves(arrays):
            if isinstance(x, np.ndarray) and id(x) not in self._known:
                self._known[id(x)] = (lambda x=x: x), portable.digest(x)

    def of(self, x: Any) -> bytes:
        known = self._known.get(id(x))
        if known is not None and known[0]() is x:
            return known[1]
        if isinstance(x, jax.Array) and len(x.devices()) > 1:  # read where it lies, never gathered
            found = portable.digest(
                x.shape, [(part.index, part.data) for part in x.addressable_shards if part.replica_id == 0]
            )
        else:
            found = portable.digest(x)
        if isinstance(x, jax.Array):
            self._known[id(x)] = weakref.ref(x), found
        return found


def problem() -> str:
    """Of which problem the file in force is; "" without one. What is a part of that need not be read once more."""
    kept = budget.current().kept
    return "" if kept is None else kept.store.problem


def shelf(name: Any, programs: Sequence[Any], args: Any) -> Shelf | None:
    """The shelf of a computation; None where nothing is to be kept.

    Args:
        name: what is done, hashable, of plain values.
        programs: `compile.Program`s; args: a tree of what goes into them, arrays and numbers.
    """
    kept = budget.current().kept
    if kept is None:
        return None
    for program in programs:
        kept.trust(list(program.closed.consts))
    leaves, tree = jax.tree_util.tree_flatten(args)
    key = digest(portable.digest(name, str(tree), is_wide(), [p.portable for p in programs]), *map(kept.of, leaves))
    while isinstance(name, tuple):
        name = name[0]
    return Shelf(kept.store, str(name), key)


def once(shelf: Shelf | None, at: int, measure: Callable[[], Any]) -> Any:
    """What `measure()` gives, or what an earlier run has measured at that place."""
    clock = budget.current()
    earlier = shelf.take(at) if shelf is not None else None
    if earlier is not None:
        clock.ask()
        return earlier.value
    before = clock.run_seconds
    found = measure()
    if shelf is not None:
        shelf.put(found, clock.run_seconds - before)
    return found


def in_turn(shelf: Shelf | None, count: int, one: Callable[[int], np.ndarray]) -> Iterator[np.ndarray]:
    """`one(i)` for each i below `count`, all of one shape; those that an earlier run has measured are taken from it."""
    done = 0
    while done < count:
        earlier = shelf.take(done) if shelf is not None else None
        if earlier is not None:
            budget.current().ask()
            yield from earlier.value
            done += len(earlier.value)
            continue
        group, start = [], time.perf_counter()
        try:
            while done < count and (not group or time.perf_counter() - start < SPAN):
                group.append(one(done))
                yield group[-1]
                done += 1
        finally:
            if shelf is not None and group:
                shelf.put(np.stack(group), time.perf_counter() - start)
