"""JAX's mode, its tracers, and its arrays: what everybody asks of the session."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

# What JAX raises where a function needs concrete values: NumPy, Python control flow on numbers.
NOT_TRACEABLE = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
)


def is_wide() -> bool:
    """Whether the 64-bit mode is on, here and now."""
    return bool(jax.config.read("jax_enable_x64"))


def is_traced(x: Any) -> bool:
    """Whether a value belongs to a trace that is under way."""
    return isinstance(x, Tracer)


def as_jax(x: Any) -> Any:
    """Numbers of NumPy's as a JAX array, outside of any trace. `jnp.asarray` compiles a program for every new shape
    (JAX 0.10.2), which takes a hundred times as long and stays in JAX's caches."""
    return jax.device_put(x) if isinstance(x, (np.ndarray, np.generic)) else jnp.asarray(x)


__all__ = ["NOT_TRACEABLE", "as_jax", "is_traced", "is_wide"]
