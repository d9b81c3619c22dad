"""At second order, and where JAX's own derivative is all there is, differences of a known bar outweigh a derivative
that vouches for itself, however small it is off."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads

X = np.random.default_rng(0).normal(size=(2, 4))


def with_a_rule_inside(off):
    """sin; its derivative is right, and has a rule of its own that is off by this."""
    cos = jax.custom_jvp(jnp.cos)
    cos.defjvp(lambda x, t: (jnp.cos(x[0]), -(1 + off) * jnp.sin(x[0]) * t[0]))
    rule = jax.custom_vjp(jnp.sin)
    rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * cos(x),))
    return rule


def held_back(f, off):
    return lambda x: (1 - off) * f(x) + off * jax.lax.stop_gradient(f(x))


def with_a_part_held_back(off):
    rule = jax.custom_vjp(jnp.sin)
    rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * held_back(jnp.cos, off)(x),))
    return rule


def with_itself_inside(off):
    """The same of a forward rule, which calls itself: taken out, what is held back is left."""
    rule = jax.custom_jvp(jnp.sin)
    rule.defjvp(lambda x, t: (rule(x[0]), held_back(jnp.cos, off)(x[0]) * t[0]))
    return rule


@pytest.mark.slow
@pytest.mark.parametrize("make", [with_a_rule_inside, with_a_part_held_back, with_itself_inside])
def test_a_derivative_of_a_rule_that_is_off_by_little(make):
    check_grads(make(0.0), (X,), 2, modes=["rev"])
    for off in (1e-4, 1e-6):
        check_grads(make(off), (X,), 1, modes=["rev"])
        with pytest.raises(jc.GradientMismatch, match="VJP cotangent projection of VJP") as caught:
            check_grads(make(off), (X,), 2, modes=["rev"], rtol=1e-8)
        assert caught.value.report.reason is jc.Reason.SECOND_ORDER_WRONG


def test_what_the_caller_grants_passes():
    check_grads(with_a_rule_inside(1e-6), (X,), 2, modes=["rev"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_both_modes_of_jax_are_one_witness(mode):
    check_grads(held_back(jnp.sin, 0.0), (X,), 1, modes=[mode])
    with pytest.raises(jc.GradientMismatch) as caught:
        check_grads(held_back(jnp.sin, 1e-5), (X,), 1, modes=[mode])
    assert caught.value.report.reason is jc.Reason.NUMERIC_SUSPECT


def direction(rule_forgets):
    """x / |x|, whose forward rule may hold the norm fixed: the first derivative along x is zero either way."""
    f = jax.custom_jvp(lambda x: x / jnp.linalg.norm(x))

    @f.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        held = jnp.linalg.norm(x)
        held = jax.lax.stop_gradient(held) if rule_forgets else held
        u = x / held
        return f(x), (t - u * (u @ t)) / held

    return f


@pytest.mark.parametrize("modes", [("fwd",), ("rev",)])
@pytest.mark.slow
def test_a_function_that_does_not_depend_on_scale(modes):
    x = jnp.array([0.3, 1.0, -2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_grads(direction(False), (x,), 2, modes)
        check_grads(lambda x: x / jnp.linalg.norm(x), (x,), 2, modes)
    with pytest.raises(jc.GradientMismatch):
        check_grads(direction(True), (x,), 2, modes)


@jax.custom_vjp
def hidden(x, b):
    """x, with a derivative of b."""
    return x * 1.0


hidden.defvjp(lambda x, b: (x * 1.0, b), lambda b, g: (g * b, jnp.zeros_like(b)))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("entry", [1, 2])
def test_a_second_derivative_wrong_in_one_entry_is_not_hidden_by_its_cotangent(entry, seed):
    """Right at first order, its derivative 1 % off in one of four entries. One cotangent looks at it, of which no entry
    may be next to nothing."""
    x = np.random.default_rng(seed).normal(size=4)
    x[entry] = 1.3
    factors = np.ones(4)
    factors[entry] += 0.01

    @jax.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (3 * g * hidden(x, jnp.asarray(factors)) ** 2,))
    with jax.enable_x64(True):
        check_grads(cube, (x,), 1, ["rev"])
        with pytest.raises(AssertionError):
            check_grads(cube, (x,), 2, ["rev"])


def test_a_second_derivative_that_is_wrong_beside_a_zero_is_on_no_kink():
    """Beside the point the derivative of the rule is as wrong: that is no other piece of the function."""
    scale = jnp.asarray([0.0, 1e-3, 0.0, 0.0])

    @jax.custom_vjp
    def e(x):
        return jnp.exp(x)

    e.defvjp(lambda x: (jnp.exp(x), x), lambda x, g: (g * jnp.exp(x) * (1 + scale),))

    @jax.custom_vjp
    def f(x):
        return jnp.exp(x)

    f.defvjp(lambda x: (jnp.exp(x), x), lambda x, g: (g * e(x),))
    report = jc.check_rule(f, np.array([0.7, 0, -0.4, 1.1]), order=2, algebra=False, transforms=False, where=False)
    assert (report.verdict, report.reason) == (jc.Verdict.FAIL, jc.Reason.SECOND_ORDER_WRONG)
