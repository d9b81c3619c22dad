"""Derivatives that compute in a narrower dtype than their function: residuals in bfloat16, products of halves."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.program import interpret
from jaxcheck.program.objective import Traced


def narrower(derivative: Traced, primal: Traced) -> str:
    """The dtype in which a derivative computes, where neither the function nor what it gives is as narrow; else "".
    What it rounds to that is its own choice, and no rounding that the function's precision explains."""
    own, known = _narrowest(derivative.program.closed), _narrowest(primal.program.closed)
    return str(own) if _eps(own) > max(_eps(known), derivative.unit) else ""


def unit(closed: Any) -> float:
    """The rounding unit of the coarsest floating dtype that is in a program; float64's where none is."""
    return _eps(_narrowest(closed))


def _narrowest(closed: Any) -> np.dtype:
    """The coarsest floating dtype that is in a program; float64 where none is."""
    values = [*interpret.opened(closed).invars, *(v for eqn, _ in interpret.walk(closed) for v in eqn.outvars)]
    dtypes = {v.aval.dtype for v in values if hasattr(v.aval, "dtype")}
    floats = [d for d in dtypes if jax.dtypes.issubdtype(d, np.inexact)]
    return max(floats, key=_eps, default=np.dtype(np.float64))


def _eps(dtype: Any) -> float:
    return float(jnp.finfo(dtype).eps)
