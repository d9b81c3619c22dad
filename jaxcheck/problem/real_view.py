"""Arrays as one vector of real numbers: real parts, then imaginary parts, array after array; and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


def to_vector(values: Sequence[Any], xp: Any = jnp) -> Any:
    """Flat arrays to one real vector: per array its real parts, then its imaginary parts."""
    parts = []
    for x in values:
        x = xp.asarray(x).reshape(-1)
        parts += [x.real, x.imag] if xp.iscomplexobj(x) else [x]
    return xp.concatenate([p.astype(xp.float64) for p in parts]) if parts else xp.zeros(0)


def from_vector(vector: Any, avals: Sequence[Any], conjugate: bool = False) -> list[Any]:
    """Inverse of `to_vector` for arrays like `avals`, in their dtypes."""
    out, start = [], 0
    for aval in avals:
        size = int(np.prod(aval.shape))
        part = vector[start : start + size]
        start += size
        if jnp.issubdtype(aval.dtype, jnp.complexfloating):
            imaginary = vector[start : start + size]
            start += size
            part = part - 1j * imaginary if conjugate else part + 1j * imaginary
        out.append(part.reshape(aval.shape).astype(aval.dtype))
    return out
