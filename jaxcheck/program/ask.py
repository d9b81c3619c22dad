"""The one gate through which the caller's code is run where its failure is an answer and no accident.

`ask` tells whose exception it is by the line that raised it: the caller's code and JAX, which runs it, may
refuse anything, and then say why; what one of our own lines raises is a mistake of ours and goes on its way.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxcheck.program.abandoned import let_go, whole_tracebacks
from jaxcheck.program.mode import NOT_TRACEABLE, is_traced

_OURS = str(Path(__file__).resolve().parents[1])


class Refused(Exception):
    """The caller's code, or JAX on its behalf, raised `error`."""

    def __init__(self, error: BaseException):
        super().__init__(str(error))
        self.error = error


def on_purpose(error: Exception) -> Exception:
    """Mark what a line of this package raises about the caller's program, and not by mistake."""
    error.on_purpose = True  # pyright: ignore[reportAttributeAccessIssue]
    return error


def ask(f: Callable, *args: Any, **kwargs: Any) -> Any:
    """`f(*args, **kwargs)`.

    Raises:
        Refused: with the exception of the caller's code or of JAX.
        Whatever a line of this package or a handler of a signal raises, unchanged.
    """
    try:
        with whole_tracebacks():
            return f(*args, **kwargs)
    except Refused:
        raise
    except Exception as error:
        let_go(error)
        if not hasattr(error, "on_purpose") and _is_ours(error, f):
            raise
        raise Refused(error) from error


def _is_ours(error: BaseException, asked: Callable) -> bool:
    """Whether a line of this package raised it. Known only where the traceback holds JAX's frames."""
    last = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    if last is ask.__code__:  # what was asked has no frame: it is no Python, or was not given what it takes
        last = getattr(asked, "__code__", None)
    return last is not None and last.co_filename.startswith(_OURS)


def leaks(error: BaseException) -> bool:
    """Whether a tracer outlived its trace, which JAX reports in several ways; to need a number is not that."""
    if isinstance(error, NOT_TRACEABLE):
        return False
    return isinstance(error, jax.errors.UnexpectedTracerError) or "Tracer'>" in str(error)


def holds_tracer(closed: Any) -> bool:
    """Whether a traced program has a tracer of another trace among its constants."""
    return any(is_traced(x) for x in closed.consts)
