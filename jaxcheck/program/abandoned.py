"""Traces of JAX's that an exception ended: it holds on to them, and to the data in them, for as long as Python runs.

A trace in which NumPy data were met registers a finaliser for each tracer of them, which refers to the trace, and the
trace to its tracers (jax 0.10 and 0.11). Where it ends as it should JAX breaks that circle, not where the function
raised. That is more than a leak: of NumPy's float64 data JAX keeps the float32 form by object for as long as it is
held by anybody, so that data which the caller changes in place would be, from then on, what they were.
"""

from __future__ import annotations

import contextlib
import traceback
from typing import Any

from jax._src import config

from jaxcheck.tracebacks import of_a_signal


def whole_tracebacks() -> contextlib.AbstractContextManager:
    """JAX takes its frames out of tracebacks; with them gone, what it raises looks like ours."""
    state = getattr(config, "traceback_filtering", None)
    return contextlib.nullcontext() if state is None else state("off")


def let_go(error: BaseException) -> None:
    """Before `error` is taken for an answer: break the circles of all traces that it, or what it came from, ended, as
    far as its traceback is whole.

    Raises:
        error: a handler of a signal raised it, and it is no answer.
    """
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        pending += [one.__cause__, one.__context__]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if frame.f_code.co_filename.endswith("partial_eval.py"):
                _break(frame.f_locals.get("trace"))
    if of_a_signal(error):
        raise error


def _break(trace: Any) -> None:
    if type(trace).__name__ == "DynamicJaxprTrace" and hasattr(trace, "invalidate"):
        trace.invalidate()
