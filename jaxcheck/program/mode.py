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


def is_laid_out(x: Any) -> bool:
    """Whether where an array lies is a part of its type: on a mesh of explicit axes."""
    if not isinstance(x, jax.Array) or is_traced(x):
        return False
    return any(part is not None for part in jax.typeof(x).sharding.spec)


def laid_out(x: Any, like: Any, rows: bool = False) -> Any:
    """Numbers as a JAX array of the type of `like`, where that says how it lies.

    Args:
        rows: `x` is a stack of such arrays.
    """
    return jax.device_put(x, _sharding(like, rows)) if is_laid_out(like) else as_jax(x)


def stack_type(like: Any, count: int) -> Any:
    """The type of a stack of `count` such arrays."""
    more = {"sharding": _sharding(like, True)} if is_laid_out(like) else {}
    return jax.ShapeDtypeStruct((count, *like.shape), like.dtype, **more)


def _sharding(like: Any, rows: bool) -> Any:
    mesh, spec = like.sharding.mesh, like.sharding.spec  # of devices: the mesh of the type names none
    return jax.NamedSharding(mesh, jax.P(None, *spec) if rows else spec)


__all__ = ["NOT_TRACEABLE", "as_jax", "is_laid_out", "is_traced", "is_wide", "laid_out", "stack_type"]
