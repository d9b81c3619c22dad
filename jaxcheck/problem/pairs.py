"""Whether the first half of the pair that a gradient returns is the loss's value, or something else beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.foreign import is_array
from jaxcheck.program.ask import Refused, ask

# Points that differ from the caller's by rounding, at which a pair is looked at. A choice.
NEIGHBOURS = 6


def other(first: Any, value: Callable[[], Any], pairs: Callable[[bool], list[tuple[Any, Any]]]) -> str:
    """What is wrong where `first` is not the loss's value, else "". A loss that is random has no such value, and two
    that are one in float64, or as far apart as one of them is from itself at points that differ by rounding, are taken
    apart by rounding alone.

    Args:
        value: the loss's, once more each time.
        pairs: both, in float64 (True) or at such points; none where they cannot be had.
    """
    one = value()
    if _same(first, one) or not _same(one, value()):
        return ""
    with contextlib.suppress(Refused):
        if any(_same(*pair) for pair in ask(pairs, True)):
            return ""
    with contextlib.suppress(Refused):
        near = np.array(ask(pairs, False), np.float64).reshape(-1, 2)
        if len(near) and abs(float(first) - float(one)) <= 2 * np.ptp(near, axis=0).max():
            return ""
    return (
        f"grad returned a pair whose first half, {float(first):.6g}, is not the loss's value, {float(one):.6g}: it is "
        "not (value, grads)"
    )


def at_others(pair: Callable[..., tuple[Any, Any]], leaves: Any, extras: Any, wide: bool) -> list[tuple[Any, Any]]:
    """What `pair` gives of leaves and extra arguments in float64, or of leaves moved by rounding."""
    if not wide:
        return [pair([_beside(x, seed) for x in leaves], extras) for seed in range(NEIGHBOURS)]
    with jax.enable_x64(True):
        return [pair(*jax.tree.map(_wide, (leaves, extras)))]


def _same(x: Any, y: Any) -> bool:
    """Whether two scalars are one number, as far as the coarser of their dtypes can tell."""
    unit = max(float(jnp.finfo(jax.dtypes.result_type(v)).eps) for v in (x, y))
    one, two = float(x), float(y)
    return one == two or abs(one - two) <= unit**0.5 * max(abs(one), abs(two)) or bool(np.isnan(one) and np.isnan(two))


def _beside(x: Any, seed: int) -> Any:
    """An array of the same kind, each entry moved by some units of its dtype."""
    if not jax.dtypes.issubdtype(jax.dtypes.result_type(x), np.inexact):
        return x
    unit = float(jnp.finfo(jax.dtypes.result_type(x)).eps)
    moved = 1 + unit * np.random.default_rng(seed).integers(-4, 5, np.shape(x))
    return (x * moved).astype(x.dtype) if is_array(x) else x * float(moved)


def _wide(x: Any) -> Any:
    kind = jax.dtypes.result_type(x)
    if jax.dtypes.issubdtype(kind, np.floating):
        return jnp.asarray(x, np.float64)
    return jnp.asarray(x, np.complex128) if jax.dtypes.issubdtype(kind, np.complexfloating) else x
