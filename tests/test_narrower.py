"""Gradients that compute in a narrower dtype than their loss: what they lose to that is their own, and told."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.result import Reason
from jaxcheck.test_util import check_grads

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=40), jnp.float32)
W, DATA = (RNG.normal(size=s).astype(np.float32) for s in ((8, 4), (16, 8)))


def kept_in(dtype):
    f = jax.custom_vjp(jnp.tanh)
    f.defvjp(lambda x: (jnp.tanh(x), x.astype(dtype)), lambda x, g: (g * (1 - jnp.tanh(x.astype(g.dtype)) ** 2),))
    return f


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float8_e4m3fn])
def test_a_rule_that_keeps_too_little_is_told(dtype):
    f = kept_in(dtype)
    report = jc.check_grad(lambda x: jnp.sum(f(x) * jnp.cos(x)), X)
    assert report.reason is Reason.PRECISION_WRONG, report
    assert f"it computes in {jnp.dtype(dtype).name}, which the loss does not" in report.leaves[0].note
    assert jc.check_rule(f, X, level="full").verdict is jc.Verdict.FAIL
    with pytest.warns(jc.GradientCheckWarning, match=f"its derivative computes in {jnp.dtype(dtype).name}"):
        check_grads(f, (X,), 1, "rev")


def test_one_that_keeps_all_is_not():
    f = kept_in(jnp.float32)
    assert jc.check_grad(lambda x: jnp.sum(f(x) * jnp.cos(x)), X).ok
    with warnings.catch_warnings():
        warnings.simplefilter("error", jc.GradientCheckWarning)
        check_grads(f, (X,), 1, "rev")


def loss(w, x):
    return jnp.mean(jnp.tanh(x @ w) ** 2)


def product_in(dtype):
    def grad(w, x):
        h = jnp.tanh(x @ w)
        d = 2 * h * (1 - h**2) / h.size
        return (x.astype(dtype).T @ d.astype(dtype)).astype(w.dtype)

    return grad


def test_a_narrow_product_is_told_and_may_be_granted():
    assert jc.check_grad(loss, W, product_in(jnp.float32), args=(DATA,)).ok
    report = jc.check_grad(loss, W, product_in(jnp.bfloat16), args=(DATA,))
    assert report.reason is Reason.PRECISION_WRONG, report
    assert jc.check_grad(loss, W, product_in(jnp.bfloat16), args=(DATA,), tolerance=1e-2).ok


def test_a_loss_as_narrow_explains_it():
    """Mixed precision: what the loss rounds its gradient may."""

    def mixed(w, x):
        return jnp.mean(jnp.tanh((x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(jnp.float32)) ** 2)

    assert jc.check_grad(mixed, W, jax.grad(mixed), args=(DATA,)).verdict is not jc.Verdict.FAIL
