"""What number a rounded constant was before it was rounded.

`x * 0.1` in bfloat16 holds 0.10009765625. Carried to float64 as it stands, it would make a
function and its hand-written derivative disagree by the rounding, 2e-3 in bfloat16. The simplest
number that rounds to the constant is taken for what the author wrote.
"""

from __future__ import annotations

import functools
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np

# Constants which people write out in programs, beyond short decimals and fractions.
_BASES = (
    math.pi, math.e, math.sqrt(2), math.sqrt(3), math.log(2), math.log(10), math.sqrt(math.pi),
    math.sqrt(2 * math.pi), math.log(2 * math.pi), math.log(math.pi), 1 / math.log(2),
)  # fmt: skip
_USUAL = (
    *_BASES, *(1 / b for b in _BASES), math.sqrt(2 / math.pi), 2 / math.sqrt(math.pi),
    math.pi / 2, 2 * math.pi, math.log(2 * math.pi) / 2,
    0.044715, 0.134145, 1.702, 1.0507009873554805, 1.6732632423543772,  # GELU, its slope, SELU
)  # fmt: skip
_SCALED = tuple(s * b for b in (*_BASES, *(1 / b for b in _BASES)) for s in (0.5, 2.0, 0.25, 4.0))
# How many digits a well-known constant is worth, and a simple multiple of one.
_KNOWN = ((_USUAL, 2.5), (_SCALED, 3.5))


def simplest(value: float, dtype: Any) -> float:
    """The simplest float64 which rounds to `value` in the low-precision `dtype`."""
    return _simplest(float(value), np.dtype(dtype).name)


@functools.lru_cache(maxsize=4096)
def _simplest(value: float, name: str) -> float:
    dtype = jnp.dtype(name)
    if not math.isfinite(value) or value == 0.0:
        return value
    if value < 0:
        return -_simplest(-value, name)
    bits = jnp.finfo(dtype).nmant
    # Below the normal range few bits are left of any number, so that they prove nothing.
    normal = value >= float(jnp.finfo(dtype).tiny)
    if (value.is_integer() and value < 2.0**bits) or (normal and _bits(value) <= bits // 2):
        return value  # exact as written: halves, quarters, small integers, powers of two

    def rounds(number: float) -> bool:
        with np.errstate(over="ignore"):
            return bool(np.asarray(number).astype(dtype) == np.asarray(value).astype(dtype))

    decimal, digits = _shortest_decimal(value, rounds)
    best, cost = decimal, float(digits)
    for numbers, digits in _KNOWN:
        for number in numbers:
            if cost > digits and rounds(number):
                best, cost = number, digits
    fraction = _simplest_fraction(value, rounds)
    if fraction is not None:
        size = len(str(fraction.numerator)) + len(str(fraction.denominator))
        # A fraction must be clearly simpler: nearly every number has some fraction near it.
        if size < cost and size <= max(2, bits // 5):
            best = float(fraction)
    return best


def _bits(value: float) -> int:
    mantissa = int(math.frexp(value)[0] * 2**53)
    return mantissa.bit_length() - (mantissa & -mantissa).bit_length() + 1


def _shortest_decimal(value: float, rounds: Any) -> tuple[float, int]:
    for digits in range(1, 18):
        number = float(f"{value:.{digits - 1}e}")
        if rounds(number):
            return number, len(Decimal(repr(number)).normalize().as_tuple().digits)
    return value, 17


def _simplest_fraction(value: float, rounds: Any) -> Fraction | None:
    for denominator in range(1, 1000):
        numerator = round(value * denominator)
        if numerator and rounds(numerator / denominator):
            return Fraction(numerator, denominator)
    return None
