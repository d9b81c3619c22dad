"""One check in several processes, after `jax.distributed.initialize()`: each takes its share of the rows.

Every process makes the same call and goes the same way through it. Where rows take long each computes every n-th part
of them, and then they exchange what they have; the rest each does for itself. The report is the first one's where they
exchanged anything; where nothing took long each has checked by itself what it was given, and returns its own report.
One check at a time: those of several threads would not exchange in the same order everywhere.
"""

from __future__ import annotations

import contextlib
import contextvars
import pickle
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxcheck import budget
from jaxcheck.program.run.meeting import REPORT, Gone, Lost, Session, can_talk

_CURRENT: contextvars.ContextVar[Session | None] = contextvars.ContextVar("jaxcheck_hosts", default=None)


@contextlib.contextmanager
def taking_part(*trees: Any, alone: bool = False) -> Iterator[None]:
    """A check in which all processes take part, if there are several.

    Args:
        trees: what it is given: the same in every process.
        alone: this process makes it by itself.
    """
    if alone or jax.process_count() == 1 or not can_talk():
        yield
        return
    session = Session(_fingerprint(trees))
    token = _CURRENT.set(session)
    with contextlib.ExitStack() as leaving:
        leaving.callback(_CURRENT.reset, token)
        leaving.push(lambda _, error, __: _end(session, error))
        yield


def _end(session: Session, error: BaseException | None) -> None:
    """Tell the others that this process is done, and with what exception."""
    said = "" if error is None else str(error) if isinstance(error, Lost) else f"{type(error).__name__}: {error}"
    with contextlib.suppress(Lost):
        session.say("end", error=said[:500])


def _fingerprint(trees: Any) -> int:
    """Of the arrays in trees, as far as this process holds them."""
    found = 0
    for x in jax.tree_util.tree_leaves(trees):
        key = jax.dtypes.issubdtype(getattr(x, "dtype", np.float64), jax.dtypes.prng_key)
        if isinstance(x, (jax.Array, np.ndarray, np.generic, int, float, complex)) and not key:
            held = np.asarray(x)
            found = zlib.crc32(f"{held.dtype}{held.shape}".encode(), found)
            if not held.dtype.hasobject:
                found = zlib.crc32(np.ascontiguousarray(held).reshape(-1).view(np.uint8).data, found)
    return found


def share() -> tuple[int, int]:
    """(this process's number, how many there are) in the check that is under way."""
    session = _CURRENT.get()
    return (0, 1) if session is None else (session.index, session.count)


def watch(progress: Any) -> Any:
    """`progress` where this process is the one that speaks; elsewhere nobody is told, unless it is no option at all."""
    told = progress is None or progress is True or callable(progress)
    return False if told and jax.process_index() else progress


def least(name: str, value: int) -> int:
    """The least that any process says."""
    session = _CURRENT.get()
    if session is None:
        return value
    with _ended_elsewhere():
        return min(x["value"] for x in session.exchange(f"least {name}", value=value))


def together(name: str, work: Callable[[], Any]) -> list[Any]:
    """`work()` of every process, in their order; where one was stopped, all are.

    Raises:
        MemoryError: where any process raised that.
        Stopped: another process was stopped before it came here.
        Lost: another process died, failed, or makes another call.
    """
    session = _CURRENT.get()
    if session is None:
        return [work()]
    clock, value, missing = budget.current(), None, ""
    try:
        value = work()
    except MemoryError as error:
        missing = str(error) or "out of memory"
    data = pickle.dumps(value, protocol=5)
    with _ended_elsewhere():
        said = session.exchange(name, size=len(data), stopped=clock.stopped, why=clock.said, missing=missing)
    for one in said:
        if one["missing"]:
            raise MemoryError(one["missing"])
        if one["stopped"] and not clock.stopped:
            clock.stopped, clock.said = one["stopped"], one["why"]
    return [pickle.loads(x) for x in session.gathered(data, [x["size"] for x in said])]


@contextlib.contextmanager
def _ended_elsewhere() -> Iterator[None]:
    """Where another process was stopped, by its own clock or by Ctrl-C, this one is as well."""
    try:
        yield
    except Gone as error:
        budget.current().stop(f"process {error} was stopped")


def same(report: Any) -> Any:
    """The report of the first process, in all of them; their own where they exchanged nothing."""
    session = _CURRENT.get()
    if session is None or (session.lost is None and not session.turn):
        return report
    data = pickle.dumps(report, protocol=5) if session.index == 0 else b""
    try:
        said = session.meet(REPORT, size=len(data))
    except Gone:
        return report
    return pickle.loads(session.gathered(data, [x["size"] for x in said])[0])


@contextlib.contextmanager
def by_itself() -> Iterator[None]:
    """What is done inside each process does for itself."""
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)
