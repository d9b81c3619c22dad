"""Values and types in float64: what each becomes when a program is emitted again in it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcheck.program.float64.literals import simplest
from jaxcheck.program.mode import is_traced


def lifted_dtype(dtype: Any) -> Any:
    """float64 for every float, complex128 for every complex, anything else as it is."""
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return dtype
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return np.dtype(np.complex128)
    if dtype != jax.dtypes.float0 and jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(np.float64)
    return dtype


def is_low(dtype: Any) -> bool:
    """Whether a dtype is a float or complex one narrower than float64."""
    return dtype is not None and lifted_dtype(dtype) != dtype


def cast(value: Any, dtype: Any) -> Any:
    if dtype is None or getattr(value, "dtype", None) == dtype:
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value).astype(dtype)
    if jnp.iscomplexobj(value) and not jnp.issubdtype(dtype, jnp.complexfloating):
        value = lax.real(value)
    return lax.convert_element_type(value, dtype)


def to_dtype_of(value: Any, aval: Any) -> Any:
    """The value with the dtype that the aval declares, keys and abstract tokens as they are."""
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return value
    return cast(value, dtype)


def lift_value(value: Any, aval: Any) -> Any:
    """A constant of the program in float64: arrays as they are, scalars as they were written."""
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return value
    if not is_low(dtype):
        return np.asarray(value).astype(dtype) if not isinstance(value, jax.Array) else value
    if is_traced(value):
        return cast(value, lifted_dtype(dtype))
    # NumPy constants may hold more bits than their variable declares.
    array = np.asarray(value).astype(dtype)
    if array.ndim == 0 and jnp.issubdtype(dtype, jnp.complexfloating):
        parts = (simplest(float(part), np.float32) for part in (np.real(array), np.imag(array)))
        return np.asarray(complex(*parts), np.complex128)
    if array.ndim == 0:
        return np.asarray(simplest(float(array), dtype), np.float64)
    return array.astype(lifted_dtype(dtype))


def lifted_aval(aval: Any) -> Any:
    if not hasattr(aval, "dtype") or not hasattr(aval, "shape"):
        return aval
    return jax.ShapeDtypeStruct(aval.shape, lifted_dtype(aval.dtype))
