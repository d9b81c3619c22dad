"""What all front doors have in common: calm settings, the run's defaults, words for keywords of other
libraries, tracebacks that end in the caller's code, and a word to whoever listens."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from jaxcheck import friends, session
from jaxcheck.program.calm import calm
from jaxcheck.program.run import forked
from jaxcheck.result import GradientInconclusive, GradientMismatch, Report
from jaxcheck.tracebacks import OnError, shorten

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


@overload
def door(f: Callable[Parameters, Returned], /) -> Callable[Parameters, Returned]: ...
@overload
def door(*, silent: bool) -> Callable[[Callable[Parameters, Any]], Callable[Parameters, None]]: ...
def door(f: Any = None, /, *, silent: bool = False) -> Any:
    """Decorator of a function that the caller calls and that makes a report, or raises with one.

    Args:
        silent: the report of what passed is told to those who listen and not returned.
    """
    if f is None:
        return functools.partial(door, silent=silent)
    signature = inspect.signature(f)
    parameters = signature.parameters
    known = [name for name, p in parameters.items() if p.kind not in _UNNAMED]
    places = [name for name, p in parameters.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    endless = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values())

    @functools.wraps(f)
    def jaxcheck_door(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        start = time.perf_counter()
        with OnError(lambda error: _leave(error, start)):
            forked.refuse(f.__name__)
            friends.refuse(f.__name__, kwargs, known)
            if not endless:
                friends.refuse_positions(f.__name__, args, places)
            friends.refuse_call(f.__name__, signature, args, kwargs)
            friends.refuse_values(kwargs)
            for name in session.defaults.keys() & set(known) - kwargs.keys():
                default = session.defaults[name]
                kwargs[name] = default(kwargs) if callable(default) else default
            with calm():
                made = f(*args, **kwargs)
        _tell(made, start)
        return None if silent else made

    return jaxcheck_door


_UNNAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _leave(error: Exception, start: float) -> None:
    if isinstance(error, (GradientMismatch, GradientInconclusive)):
        _tell(error.report, start)
        error.__traceback__ = None
    else:
        if "pytree dictionary keys" in str(error):
            error.add_note("JAX sorts the keys of a dict, so in each dict they must be of one kind: all text, say")
        shorten(error)


def _tell(report: Any, start: float) -> None:
    """What the drop-in raises with has no time of its own: its errors are the same from run to run."""
    if isinstance(report, Report):
        timed = (
            report
            if not math.isnan(report.seconds)
            else dataclasses.replace(report, seconds=time.perf_counter() - start)
        )
        session.tell(timed)
