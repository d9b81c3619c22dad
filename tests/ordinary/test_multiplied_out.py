"""NumPy data that the gradient multiplies out before JAX rounds it: the loss sees it rounded at another place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc

# The last is one at which the two roundings are further apart than 1e-7.
SEEDS = (0, 1, 2, 7)


def problem(seed):
    rng = np.random.default_rng(seed)
    X, scale = rng.normal(size=(3, 2)), float(rng.normal())

    def loss(w):
        return jnp.sum(jnp.tanh(scale * (X @ w)) ** 2)

    def backprop(w):
        out = jnp.tanh(scale * (X @ w))
        return scale * X.T @ (2 * out * (1 - out**2))

    return loss, backprop, rng.normal(size=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_right_gradient_passes(seed):
    loss, backprop, w = problem(seed)
    report = jc.check_grad(loss, w, grad=backprop)
    assert report.ok and report.reason is jc.Reason.AGREE, report
    assert report.difference > 1e-10  # otherwise nothing was rounded at another place, and nothing was tried


@pytest.mark.parametrize("factor", [1 + 1e-5, 1 - 1e-5])
def test_one_that_is_slightly_off_fails(factor):
    loss, backprop, w = problem(0)
    assert jc.check_grad(loss, w, grad=lambda w: factor * backprop(w)).verdict is jc.Verdict.FAIL


def test_the_same_data_in_both_excuses_nothing():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10, 3))
    report = jc.check_grad(
        lambda w: jnp.sum((X @ w) ** 2) / 2, rng.normal(size=3), grad=lambda w: (1 + 3e-7) * (X.T @ (X @ w))
    )
    assert report.verdict is jc.Verdict.FAIL


def test_after_the_same_data_was_seen_in_the_other_mode():
    for seed in SEEDS:
        loss, backprop, w = problem(seed)
        assert jc.check_grad(loss, w, grad=backprop).ok
        with jax.enable_x64(True):
            assert jc.check_grad(loss, w, grad=backprop).ok
            assert not jc.check_grad(loss, w, grad=lambda w: 1.001 * backprop(w)).ok  # noqa: B023
