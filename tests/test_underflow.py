"""What is zero in the caller's own dtype, and so no mistake there."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.formula import norms_along
from jaxcheck.test_util import check_grads

bell = lambda x: jnp.exp(-x * x)  # noqa: E731


def made(factor=1.0):
    """A rule that is zero in the tail."""
    rule = jax.custom_vjp(bell)
    slope = lambda x: jnp.where(jnp.abs(x) > 9, 0, -2 * x * bell(x) * factor)  # noqa: E731
    rule.defvjp(lambda x: (bell(x), x), lambda x, ct: (ct * slope(x),))
    return rule


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_slope_that_underflows_may_be_zero(dtype):
    x = jnp.array([0.5, 18.0, -1.0], dtype)
    assert jc.check_rule(made(), x)
    assert jc.check_grad(lambda x: jnp.sum(made()(x).astype(jnp.float32)), x)
    assert jc.check_rule(made(1.01), x).verdict is jc.Verdict.FAIL


def test_one_that_does_not_may_not():
    with jax.enable_x64(True):
        assert jc.check_rule(made(), np.array([0.5, 18.0, -1.0])).verdict is jc.Verdict.FAIL
    assert jc.check_rule(made(), jnp.array([0.5, 9.1, -1.0])).verdict is jc.Verdict.FAIL  # 2e-35


def test_a_clip_that_keeps_a_denominator_finite_is_no_mistake():
    rule = jax.custom_vjp(lambda x: jnp.tanh(100 * x))
    slope = lambda x: 100 / jnp.cosh(jnp.clip(100 * x, -80, 80)) ** 2  # noqa: E731
    rule.defvjp(lambda x: (jnp.tanh(100 * x), x), lambda x, ct: (ct * slope(x),))
    assert jc.check_rule(rule, jnp.array([0.0, 0.5, -1, 2, 1e-3])).verdict is not jc.Verdict.FAIL


def test_a_guard_that_is_zero_in_half_precision_is_not_the_rules():
    norm = lambda x: jnp.sqrt(x * x + 1e-12)  # noqa: E731
    rule = jax.custom_vjp(norm)
    rule.defvjp(lambda x: (norm(x), x), lambda x, ct: (ct * x / norm(x),))
    assert jc.check_rule(rule, jnp.array([0.0, 0.5, -1]))


UNBOUNDED = {
    "root on both sides": lambda x: jnp.sqrt(jnp.abs(x)),
    "cube root": jnp.cbrt,
    "root on one": lambda x: jnp.where(x > 0, jnp.sqrt(jnp.abs(x)), x),
    "x log x": lambda x: jnp.where(x > 0, x * jnp.log(jnp.where(x > 0, x, 1.0)), x),
}


@pytest.mark.parametrize("name", UNBOUNDED)
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_where_the_slope_is_no_number_nor_need_the_gradient_be(name, number):
    def loss(x):
        return jnp.sum(UNBOUNDED[name](x))

    def gradient(x):
        return jax.grad(loss)(jnp.where(x == 0, 1.0, x)) * jnp.where(x == 0, number, 1.0)

    report = jc.check_grad(loss, np.array([0.0, 1.0, 0.5]), gradient)
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.NONFINITE), report
    assert jc.check_grad(loss, np.array([0.3, 1.0, 0.5]), gradient)


@pytest.mark.parametrize("loss", [lambda x: jnp.sum(x**2), lambda x: jnp.sum(jnp.abs(x)), lambda x: jnp.sum(x**3)])
def test_where_the_slope_is_a_number_no_number_is_wrong(loss):
    for x in (np.array([0.0, 1.0]), np.array([1e-3, 1.0])):
        report = jc.check_grad(loss, x, lambda x: jax.grad(loss)(x).at[0].set(jnp.nan), where=False)
        assert (report.verdict, report.reason) == (jc.Verdict.FAIL, jc.Reason.NONFINITE), report


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0])
def test_where_all_of_a_leaf_underflows_nothing_of_it_is_judged(factor):
    x = jnp.array([18.0, -20.0, 19.0])
    report = jc.check_grad(lambda x: jnp.sum(bell(x)), x, lambda x: -factor * 2 * x * bell(x), where=False)
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.VACUOUS), report


@pytest.mark.parametrize("right", [True, False])
def test_a_small_gradient_in_half_precision_is_judged_by_its_digits(right):
    x = jnp.linspace(-1, 1, 9).astype(jnp.float16)
    loss = lambda x: 1e-6 * jnp.sum(jnp.sin(x.astype(jnp.float32)))  # noqa: E731
    slope = jnp.cos if right else jnp.sin
    report = jc.check_grad(loss, x, lambda x: (1e-6 * slope(x.astype(jnp.float32))).astype(x.dtype), where=False)
    assert report.verdict is (jc.Verdict.PASS if right else jc.Verdict.FAIL), report


@pytest.mark.parametrize("x", [[15.0, -20.0, 40.0], [10.0], [8.0]])
def test_no_transformation_accuses_of_what_underflows(x):
    """Its slope, 2 exp(-x^2) / sqrt(pi), is 1e-98 at 15."""
    rule = jax.custom_vjp(lambda x: jax.lax.erf(x))
    rule.defvjp(lambda x: (jax.lax.erf(x), x), lambda x, g: jax.vjp(jax.lax.erf, x)[1](g))
    report = jc.check_rule(rule, np.array(x, np.float32))
    assert report.verdict is not jc.Verdict.FAIL, report


def test_squares_that_underflow_leave_bars():
    """The cotangent of an output of 1e-195 is weighed by it: its rounding is 1e-205, and not nothing."""
    with jax.enable_x64(True):
        check_grads(lambda x: jax.nn.gelu(x, approximate=False), (np.array([1e-8, -30.0, 1.0]),), 1, modes=["rev"])


def test_a_norm_along_directions_neither_vanishes_nor_overflows():
    directions = np.array([[1e-200, 0.0, 1.0], [0.0, 0.0, 3.0]])
    g = np.array([[1e-100, 5.0, 0.0], [0.0, 1.0, 2.0], [1e200, 1e200, 1e200]])
    wanted = [[1e-300, 2, 1e200], [0, 6, 3e200]]
    np.testing.assert_allclose(norms_along(directions, g), wanted, rtol=1e-15)
