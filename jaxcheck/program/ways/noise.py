"""Signs without random numbers: one array of them, looked at from another offset for every use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcheck.program import units

# Signs are read in pieces of at most this many; a larger array takes products of two pieces, whose entries are
# pairwise independent as well.
_PIECE = 16384
# Offsets come in two parts, the place in the program and the iteration of the loop around it.
PLACES = 8192
LENGTH = _PIECE + 2 * PLACES


def signs(draws: int = 4, seed: int = 0) -> np.ndarray:
    """`draws` rows of random signs, as `perturbed` takes them: int8, (draws, LENGTH)."""
    return np.random.default_rng(seed).integers(0, 2, (draws, LENGTH), np.int8) * np.int8(2) - np.int8(1)


def _computing(dtype: Any) -> Any:
    """The dtype to move a value in: factors of half precision would round too much."""
    return np.dtype(np.float32) if jnp.finfo(dtype).bits < 32 else np.dtype(dtype)


class Noise:
    """A row of signs in every dtype of a program, made once, outside of its loops.

    The least change that a factor can make evenly in both directions is two units: 1 + u is no number, and
    x + u x would make not a number of an infinity. Bars are that much wider.
    """

    def __init__(self, row: Any, dtypes: Iterable[Any]):
        self._signs = {d: lax.convert_element_type(row, d) for d in {_computing(d) for d in dtypes}}
        # Most equations take their factors from here as they are.
        self._factors = {d: signs * _scalar(2 * units.unit(d), d) + _scalar(1, d) for d, signs in self._signs.items()}
        self._uses = 0

    def move(self, x: Any, count: float, unit: float, salt: Any) -> Any:
        """x (1 + count unit xi), entry by entry, xi = +-1; of complex numbers each part."""
        if count == 0 or unit == 0 or x.size == 0:
            return x
        if jnp.iscomplexobj(x):
            return lax.complex(self.move(lax.real(x), count, unit, salt), self.move(lax.imag(x), count, unit, salt))
        size, own = max(count * unit, 2 * units.unit(x.dtype)), np.dtype(x.dtype)
        if own not in self._factors:
            return self._half_precision(x, size, salt)
        if size == 2 * units.unit(own) and x.size <= _PIECE:
            return x * self._piece(self._factors[own], x.size, salt).reshape(x.shape)
        return x * (self._spread_signs(own, x.shape, salt) * _scalar(size, own) + _scalar(1, own))

    def add(self, x: Any, size: Any, unit: float, salt: Any) -> Any:
        """x + unit size xi: a change that does not go with each entry's own size."""
        if jnp.iscomplexobj(x):
            parts = (self.add(part, size, unit, salt) for part in (lax.real(x), lax.imag(x)))
            return lax.complex(*parts)
        wide = _computing(x.dtype)
        change = self._spread_signs(wide, x.shape, salt) * (size * unit)
        return x + change.astype(x.dtype)

    def _half_precision(self, x: Any, size: float, salt: Any) -> Any:
        """Moved in float32. Float16 underflows at sizes that matter, and below its smallest its steps are even."""
        wide = _computing(x.dtype)
        value = lax.convert_element_type(x, wide)
        signs = self._spread_signs(wide, x.shape, salt)
        if (tiny := float(jnp.finfo(x.dtype).tiny)) > 1e-10:
            change = lax.max(lax.abs(value), _scalar(tiny, wide)) * _scalar(size, wide)
            moved = jnp.where(jnp.isfinite(value), value + signs * change, value)
        else:
            moved = value * (signs * _scalar(size, wide) + _scalar(1, wide))
        return lax.convert_element_type(moved, x.dtype)

    def _spread_signs(self, dtype: Any, shape: tuple[int, ...], salt: Any) -> Any:
        signs, size = self._signs[dtype], math.prod(shape)
        if size <= _PIECE:
            return self._piece(signs, size, salt).reshape(shape)
        for axis in range(1, len(shape)):
            rows, columns = math.prod(shape[:axis]), math.prod(shape[axis:])
            if rows <= _PIECE and columns <= _PIECE:
                first = self._piece(signs, rows, salt).reshape(*shape[:axis], *(1,) * (len(shape) - axis))
                return first * self._piece(signs, columns, salt).reshape(shape[axis:])
        rows = -(-size // _PIECE)
        first = jnp.resize(self._piece(signs, min(rows, _PIECE), salt), (rows,))
        table = first[:, None] * self._piece(signs, _PIECE, salt)[None]
        return table.reshape(-1)[:size].reshape(shape)

    def _piece(self, row: Any, size: int, salt: Any) -> Any:
        self._uses += 1
        place = (self._uses * 2654435761 % 2**32) * PLACES // 2**32
        if isinstance(salt, int):
            return lax.slice(row, (place + salt,), (place + salt + size,))
        return lax.dynamic_slice(row, (salt + np.int32(place),), (size,))


def _scalar(value: float, dtype: Any) -> Any:
    return np.asarray(value, dtype)
