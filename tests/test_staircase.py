"""Losses and gradients of Python's that are rounded inside: stairs that look exact to the unit of their values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.evidence.staircase import coarseness, unit


def saturated(seed: int, margin: float):
    """Softmax cross-entropy, trained until the smallest margin is this: (loss, backprop, W, loss in jnp, x)."""
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(10, 4)), rng.normal(size=(4, 3))
    labels, order = (x @ w).argmax(1), np.sort(x @ w, 1)
    # A number that float32 holds: the loss in jnp sees the same.
    scale, rows = float(np.float32(margin / (order[:, 2] - order[:, 1]).min())), np.arange(10)

    def loss(w, x=x):
        z = scale * (x @ w)
        z = z - z.max(1, keepdims=True)
        return -(z[rows, labels] - np.log(np.exp(z).sum(1))).mean()

    def backprop(w, x=x):
        z = scale * (x @ w)
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[rows, labels] -= 1
        return scale * x.T @ p / 10

    return loss, backprop, w, lambda w, x: -jax.nn.log_softmax(scale * (x @ w))[rows, labels].mean(), x


@pytest.mark.parametrize(("seed", "margin"), [(11, 12), (11, 18), (6, 18), (1, 24), (2, 12)])
def test_a_right_backprop_at_saturation_is_not_accused(seed, margin):
    loss, backprop, w, in_jnp, x = saturated(seed, margin)
    for f in loss, in_jnp:
        report = jc.check_grad(f, w, backprop, args=(x,), where=False)
        assert report.verdict is not jc.Verdict.FAIL, report


def test_a_wrong_one_is():
    loss, backprop, w, in_jnp, x = saturated(11, 12)

    def wrong(w, x):
        g = backprop(w, x)
        g[:, 1] *= 1.01
        return g

    for f in loss, in_jnp:
        assert jc.check_grad(f, w, wrong, args=(x,), where=False).verdict is jc.Verdict.FAIL


@pytest.mark.parametrize("margin", [12, 18, 24])
def test_stairs_are_seen(margin):
    """Those of 1 + exp(-margin), in a mean of ten."""
    loss, backprop, w, *_ = saturated(11, margin)

    def flat(f):
        return lambda v: f(v.reshape(w.shape))

    assert 1e-18 < unit(flat(loss), w.ravel(), 0) * loss(w) < 1e-16
    assert 1e-18 < coarseness(flat(backprop), w.ravel(), 0).max() < 1e-14


def test_kinks_are_no_stairs():
    rng = np.random.default_rng(0)
    for distance in 10 ** rng.uniform(-9, -1, 60):
        x = rng.normal(size=3) + 2

        def kinked(v, x=x, distance=distance):
            return np.maximum(v[0] - x[0] * (1 + distance), 0) + np.sin(v).sum()

        assert coarseness(kinked, x, 0) < 1e-14


def test_what_is_computed_in_full_has_no_coarser_unit():
    for f in (lambda v: np.sin(v).sum(), lambda v: 1e-30 * (v**3).sum(), lambda v: 0.0):
        assert unit(f, np.array([0.3, -1.0, 2.0, 0.0]), 0) < 1e-14


@pytest.mark.parametrize("rate", [1e4, 1e5])
@pytest.mark.parametrize("xp", [np, jnp])
def test_what_oscillates_is_no_staircase(rate, xp):
    w = np.array([0.3, 0.7, -1.2])

    def loss(w):
        return xp.sum(xp.sin(rate * w))

    def grad(w):
        return rate * np.cos(rate * np.asarray(w))

    assert coarseness(lambda w: np.sin(rate * w).sum(), w, 0).max() < 1e-9
    assert jc.check_grad(loss, w, grad, where=False).ok
    for factor in (2, -1, 1.003):
        report = jc.check_grad(loss, w, lambda w, factor=factor: factor * grad(w), where=False)
        assert report.reason is jc.Reason.MANUAL_WRONG, report


@pytest.mark.parametrize("size", [1e-7, 1e-5])
def test_a_small_oscillation_of_steep_slope_is_none(size):
    w = np.array([0.3, 0.7, -1.2])

    def loss(w):
        return np.sum(np.tanh(w) + size * np.sin(1e4 * w))

    def grad(w):
        return 1 - np.tanh(w) ** 2 + size * 1e4 * np.cos(1e4 * w)

    assert jc.check_grad(loss, w, grad, where=False).ok
    report = jc.check_grad(loss, w, lambda w: 1.0015 * grad(w), where=False)
    assert report.reason is jc.Reason.MANUAL_WRONG, report


@pytest.mark.parametrize("size", [6, 50])
@pytest.mark.parametrize(("dtype", "value"), [(np.float64, 0.0), (np.float32, 0.0), (np.float64, 1.0)])
def test_of_a_value_that_cancels_nothing_is_a_part(size, dtype, value):
    """sum(w^3) on both sides of zero is 0, and its slopes are not."""
    point = np.linspace(-1, 1, size)
    loss = lambda w: float(np.sum(np.asarray(w, dtype) ** 3)) + value  # noqa: E731
    right = jc.check_grad(loss, point, grad=lambda w: 3 * np.asarray(w) ** 2)
    assert right or (dtype is np.float32 and right.verdict is not jc.Verdict.FAIL), right
    assert jc.check_grad(loss, point, grad=lambda w: 6 * np.asarray(w) ** 2).verdict is jc.Verdict.FAIL


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3])
@pytest.mark.parametrize("off", [0.0, 3e-7])
def test_a_float32_fit_next_to_its_optimum_is_on_no_kink_and_nobody_is_accused(noise, off):
    """What cancels in the residual is most of the gradient."""
    for k in range(4):
        rng = np.random.default_rng(k)
        x, w = (rng.normal(size=s).astype(np.float32) for s in ((30, 4), (4,)))
        y = (x @ w + noise * rng.normal(size=30)).astype(np.float32)
        best = np.linalg.lstsq(x.astype(float), y.astype(float), rcond=None)[0]

        def loss(p, x=x, y=y):
            return float(np.mean((x @ p.astype(np.float32) - y) ** 2))

        def gradient(p, x=x, y=y):
            return 2 * x.T @ (x @ p.astype(np.float32) - y) / 30

        report = jc.check_grad(loss, (best * (1 + off)).astype(np.float32), gradient, where=False)
        assert report.verdict is jc.Verdict.INCONCLUSIVE, (k, report)
        far = (best + 1).astype(np.float32)
        assert jc.check_grad(loss, far, gradient)
        assert not jc.check_grad(loss, far, lambda p, gradient=gradient: 1.01 * gradient(p), where=False)
