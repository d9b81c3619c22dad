"""Textbook rules in float32 where little is left of an intermediate near 1: right, be what autodiff makes of it more
precise. Its own rounding explains what such a rule loses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc


def sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + jnp.tanh(0.8 * (x + 0.044715 * x**3)))


def gelu_slope(x):
    t = jnp.tanh(0.8 * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * 0.8 * (1 + 0.134145 * x**2)


# (function, slope by the value and the argument, where)
RULES = {
    "sigmoid": (sigmoid, lambda y, x: y * (1 - y), [8.0, -9.0, 12.0]),
    "sigmoid alone": (sigmoid, lambda y, x: y * (1 - y), [9.0]),
    "cross entropy of two": (lambda x: -jnp.log(sigmoid(x)), lambda y, x: sigmoid(x) - 1, [9.0, 10.0]),
    "softplus": (jnp.logaddexp, lambda y, x: 1 - 1 / (1 + jnp.exp(x)), [-9.0, -10.0]),
    "elu": (jnp.expm1, lambda y, x: y + 1, [-9.0, -10.0]),
    "gelu": (gelu, lambda y, x: gelu_slope(x), [-5.0, 1.0]),
}


def made(name, factor=1.0):
    f, slope, _ = RULES[name]
    function = (lambda x: jnp.logaddexp(x, 0.0)) if f is jnp.logaddexp else lambda x: f(x)
    rule = jax.custom_vjp(function)
    rule.defvjp(lambda x: (function(x), (function(x), x)), lambda kept, g: (g * factor * slope(*kept),))
    return rule


@pytest.mark.parametrize("name", RULES)
def test_what_rounding_takes_is_no_mistake(name):
    report = jc.check_rule(made(name), np.array(RULES[name][2], np.float32))
    assert report.verdict is not jc.Verdict.FAIL, report
    assert report or report.reason is jc.Reason.PRECISION


@pytest.mark.parametrize("name", ["sigmoid", "gelu"])
def test_a_wrong_factor_is(name):
    assert not jc.check_rule(made(name, 1.01), np.array(RULES[name][2], np.float32), where=False)


def test_where_a_narrower_dtype_inside_takes_it_autodiff_says_so():
    rule = jax.custom_vjp(lambda x: sigmoid(x))
    coarse = lambda y, g: (g * (y.astype(jnp.bfloat16) * (1 - y.astype(jnp.bfloat16))).astype(y.dtype),)  # noqa: E731
    rule.defvjp(lambda x: (sigmoid(x), sigmoid(x)), coarse)
    assert not jc.check_rule(rule, np.array([0.3, -1.2, 2.0], np.float32), where=False)
