"""Whether a function of flat inputs is the same when it is traced, or run, once more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.bars import UNITS
from jaxcheck.problem.real_view import to_vector
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.custom.rules import is_inexact
from jaxcheck.program.derived import derivative, own_values, plain
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
            return one if same(one, other, point) else None
    return None


def same(one: Traced, other: Traced, values: Sequence[Any]) -> bool:
    """Whether two native traces of one function of flat inputs are the same program, and have the same derivative.

    Not all that a custom rule is handed goes into its results, and so into what it says of them; how much does is seen
    without the rules, and in the derivative.
    """
    if same_program(one.closed, other.closed):
        return True
    if not same_program(plain(one).closed, plain(other).closed):
        return False
    own = own_values(one.closed, values)
    try:
        pulled = [ask(derivative, t, _pull, [own], precision="native") for t in (one, other)]
    except Refused:  # nobody's claim, then
        return True
    return same_program(*(plain(t).closed for t in pulled))


def _pull(f: Callable) -> Callable:
    def pulled(xs: list[Any]) -> list[Any]:
        out, back = jax.vjp(lambda *a: [y for y in f(*a) if is_inexact(jax.typeof(y))], *xs)
        return [g for g in back([jnp.ones_like(y) for y in out]) if g.dtype != jax.dtypes.float0]

    return pulled


def runs_alike(flat: Callable, point: list[Any], unit: float) -> bool:
    """Whether two calls agree to rounding."""
    one, two = (to_vector(flat(point, []), np) for _ in range(2))
    with np.errstate(all="ignore"):
        return bool((np.abs(one - two) <= UNITS * unit * np.abs(one)).all()) or not np.isfinite(one - two).all()
