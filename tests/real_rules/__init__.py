"""Rules as they are written in earnest, as data: of JAX, of its libraries, by hand, and wrong twins of the last."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """A function to check at its arguments. `order`, `modes`: what the drop-in is asked for; `options`: of check_rule;
    `slow`: only when all are asked for; `known`: a false alarm not yet mended, and why."""

    name: str
    f: Callable
    args: tuple[Any, ...]
    order: int = 2
    modes: tuple[str, ...] = ("fwd", "rev")
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    slow: bool = False
    known: str = ""


def numbers(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0, dtype: Any = jnp.float32) -> Any:
    """Uniform numbers; complex ones have both parts."""
    rng = np.random.default_rng([seed, *shape])
    x = rng.uniform(low, high, shape)
    if np.issubdtype(np.dtype(dtype), np.complexfloating):
        x = x + 1j * rng.uniform(low, high, shape)
    return jnp.asarray(x, dtype)


def spd(n: int, seed: int = 0) -> Any:
    """A well-conditioned symmetric positive definite matrix."""
    a = numbers(n, n, seed=seed)
    return a @ a.T + n * jnp.eye(n)
