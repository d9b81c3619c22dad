"""Functions that work on the bits of their numbers: JAX loses derivatives there and says nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck.program.bits import loses_derivatives
from jaxcheck.test_util import check_grads

X = np.array([0.31, 2.57, 9.3])
MODES = [(np.float32, False), (np.float32, True), (np.float64, True)]


def through(x):
    """x, by way of its bits."""
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}") + 0, x.dtype)


def log2(x):
    """The logarithm of positive float32 numbers, as kernels take it: the exponent, and the mantissa's."""
    i = lax.bitcast_convert_type(x, jnp.int32)
    mantissa = lax.bitcast_convert_type((i & 0x7FFFFF) | 0x3F800000, jnp.float32)
    return ((i >> 23) - 127).astype(jnp.float32) + jnp.log2(mantissa)


LOSING = {
    "through": through,
    "jit": jax.jit(through),
    "scan": lambda x: lax.scan(lambda c, _: (through(c), None), x, None, length=2)[0],
    "while": lambda x: lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, through(c[1])), (0, x))[1],
    "cond": lambda x: lax.cond(True, through, lambda x: x, x),
    "as a number": lambda x: lax.bitcast_convert_type(x, jnp.int32).astype(jnp.float32) * 1.2e-7,
    "carried as bits": lambda x: lax.bitcast_convert_type(
        lax.fori_loop(0, 2, lambda _, i: i + 1, lax.bitcast_convert_type(x, jnp.int32)), jnp.float32
    ),
}
KEEPING = {
    "frexp": lambda x: jnp.frexp(x)[0],
    "ldexp": lambda x: jnp.ldexp(x, 2),
    "copysign": lambda x: jnp.copysign(x, -x),
    "rounded": lambda x: jnp.floor(x) + x,
    "looked up": lambda x: jnp.arange(512.0)[lax.bitcast_convert_type(x, jnp.int32) >> 23] * x,
    "dropout": lambda x: jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, x.shape), x, 0),
    "gamma": lambda x: jax.random.gamma(jax.random.key(0), x),
    "bfloat16": lambda x: x.astype(jnp.bfloat16).astype(x.dtype),
}


@pytest.mark.parametrize("name", [*LOSING, *KEEPING])
def test_where_derivatives_are_lost(name):
    f = LOSING.get(name) or KEEPING[name]
    assert loses_derivatives(jax.make_jaxpr(f)(jnp.asarray(X, jnp.float32)), 1) == (name in LOSING)


def test_bits_of_what_does_not_move_lose_nothing():
    closed = jax.make_jaxpr(lambda x, y: x * through(y))(jnp.float32(1), jnp.float32(2))
    assert not loses_derivatives(closed, 1) and loses_derivatives(closed, 2)


@pytest.mark.parametrize(("dtype", "x64"), MODES)
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_autodiff_is_no_witness(dtype, x64, factor):
    """Hand-written: right, and 1 % off. Without what goes through the bits: as JAX has it, with which it agrees."""

    def loss(w):
        return jnp.sum(jnp.sin(w)) + 3 * jnp.sum(jnp.cos(through(w)))

    with jax.enable_x64(x64):
        x = jnp.asarray(X, dtype)
        right = jc.check_grad(loss, x, lambda w: factor * (jnp.cos(w) - 3 * jnp.sin(w)))
        assert right.ok == (factor == 1), right
        assert jc.check_batch(loss, [x, 0.9 * x], lambda w: factor * (jnp.cos(w) - 3 * jnp.sin(w))).ok == (factor == 1)
        assert jc.check_grad(loss, x, jnp.cos).verdict is jc.Verdict.FAIL


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 1.02])
def test_rules_around_bits(factor):
    """A rule that is right where autodiff is not, in the precision that its function is made for."""
    f = jax.custom_jvp(log2)
    f.defjvp(lambda p, t: (f(*p), factor * t[0] / (p[0] * np.float32(np.log(2)))))
    x = jnp.asarray(X, jnp.float32)
    assert jc.check_rule(f, x, transforms=False).ok == (factor == 1)
    assert jc.check_grad(lambda x: jnp.sum(x * f(x)), x).ok == (factor == 1)
    if factor == 1:
        check_grads(f, (x,), 1)
    else:
        with pytest.raises(AssertionError):
            check_grads(f, (x,), 1)


def test_a_gradient_made_for_one_width():
    """Traced in 64 bits, log2 has one axis more, and a gradient of another shape."""
    x = jnp.asarray(X, jnp.float32)
    one = np.float32(1 / np.log(2))
    assert jc.check_grad(lambda x: jnp.sum(x * jnp.log2(x)), x, lambda x: log2(x) + one)
    assert not jc.check_grad(lambda x: jnp.sum(x * jnp.log2(x)), x, log2)


def test_jaxs_own_derivative_is_told_to_be_none():
    with jax.enable_x64(True):
        report = jc.check_grad(lambda w: jnp.sum(jnp.cos(through(w))), jnp.asarray(X))
    assert report.verdict is jc.Verdict.FAIL and any("bits" in note for note in report.notes), report
