"""Directions and cotangents for several leaves: dense ones, and one for each leaf, for each has its own scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcheck.problem.leaves import belongs, groups
from jaxcheck.problem.scale import component_scale
from jaxcheck.theta import to_real

# A component that a direction moves by more than this times its own size may be met far outside its scale.
WIDE = 1e3


def directions_of(point: Sequence[Any], rng: np.random.Generator, count: int, room: float) -> np.ndarray:
    """(D, P) directions: through all inputs at once, each at its own scale, the odd ones component-wise; where a
    leaf mixes units, one that moves every component in proportion; and one per leaf."""
    values = [to_real(x) for x in point]

    def draw(scales):
        signs = [rng.choice([-1.0, 1.0], s.size) * rng.uniform(0.5, 1.5, s.size) for s in scales]
        return np.concatenate([a * b for a, b in zip(signs, scales, strict=True)]) if scales else np.zeros(0)

    out = [draw([component_scale(x, 1.0 if k % 2 == 0 else 1e-2) for x in values]) for k in range(count)]
    own = [component_scale(x, 1e-2) for x in values]
    narrow = [component_scale(x, 0.0) if is_wide(x, s[None])[0] else s for x, s in zip(values, own, strict=True)]
    if is_wide(np.concatenate([*values, np.zeros(0)]), np.stack(out)).any():
        out.append(draw([component_scale(x, 0.0) for x in values]))
    return np.stack([*out, *(mask * draw(narrow) for mask in groups(belongs(point), room))])


def is_wide(point: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(D,) whether a direction moves some component by far more than its own size."""
    return ((point != 0) & (np.abs(v) > WIDE * np.abs(point))).any(axis=1)


def cotangents_of(owner: np.ndarray, rng: np.random.Generator, room: float, count: int, rule: float = 0.0):
    """((G, m) cotangents, which of them are to be divided by the outputs' own sizes or None, (G,) sizes at which they
    are pulled back): `count` dense ones, of which the second is weighed, and one per leaf; for a rule of the user's,
    which may treat them as nothing linear does, unusual ones as well, up to `rule` times as large. Of one real output
    the first is 1, the one that `jax.grad` pulls back: a rule may treat it like no other."""
    g = [rng.standard_normal(len(owner)) for _ in range(count)]
    if count == 1:  # no second one shows the entries that are next to nothing in the first
        g = [x + np.copysign(AWAY, x) for x in g]
    if len(owner) == 1:
        g[0] = np.ones(1)
    own = [mask * rng.standard_normal(len(owner)) for mask in groups(owner, room)]
    odd = _unusual(len(owner), np.random.default_rng(len(owner))) if rule else []
    every = np.stack([*g, *own, *odd])
    sizes = np.ones(len(every))
    if odd and rule > 1:
        sizes[-len(odd) :][:2] = rule, SMALL
    return every, np.arange(len(every)) == 1 if count > 1 else None, sizes


# Far above and below 1, where a rule may clip a cotangent, or take it for zero; not where half precision would.
LARGE, SMALL = 1e4, 1e-9


# From zero, in units of what they scatter. A choice.
AWAY = 0.5


def _unusual(size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Cotangents (m,): two to be made large and small, and those of one sign, all alike, zero but for one, and zero."""
    alone = np.zeros(size)
    alone[rng.integers(size)] = -1.0
    positive = np.abs(rng.standard_normal(size))
    return [*rng.standard_normal((2, size)), positive, -positive, np.ones(size), alone, np.zeros(size)]


def own_size(outputs: Any) -> Any:
    """(m,) weights, at most 1, that bring every output to one size; what has no size gets the least."""
    # Not `!= 0`: by that numbers are told apart to the last bit, and all products are guarded for it (see `products`).
    known = (jnp.abs(outputs) > 0) & jnp.isfinite(outputs)
    size = jnp.where(known, jnp.abs(outputs), 0.0)
    size = jnp.where(known, size, jnp.max(size, initial=1.0))
    return jnp.min(size, initial=1.0) / size
