"""Rules that run on numbers alone: NumPy in the backward pass, Python that decides by a value."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.problem.guarded import Guarded
from jaxcheck.problem.user import real_rows
from jaxcheck.program.ask import Refused, ask
from jaxcheck.theta import Theta


def on_numbers(theta: Theta, projected: Callable, g: np.ndarray) -> Callable | None:
    """The gradients of all projections as a function of theta, the rule run eagerly in float64; None where it does not
    run so either."""

    def pulled(vector: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            leaves = [jnp.asarray(x) for x in theta.unravel(vector)]
            out, pull = jax.vjp(lambda *leaves: projected(list(leaves), [g]), *leaves)
            rows = [real_rows(theta, pull(jnp.asarray(row, out.dtype))) for row in np.eye(len(g))]
        return np.concatenate(rows)

    point = theta.ravel()
    try:
        ask(pulled, point)
    except Refused:
        return None
    return Guarded(pulled, point, np.full((len(g), point.size), np.nan))
