"""A gradient of NumPy's in float64 is right or wrong at the numbers as they are, not at what float32 makes of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.check.wider import AT_FULL_LENGTH


def _regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)) * [1, 10, 100, 1000]
    y = x @ np.arange(1, 5.0) + 0.01 * rng.normal(size=50)
    w = np.linalg.lstsq(x, y, rcond=None)[0] + 1e-6
    return lambda w: ((x @ w - y) ** 2).mean(), w, 2 * x.T @ (x @ w - y) / 50


def _far_out():
    t, v = np.array([20000.1, 20000.7]), np.array([1.5, 2.0])
    return lambda v: jnp.sum(jnp.sin(v * t)), v, np.cos(v * t) * t


def _near_an_edge():
    x = 1 + np.array([1.1e-5, 2.3e-5])
    return lambda x: jnp.sum(jnp.log(x - 1)), x, 1 / (x - 1)


@pytest.mark.parametrize("case", [_regression, _far_out, _near_an_edge])
def test_numbers_at_a_point_that_float32_would_round(case):
    loss, x, g = case()
    right = jc.check_grad(loss, x, g)
    assert right.ok and AT_FULL_LENGTH in right.notes, str(right)
    assert not jax.config.jax_enable_x64
    wrong = jc.check_grad(loss, x, g * np.where(np.arange(len(g)) == 1, 1.001, 1.0))
    assert wrong.verdict is jc.Verdict.FAIL and wrong.leaves[0].worst[0].index == (1,), str(wrong)


def test_one_entry_that_is_wrong_is_told_as_one():
    w = np.random.default_rng(0).normal(size=(40, 40))
    h = np.tanh(w)
    g = 2 * h * (1 - h**2) / h.size
    g[5, 5] *= 1.5
    report = jc.check_grad(lambda w: jnp.mean(jnp.tanh(w) ** 2), w, g)
    assert report.leaves[0].hint.startswith("1 of 1600 entries is wrong"), str(report)


def test_a_loss_of_one_mode_alone_keeps_its_verdict():
    """Where the loss cannot run in the 64-bit mode, what was found stays."""
    x = np.array([0.5, 1.5])

    def loss(x):
        if x.dtype == jnp.float64 and jax.config.jax_enable_x64 and not isinstance(x, np.ndarray):
            raise TypeError("float32 alone")
        return jnp.sum(x**2)

    assert jc.check_grad(loss, x, 2.5 * x).verdict is jc.Verdict.FAIL


def test_float32_numbers_are_judged_once():
    x = np.array([0.5, 1.5], np.float32)
    report = jc.check_grad(lambda x: jnp.sum(x**2), x, 2.5 * x)
    assert report.verdict is jc.Verdict.FAIL and AT_FULL_LENGTH not in report.notes
