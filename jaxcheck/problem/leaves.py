"""Which leaf each entry of a real vector belongs to, and which leaves are looked at together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

# Leaves that get a direction or a cotangent of their own; of more leaves several share one.
OWN = 16


def belongs(arrays: Sequence[Any]) -> np.ndarray:
    """The number of the leaf to which each entry of `to_vector(arrays)` belongs."""
    sizes = [int(np.prod(x.shape)) * (2 if jnp.issubdtype(x.dtype, jnp.complexfloating) else 1) for x in arrays]
    return np.repeat(np.arange(len(sizes)), sizes)


def groups(owner: np.ndarray, room: float) -> list[np.ndarray]:
    """Masks that pick one leaf each, where there are several and `room` is for as many; else several leaves each."""
    leaves = np.unique(owner)
    count = int(min(len(leaves), OWN, room))
    return [np.isin(owner, leaves[k::count]) for k in range(count)] if count > 1 else []
