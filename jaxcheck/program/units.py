"""What one rounding is worth: the unit of a dtype, and how many of them a library function takes.

The table is measured, by `python -m tests.measure_units`, against mpmath on XLA's CPU backend; the growth of
long sums by `python -m tests.measure_units sums`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Spot(NamedTuple):
    """Operands between `low` and `high`, at which a float64 result is off by more."""

    low: float
    high: float
    result: float


class Cost(NamedTuple):
    """An error of `result` units in what a function gives, and of `operand` units in what it is given.

    `absolute` is in units of one, whatever the result: of a function with zeros that are not those of its terms.
    """

    result: float = 1.0
    operand: float = 0.0
    absolute: float = 0.0
    spot: Spot | None = None


def unit(dtype: Any) -> float:
    """The unit round-off of a dtype: half the gap above one. Of complex numbers that of a part; 0 where exact."""
    if dtype is None or dtype == jax.dtypes.float0 or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return 0.0
    return float(jnp.finfo(dtype).eps) / 2 if jnp.issubdtype(dtype, jnp.inexact) else 0.0


# The larger of float64 and float32, where it is above 1.5 units. Where the error is that of an argument times the
# slope (cosh is exp(x + log 1/2), 15 units off at 18 and 80 at 100), it is counted in what goes in.
_LIBRARY = {
    "exp2": Cost(1, 1),
    "expm1": Cost(2, 1),
    "log1p": Cost(3, spot=Spot(-0.42, -0.34, 240)),
    "log2": Cost(3),  # a logarithm over another, which is rounded
    "one_minus_square": Cost(3),  # two sums and their product; JAX 0.11
    "logistic": Cost(2),
    "asin": Cost(2),
    "acos": Cost(2),
    "sinh": Cost(2, 1),
    "cosh": Cost(2, 1),
    "tanh": Cost(7),
    "asinh": Cost(3),
    "acosh": Cost(2),
    "atanh": Cost(20, 20),
    "rsqrt": Cost(2),
    "cbrt": Cost(3),
    "integer_pow": Cost(1, 1),
    "erf": Cost(3),
    "erfc": Cost(1, 1),
    "erf_inv": Cost(4, 4),
    "lgamma": Cost(4, absolute=25),
    "digamma": Cost(6, 6),
    "bessel_i0e": Cost(5),
    "bessel_i1e": Cost(7),
    "atan2": Cost(2),
    "igamma": Cost(12, 12),
    "igammac": Cost(25, 25),
    "zeta": Cost(4),
    "polygamma": Cost(6, 6),
    "regularized_incomplete_beta": Cost(20, 20),
}


def library(name: str) -> Cost:
    """What an elementwise function is off by; one unit where nothing else was measured."""
    return _LIBRARY.get(name, Cost())


def product(terms: float) -> Cost:
    """A product of matrices: entries of long ones are summed one after the other, in a few lanes."""
    growth = max(1.0, math.sqrt(terms) / 8)
    return Cost(growth, growth)


def tree(terms: float) -> Cost:
    """A sum in pairs of pairs: reductions, cumulative sums, Fourier transforms."""
    growth = 1 + math.log2(max(terms, 1)) / 8
    return Cost(growth, growth)


def sequence(terms: float) -> Cost:
    """A sum one after the other, as a scatter-add makes it."""
    growth = max(1.0, math.sqrt(terms) / 2)
    return Cost(growth, growth)
