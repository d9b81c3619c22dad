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
_PIECE = 4096
# Offsets come in two parts, the place in the program and the iteration of the loop around it.
PLACES = 8192
LENGTH = _PIECE + 2 * PLACES
# A shade above the unit, so that a tie between two neighbours is no way to stay in place.
_PAST_TIES = 1 + 1 / 64


def signs(draws: int = 4, seed: int = 0) -> np.ndarray:
    """`draws` rows of random signs, as `perturbed` takes them: int8, (draws, LENGTH)."""
    return np.random.default_rng(seed).integers(0, 2, (draws, LENGTH), np.int8) * np.int8(2) - np.int8(1)


def _computing(dtype: Any) -> Any:
    """The dtype to move a value in: a unit of a half-precision one may be too small to be written in it."""
    return np.dtype(np.float32) if jnp.finfo(dtype).bits < 32 else np.dtype(dtype)


class Noise:
    """A row of signs in every dtype of a program, made once, outside of its loops."""

    def __init__(self, row: Any, dtypes: Iterable[Any]):
        self._plain = {d: lax.convert_element_type(row, d) for d in {_computing(d) for d in dtypes}}
        self._scaled = {
            np.dtype(d): self._plain[_computing(d)] * np.asarray(units.unit(d) * _PAST_TIES, _computing(d))
            for d in dtypes
        }
        self._uses = 0

    def move(self, x: Any, count: float, unit: float, salt: Any) -> Any:
        """x (1 + count unit xi), entry by entry, xi = +-1; of complex numbers each part."""
        if count == 0 or unit == 0:
            return x
        if jnp.iscomplexobj(x):
            return lax.complex(self.move(lax.real(x), count, unit, salt), self.move(lax.imag(x), count, unit, salt))
        wide = _computing(x.dtype)
        value = lax.convert_element_type(x, wide) if wide != x.dtype else x
        change = self._change(self._size(value, x.dtype), x.dtype, salt)
        if (factor := count * unit / units.unit(x.dtype)) != 1:
            change = change * np.asarray(factor, wide)
        # An infinity stays one: without the bound it would be infinity minus infinity.
        bound = np.asarray(jnp.finfo(wide).max / 4, wide)
        moved = value + lax.clamp(-bound, change, bound)
        return lax.convert_element_type(moved, x.dtype) if wide != x.dtype else moved

    def spread(self, x: Any, size: Any, unit: float, salt: Any) -> Any:
        """x + unit size xi: a change that does not go with each entry's own size."""
        return x + (self.move(jnp.broadcast_to(size, x.shape).astype(x.dtype), 1.0, unit, salt) - size)

    @staticmethod
    def _size(value: Any, dtype: Any) -> Any:
        """What the unit is relative to. Half precision underflows at sizes that matter; its steps are even there."""
        tiny = float(jnp.finfo(dtype).tiny)
        return lax.max(lax.abs(value), np.asarray(tiny, value.dtype)) if tiny > 1e-10 else value

    def _change(self, value: Any, dtype: Any, salt: Any) -> Any:
        scaled, plain = self._scaled[np.dtype(dtype)], self._plain[_computing(dtype)]
        shape, size = value.shape, value.size
        if size <= _PIECE:
            return value * self._piece(scaled, size, salt).reshape(shape)
        for axis in range(1, len(shape)):
            rows, columns = math.prod(shape[:axis]), math.prod(shape[axis:])
            if rows <= _PIECE and columns <= _PIECE:
                first = self._piece(scaled, rows, salt).reshape(*shape[:axis], *(1,) * (len(shape) - axis))
                return value * first * self._piece(plain, columns, salt).reshape(shape[axis:])
        rows = -(-size // _PIECE)
        first = jnp.resize(self._piece(scaled, min(rows, _PIECE), salt), (rows,))
        table = first[:, None] * self._piece(plain, _PIECE, salt)[None]
        return value * table.reshape(-1)[:size].reshape(shape)

    def _piece(self, row: Any, size: int, salt: Any) -> Any:
        self._uses += 1
        place = (self._uses * 2654435761 % 2**32) * PLACES // 2**32
        if isinstance(salt, int):
            return lax.slice(row, (place + salt,), (place + salt + size,))
        return lax.dynamic_slice(row, (salt + np.int32(place),), (size,))
