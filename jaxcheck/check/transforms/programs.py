"""The transformed gradients: stacked points x, cotangents g and one tangent t of both -> leaves of gradients, by
`call`'s rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.check.laws.site import Arrays, pull
from jaxcheck.program.mode import is_laid_out, laid_out

# The points of the other batches that are mapped over both: a batching rule may squeeze a batch of one, or cut a long
# one up.
BATCHES = ((0,), (0, 1, 2, 0, 1, 2, 0))


def _first(values: Sequence[Any]) -> Arrays:
    return [v[0] for v in values]


def _jit(call: Callable, x: Arrays, g: Arrays, t: Any) -> Arrays:
    return pull(jax.jit(call))(_first(x), _first(g))


def _vmap_primals(call: Callable, x: Arrays, g: Arrays, t: Any) -> Arrays:
    return jax.vmap(pull(call), in_axes=(0, None))(x, _first(g))


def _vmap_cotangents(call: Callable, x: Arrays, g: Arrays, t: Any) -> Arrays:
    return jax.vmap(pull(call), in_axes=(None, 0))(_first(x), g)


def _vmap_both(call: Callable, x: Arrays, g: Arrays, t: Any) -> Arrays:
    return jax.vmap(pull(call))(x, g)


def batch(points: Sequence[int]) -> Callable[..., Arrays]:
    """The same for a batch of some of the points."""

    def batched(call: Callable, x: Arrays, g: Arrays, t: Any) -> Arrays:
        some_x, some_g = ([jnp.stack([v[k] for k in points]) for v in stacks] for stacks in (x, g))
        return _vmap_both(call, some_x, some_g, t)

    return batched


def _scan(call: Callable, x: Arrays, g: Arrays, t: Any) -> Arrays:
    def looped(*xs: Any) -> Arrays:
        return jax.lax.scan(lambda carry, row: (carry, call(*row)), 0, xs)[1]

    return pull(looped)(x, g)


def _remat(call: Callable, x: Arrays, g: Arrays, t: Any) -> Arrays:
    return pull(jax.checkpoint(call))(_first(x), _first(g))


def _jvp_of_vjp(call: Callable, x: Arrays, g: Arrays, t: Any) -> Arrays:
    value, tangent = jax.jvp(pull(call), (_first(x), _first(g)), t)
    return [*value, *tangent]


TRANSFORMED: dict[str, Callable[..., Arrays]] = {
    "jit": _jit, "vmap over primals": _vmap_primals, "vmap over cotangents": _vmap_cotangents,
    "vmap over both": _vmap_both, "scan": _scan, "remat": _remat, "jvp of vjp": _jvp_of_vjp,
}  # fmt: skip
# These have one point's gradient as their result, the others a stack of them.
SINGLE = ("jit", "remat", "jvp of vjp")


def stacked(column: Sequence[Any]) -> Any:
    """Arrays as rows of one, on the host unless where they lie is a part of their type."""
    rows = np.stack(list(map(np.asarray, column)))
    return laid_out(rows, column[0], rows=True) if is_laid_out(column[0]) else rows
