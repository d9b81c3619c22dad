"""Rules generated where rounding, cancellation and small scales are at home: the right are not accused, the wrong are.

Each function is elementwise, its derivative written down as a person would; the rule is a custom_jvp or a custom_vjp,
its outputs in one array or in two, in their own units from 1e-8 to 1e8, in float32 or float64. `-m slow` runs them all.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads


class Function(NamedTuple):
    f: Callable
    slope: Callable
    at: tuple[float, ...]
    seen: int = 3  # a component whose derivative rounding leaves known to many digits


FUNCTIONS = {
    "tanh, saturated": Function(jnp.tanh, lambda x: 1 / jnp.cosh(x) ** 2, (-18.0, 19.0, 3.0, 0.2)),
    "tanh, cancelled": Function(jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2, (-17.0, 18.5, 12.0, 0.2)),
    "sigmoid": Function(
        jax.nn.sigmoid, lambda x: jax.nn.sigmoid(x) * (1 - jax.nn.sigmoid(x)), (35.0, -30.0, 30.0, 2.0)
    ),
    "expm1": Function(jnp.expm1, lambda x: jnp.expm1(x) + 1, (-30.0, -25.0, 1e-3, 2.0)),
    "1 - cos": Function(lambda x: 1 - jnp.cos(x), jnp.sin, (1e-6, 1e-5, 1e-3, 1.0)),
    "(1 - cos) / x^2": Function(
        lambda x: (1 - jnp.cos(x)) / x**2,
        lambda x: (x * jnp.sin(x) - 2 * (1 - jnp.cos(x))) / x**3,
        (1e-2, 0.03, 0.3, 1.0),
    ),
    "log(1 - exp)": Function(
        lambda x: jnp.log(1 - jnp.exp(x)), lambda x: -jnp.exp(x) / (1 - jnp.exp(x)), (-1e-7, -30.0, -36.0, -1.0)
    ),
    "log cosh": Function(lambda x: jnp.log(jnp.cosh(x)), jnp.tanh, (20.0, 1e-8, 1.0, -3.0)),
    "difference of roots": Function(
        lambda x: jnp.sqrt(x + 1) - jnp.sqrt(x),
        lambda x: 0.5 / jnp.sqrt(x + 1) - 0.5 / jnp.sqrt(x),
        (1e8, 1e6, 1e4, 1.0),
    ),
    "(x - 1)^7, expanded": Function(
        lambda x: jnp.polyval(jnp.asarray([1, -7, 21, -35, 35, -21, 7, -1], x.dtype), x),
        lambda x: 7 * (x - 1) ** 6,
        (1.1, 0.9, 1.3, 2.0),
    ),
    "gauss": Function(lambda x: jnp.exp(-(x**2) / 2), lambda x: -x * jnp.exp(-(x**2) / 2), (6.0, 8.0, 1.0, 0.1)),
    "oscillating": Function(lambda x: jnp.sin(1e5 * x), lambda x: 1e5 * jnp.cos(1e5 * x), (0.3, 1.0, 2.0, -0.7)),
    "a ripple": Function(
        lambda x: x**2 + 1e-6 * jnp.sin(1e6 * x), lambda x: 2 * x + jnp.cos(1e6 * x), (0.3, 1.0, 2.0, -0.7)
    ),
    "float32 inside": Function(
        lambda x: jax.lax.reduce_precision(jnp.sin(x), 8, 23) * x,
        lambda x: jnp.sin(x) + x * jnp.cos(x),
        (0.3, 1.0, 2.0, -0.7),
    ),
    "digamma": Function(jax.scipy.special.digamma, lambda x: jax.scipy.special.polygamma(1, x), (0.5, 1.4, 3.0, 10.0)),
    "relu": Function(lambda x: jnp.maximum(x, 0), lambda x: jnp.where(x > 0, 1.0, 0.0), (0.0, -1.0, 1.0, 2.0)),
}
KINDS, DTYPES = ("jvp", "vjp"), ("float64", "float32")
UNITS = {"one unit": (1.0, 1.0, 1.0, 1.0), "mixed units": (1e8, 1e-8, 1.0, 1e-4), "two outputs": (1e-8, 1.0, 1e4, 1e-3)}


def rule_of(one: Function, kind: str, units: str, factor: float = 1.0) -> Callable:
    """The rule, its derivative at one component off by a factor."""
    weights, split = np.asarray(UNITS[units]), units == "two outputs"
    wrong = np.where(np.arange(4) == one.seen, factor, 1.0)

    def value(x):
        y = one.f(x) * jnp.asarray(weights, x.dtype)
        return (y[:1], y[1:]) if split else y

    def slope(x):
        return one.slope(x) * jnp.asarray(weights * wrong, x.dtype)

    if kind == "jvp":
        rule = jax.custom_jvp(value)

        def push(primals, tangents):
            t = slope(*primals) * tangents[0]
            return value(*primals), (t[:1], t[1:]) if split else t

        rule.defjvp(push)
        return rule
    rule = jax.custom_vjp(value)
    rule.defvjp(lambda x: (value(x), x), lambda x, g: (slope(x) * (jnp.concatenate(g) if split else g),))
    return rule


def generated(every: int):
    """Every function in one of its ways, or one in so many; in all of them when all are asked for."""
    for number, name in enumerate(FUNCTIONS):
        ways = list(itertools.product(KINDS, DTYPES, UNITS))
        chosen = zlib.crc32(name.encode()) % len(ways)
        for k, way in enumerate(ways):
            fast = k == chosen and number % every == every - 1
            yield pytest.param(name, *way, marks=() if fast else pytest.mark.slow, id="-".join((name, *way)))


def modes(kind: str) -> tuple[str, ...]:
    return ("fwd", "rev") if kind == "jvp" else ("rev",)


@pytest.mark.filterwarnings("ignore::jaxcheck.GradientCheckWarning")
@pytest.mark.parametrize(("name", "kind", "dtype", "units"), generated(1))
def test_a_right_rule_is_not_accused(name, kind, dtype, units):
    one = FUNCTIONS[name]
    with jax.enable_x64(dtype == "float64"):
        check_grads(rule_of(one, kind, units), (jnp.asarray(one.at, dtype),), 1, modes(kind))


@pytest.mark.parametrize(("name", "kind", "dtype", "units"), generated(3))
def test_a_wrong_one_is(name, kind, dtype, units):
    one = FUNCTIONS[name]
    with jax.enable_x64(dtype == "float64"), pytest.raises(jc.GradientMismatch):
        check_grads(rule_of(one, kind, units, 1 + 1e-4), (jnp.asarray(one.at, dtype),), 1, modes(kind))
