"""What people hold and JAX runs: numbers taken out by .item(), mutable arrays, linear calls, modules of flax.nnx."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc

RNG = np.random.default_rng(2)
W, X = (jnp.asarray(RNG.normal(size=s), jnp.float32) for s in ((4, 3), (6, 4)))


@pytest.mark.parametrize(
    ("loss", "leaf"),
    [
        (lambda p: jnp.mean(jnp.tanh(X @ p) ** 2) + 0.1 * jnp.sum(p**2).item(), "0.2 x parameter"),
        (lambda p: jnp.sum(p**2).item(), "exactly zero"),
    ],
)
def test_what_item_hides_from_jax_is_found(loss, leaf):
    for gradient in None, jax.grad(loss):
        report = jc.check_grad(loss, W, gradient)
        assert report.verdict is jc.Verdict.FAIL and leaf in report.leaves[0].hint and ".item()" in report.reason.advice


def test_a_right_gradient_of_a_loss_with_item():
    def loss(p):
        return jnp.sum(jnp.sin(p)).item()

    assert jc.check_grad(loss, W, jnp.cos)
    assert jc.check_grad(loss, W, lambda p: 1.01 * jnp.cos(p)).verdict is jc.Verdict.FAIL


@pytest.mark.skipif(not hasattr(jax, "new_ref"), reason="this JAX has no mutable arrays")
def test_mutable_arrays_outside_of_the_loss():
    scale, count = jax.new_ref(jnp.full((), 1.5)), jax.new_ref(jnp.zeros((), jnp.int32))

    def loss(p):
        count[...] += 1
        return jnp.sum(jnp.sin(p)) * scale[...]

    for factor in 1.0, 1.01:
        report = jc.check_grad(loss, W, lambda p, factor=factor: factor * jnp.cos(p) * scale[...], where=False)
        assert bool(report) is (factor == 1.0), report
    with pytest.raises(TypeError, match=r"`args\[0\]` is a Ref.*ref\[\.\.\.\]"):
        jc.check_grad(lambda p, s: jnp.sum(p) * s[...], W, args=(scale,))
    with pytest.raises(TypeError, match=r"reads or writes a Ref .* made outside of it"):
        jc.check_rule(lambda p: jnp.sin(p) * scale[...], W)


@pytest.mark.slow
def test_linear_calls_are_run_row_by_row():
    """JAX has no batching rule for them."""

    def tripled(z):
        return jax.custom_derivatives.linear_call(lambda _, z: 3.0 * z, lambda _, ct: 3.0 * ct, (), z)

    def loss(p):
        return jnp.sum(jnp.sin(tripled(X @ p)))

    for factor in 1.0, 1.01:

        def hand(p, factor=factor):
            return factor * X.T @ (3 * jnp.cos(3 * (X @ p)))

        assert bool(jc.check_grad(loss, W, hand, where=False)) is (factor == 1.0)
        assert bool(jc.check_batch(loss, jnp.stack([W, 2 * W]), hand)) is (factor == 1.0)
    assert jc.check_rule(lambda z: jnp.sin(tripled(z)), X, level="quick")


def test_modules_of_nnx_carry_what_is_no_parameter():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.dense, self.norm = nnx.Linear(4, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)
            self.drop = nnx.Dropout(0.0, rngs=rngs)

        def __call__(self, x):
            return self.drop(self.norm(self.dense(x)))

    def loss(module):
        return jnp.mean(jnp.sin(module(X)) ** 2)

    for factor in 1.0, 1.01:

        def hand(module, factor=factor):
            grads = nnx.grad(loss)(module)
            grads["norm"]["scale"].value = factor * grads["norm"]["scale"].value
            return grads

        report = jc.check_grad(loss, Net(nnx.Rngs(0)), hand, where=False)
        assert [leaf.path for leaf in report.failed] == ([] if factor == 1.0 else ["norm.scale.value"]), report
        assert {"norm.mean.value", "norm.var.value"} <= {path for path, _ in report.carried}


def test_a_big_endian_array_is_told_its_own_size():
    with pytest.raises(TypeError, match=r"use x\.astype\(np\.float32\)"):
        jc.check_grad(lambda p: jnp.sum(p), np.ones(3, ">f4"))
