"""Whether a function of flat inputs is the same when it is traced, or run, once more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcheck.bars import UNITS
from jaxcheck.evidence.real_view import to_vector
from jaxcheck.program.identity import same_program
from jaxcheck.program.objective import LeakedTracer, Traced, trace


def traced(flat: Callable, point: list[Any]) -> Traced | None:
    """The native trace, None where another one is another program: NumPy's randomness is baked into each.

    The first one raises UnexpectedTracerError where `f` closes over a tracer of its own: no other can be left behind.
    """
    with contextlib.suppress(LeakedTracer):
        one = trace(flat, point, [], "native")
        # Under another name: JAX remembers the trace of a function it has seen.
        with contextlib.suppress(jax.errors.UnexpectedTracerError):  # f keeps state between calls
            other = trace(lambda leaves, extras: flat(leaves, extras), point, [], "native")
            return one if same_program(one.closed, other.closed) else None
    return None


def runs_alike(flat: Callable, point: list[Any], unit: float) -> bool:
    """Whether two calls agree to rounding."""
    one, two = (to_vector(flat(point, []), np) for _ in range(2))
    with np.errstate(all="ignore"):
        return bool((np.abs(one - two) <= UNITS * unit * np.abs(one)).all()) or not np.isfinite(one - two).all()
