"""Cases in several processes: `jaxcheck run --processes N`. What is shown is in the order of one process.

The workers are started anew (spawn), for JAX does not bear a fork, and load the files themselves.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from jaxcheck import session
from jaxcheck.faces import cases
from jaxcheck.faces.cases import File, Found, Outcome
from jaxcheck.faces.cli_options import on_device


def run(
    wanted: list[File], keyword: str, resume: str | None, count: int, device: str | None
) -> Generator[Found, None, None]:
    """What `cases.run` gives, each started in one of `count` processes. Closed early, it ends what still runs.

    Raises:
        KeyboardInterrupt: at the end, where Ctrl-C was pressed meanwhile: what was under way then was waited for.
    """
    found = list(cases.run(wanted, keyword, resume))
    others = multiprocessing.active_children()
    pool = _pool(count)
    interrupted: list[bool] = []
    tasks = [(one.name, one.file, one.position, resume, device) for one in found]
    futures = [_submitted(pool, task) if one.position >= 0 else None for one, task in zip(found, tasks, strict=True)]

    def wait(future: Future[Outcome | None], task: tuple[Any, ...]) -> Outcome | None:
        try:
            return future.result()
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted.append(True)
            for other in futures:
                if other is not None and other is not future:
                    other.cancel()
            return future.result()
        except BrokenProcessPool:
            return _alone(task)

    with _ended(pool, futures, others):
        for one, future, task in zip(found, futures, tasks, strict=True):
            if future is None:
                yield one
            elif interrupted:  # those that had not begun have nothing to say
                known = None if future.cancelled() else wait(future, task)
                if known is not None:
                    yield one._replace(start=lambda known=known: known)
            else:
                yield one._replace(
                    start=lambda one=one, future=future, task=task: (
                        wait(future, task) or Outcome(one.name, error="KeyboardInterrupt: not begun")
                    )
                )
        if interrupted:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _ended(
    pool: ProcessPoolExecutor, futures: Sequence[Future[Outcome | None] | None], others: Sequence[Any]
) -> Iterator[None]:
    """The pool's processes are ended when this is left, those at work at once; `others` are not its own."""
    try:
        yield
    finally:
        if not all(future is None or future.done() for future in futures):
            for child in multiprocessing.active_children():
                if child not in others:
                    child.terminate()
        pool.shutdown(cancel_futures=True)


def _pool(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin)


def _submitted(pool: ProcessPoolExecutor, task: tuple[Any, ...]) -> Future[Outcome | None]:
    try:
        return pool.submit(_work, *task)
    except BrokenProcessPool as error:  # by a case before this one
        failed: Future[Outcome | None] = Future()
        failed.set_exception(error)
        return failed


def _alone(task: tuple[Any, ...]) -> Outcome | None:
    """A case that was under way, or waiting, when a worker was ended from outside: in a process of its own, so that it
    is seen whose fault that was."""
    with _pool(1) as pool:
        try:
            return pool.submit(_work, *task).result()
        except BrokenProcessPool as error:
            return Outcome(
                task[0],
                error="BrokenProcessPool: the process that ran it was ended from outside, or by a "
                "crash: for want of memory, say",
                trace=f"{error}\n",
            )


# Of a worker: the file it has loaded, and what unloads it.
_open: dict[File, tuple[Any, contextlib.ExitStack]] = {}
# And that Ctrl-C was pressed: what waits in its queue is not begun.
_pressed: list[bool] = []


def _begin() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _between_cases()
    session.defaults["progress"] = False  # lines of several processes would draw over each other
    atexit.register(_unload)


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever, and keep its file and the reader's pipe. What is
    stored bears an end at any moment."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _between_cases() -> None:
    signal.signal(signal.SIGINT, lambda *_: _pressed.append(True))


def _work(name: str, file: File, position: int, resume: str | None, device: str | None) -> Outcome | None:
    if _pressed:
        return None
    printed = io.StringIO()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), on_device(device):
            done = _done(name, file, position, resume)
    except KeyboardInterrupt as error:
        _pressed.append(True)
        done = Outcome.raised(name, error)
    finally:
        _between_cases()
    if done.report is not None and done.report.cost.stopped == "user":
        _pressed.append(True)
    return Outcome(done.name, done.report, done.error, done.trace, printed.getvalue())


def _unload() -> None:
    while _open:
        _open.popitem()[1][1].close()


def _done(name: str, file: File, position: int, resume: str | None) -> Outcome:
    if file not in _open:
        _unload()
        undo = contextlib.ExitStack()
        _open[file] = undo.enter_context(cases.loaded(file)), undo
    (found, error), _ = _open[file]
    if error is not None:
        return Outcome.raised(name, error)
    info, function = found[position]
    earlier = sum(other.name == info.name for other, _ in found[:position])
    return cases.outcome(name, file, cases.Case(info, function, earlier), resume)
