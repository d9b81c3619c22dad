"""A traceback that ends in the reader's own code: what lies between it and the front door is left out."""

from __future__ import annotations

import contextlib
import dis
import functools
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

_OURS = str(Path(__file__).parent) + "/"
_RAISE = dis.opmap["RAISE_VARARGS"]


class OnError(contextlib.AbstractContextManager):
    """Does something with an exception that comes by. It goes on its way."""

    def __init__(self, do: Callable[[Exception], None]):
        self._do = do

    def __exit__(self, kind: Any, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, Exception):
            self._do(error)


def unseen() -> OnError:
    """Around a `raise`: the frame that it stands in is left out of the traceback."""

    def forget(error: Exception) -> None:
        error.__traceback__ = None

    return OnError(forget)


def note(said: str, but: type[Exception] | tuple[()] = ()) -> OnError:
    """A line below the message of whatever is raised inside, `but` for some, in place of what that came from."""

    def add(error: Exception) -> None:
        if not isinstance(error, but):
            error.add_note(said)
            error.__cause__, error.__suppress_context__ = None, True

    return OnError(add)


def shorten(error: BaseException | None) -> None:
    """Leave the frames of this package and of JAX out of the traceback of `error`, and of what it came from.

    It stays whole where one of our lines failed by accident (that is for us to read), and where JAX's own
    option says so (JAX_TRACEBACK_FILTERING=off).
    """
    seen: list[BaseException] = []
    while error is not None and all(error is not one for one in seen) and not _wanted_whole():
        seen.append(error)
        frames = list(_walk(error.__traceback__))
        if frames and not _by_us(frames[-1], said=False):
            error.__traceback__ = _without(frames, (_OURS, *_jax()))
        error = error.__cause__ or error.__context__


def in_the_call(error: BaseException) -> bool:
    """Whether `error`, as it stands in this package, came up before any line of the reader's was reached, and is no
    sentence of ours."""
    frames = list(_walk(error.__traceback__))
    within = all(tb.tb_frame.f_code.co_filename.startswith((_OURS, *_jax())) for tb in frames)
    return within and not _by_us(frames[-1], said=True)


def of_a_signal(error: BaseException) -> bool:
    """Whether `error`, or what it was made of, was raised by a handler of a signal that is installed now.

    Such a handler runs between any two lines: what it raises (a time limit, say) is meant for whoever installed it,
    and no answer of the function that was running. One that the function installed and took back is its own affair.
    """
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    seen: list[BaseException] = []
    one: BaseException | None = error
    while handlers and one is not None and all(one is not other for other in seen):
        seen.append(one)
        if any(tb.tb_frame.f_code in handlers for tb in _walk(one.__traceback__)):
            return True
        one = one.__cause__
    return False


def _code(handler: Any) -> CodeType | None:
    """What runs first where a handler is called; None where that is no Python."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not callable(handler):
        return None
    if not hasattr(handler, "__code__") and not hasattr(handler, "__func__"):
        handler = type(handler).__call__
    return getattr(getattr(handler, "__func__", handler), "__code__", None)


def _without(frames: list[TracebackType], hidden: tuple[str, ...]) -> TracebackType | None:
    kept = [tb for tb in frames if not tb.tb_frame.f_code.co_filename.startswith(hidden)]
    shortened = None
    for tb in reversed(kept):
        shortened = TracebackType(shortened, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    return shortened


def _walk(tb: TracebackType | None) -> Iterator[TracebackType]:
    while tb is not None:
        yield tb
        tb = tb.tb_next


def _by_us(last: TracebackType, said: bool) -> bool:
    """Whether a line of this package failed: by a `raise` that says what is wrong, or else by accident."""
    code = last.tb_frame.f_code
    return code.co_filename.startswith(_OURS) and (code.co_code[last.tb_lasti] == _RAISE) is said


def _jax() -> tuple[str, ...]:
    module = sys.modules.get("jax")
    file = getattr(module, "__file__", None)
    return (str(Path(file).parent) + "/",) if file else ()


def _wanted_whole() -> bool:
    config = getattr(sys.modules.get("jax"), "config", None)
    return getattr(config, "jax_traceback_filtering", None) == "off"
