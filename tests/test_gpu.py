"""On an accelerator: the same verdicts as on CPU, in float64, and the batch that the accelerator is for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc

SHAPES = {"W1": (5, 4), "b1": (5, 1), "W2": (3, 5), "b2": (3, 1), "W3": (1, 3), "b3": (1, 1)}


def init(key):
    keys = jax.random.split(key, len(SHAPES))
    return {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, SHAPES.items(), strict=True)}


def loss(p, x, y):
    h = jnp.tanh(p["W1"] @ x + p["b1"])
    h = jnp.tanh(p["W2"] @ h + p["b2"])
    return jnp.mean((p["W3"] @ h + p["b3"] - y) ** 2)


def backprop(p, x, y, factor=1.0):
    g = jax.grad(loss)(p, x, y)
    return {**g, "W2": factor * g["W2"]}


def data(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, 7)).astype(np.float32), rng.normal(size=(1, 7)).astype(np.float32)


@pytest.mark.gpu
@pytest.mark.parametrize("factor", [1.0, 2.0, 1.00001])
def test_the_verdict_of_one_point(factor, seed):
    report = jc.check_grad(loss, init(jax.random.key(seed)), lambda p, x, y: backprop(p, x, y, factor), args=data(seed))
    assert report.ok == (factor == 1.0), str(report)
    assert [leaf.path for leaf in report.leaves if leaf.verdict is jc.Verdict.FAIL] == (["W2"] if factor != 1 else [])


@pytest.mark.gpu
def test_ten_thousand_points(seed):
    report = jc.check_batch(loss, init=init, n=10_000, grad=backprop, args=data(seed), seed=seed)
    assert report.ok and report.notes[0].startswith("10000 points: 10000 pass"), str(report)


@pytest.mark.gpu
def test_every_component(seed):
    p = init(jax.random.key(seed))
    report = jc.check_grad(loss, p, backprop, args=data(seed), mode=jc.Exhaustive())
    assert report.ok and report.difference < 1e-9, str(report)


def test_the_same_checks_find_the_same_on_this_machine(seed):
    """So that the tests above are known to be able to fail where no accelerator is."""
    p, args = init(jax.random.key(seed)), data(seed)
    assert jc.check_grad(loss, p, backprop, args=args).ok
    wrong = jc.check_grad(loss, p, lambda p, x, y: backprop(p, x, y, 1.00001), args=args)
    assert [leaf.path for leaf in wrong.leaves if leaf.verdict is jc.Verdict.FAIL] == ["W2"]
    assert jc.check_batch(loss, init=init, n=20, grad=backprop, args=args, seed=seed).ok
