"""Gradients that are zero but for their rounding, or small beside the loss: networks as they are initialised."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads


def tanh_network(xp, dtype, rows: int, seed: int):
    """One hidden layer at 0.01 randn, half of the labels 1: the gradient of the last bias is rounding, or nearly."""
    rng = np.random.RandomState(seed)
    x, y = xp.asarray(rng.randn(4, rows), dtype), xp.asarray(np.arange(rows) % 2, dtype)[None]
    params = {
        "W1": xp.asarray(rng.randn(5, 4) * 0.01, dtype),
        "b1": xp.zeros((5, 1), dtype),
        "W2": xp.asarray(rng.randn(1, 5) * 0.01, dtype),
        "b2": xp.zeros((1, 1), dtype),
    }

    def forward(p):
        h = xp.tanh(p["W1"] @ x + p["b1"])
        return h, 1 / (1 + xp.exp(-(p["W2"] @ h + p["b2"])))

    def loss(p):
        q = forward(p)[1]
        return -xp.mean(y * xp.log(q) + (1 - y) * xp.log(1 - q))

    def backprop(p):
        h, a = forward(p)
        d = (a - y) / rows
        dh = p["W2"].T @ d * (1 - h * h)
        return {"W1": dh @ x.T, "b1": dh.sum(1, keepdims=True), "W2": d @ h.T, "b2": d.sum(1, keepdims=True)}

    return loss, params, backprop


@pytest.mark.parametrize("rows", [20, 200])
def test_numpy_in_float32_at_balanced_labels(rows):
    for seed in range(5):
        loss, params, backprop = tanh_network(np, np.float32, rows, seed)
        report = jc.check_grad(loss, params, backprop, where=False)
        assert report, report


def test_a_mistake_in_float32_alone_is_no_rounding():
    loss, params, backprop = tanh_network(np, np.float32, 20, 0)

    def clamped(p):
        g = backprop(p)
        return {**g, "W2": g["W2"] * (1.01 if p["W2"].dtype == np.float32 else 1.0)}

    report = jc.check_grad(loss, params, clamped, where=False)
    assert (report.reason, [leaf.path for leaf in report.failed]) == (jc.Reason.PRECISION_WRONG, ["W2"]), report


def softmax_regression(xp, dtype, classes: int, rows: int):
    rng = np.random.RandomState(0)
    x, hot = xp.asarray(rng.randn(rows, 4), dtype), xp.asarray(np.eye(classes)[np.arange(rows) % classes], dtype)

    def softmax(p):
        z = x @ p["W"] + p["b"]
        e = xp.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def loss(p):
        return -xp.mean((hot * xp.log(softmax(p))).sum(1))

    def backprop(p):
        d = (softmax(p) - hot) / rows
        return {"W": x.T @ d, "b": d.sum(0)}

    return loss, {"W": xp.zeros((4, classes), dtype), "b": xp.zeros(classes, dtype)}, backprop


@pytest.mark.parametrize(("xp", "dtype"), [(np, np.float32), (np, np.float64), (jnp, np.float32)])
@pytest.mark.parametrize(("classes", "rows"), [(3, 12), (10, 50)])
def test_softmax_at_zero_weights_and_balanced_classes(xp, dtype, classes, rows):
    loss, params, backprop = softmax_regression(xp, dtype, classes, rows)
    for gradient in (backprop, *([None] if xp is jnp else [])):
        report = jc.check_grad(loss, params, gradient, where=False)
        assert report and report["b"].floor < 1e-9, report

    def shifted(p):
        return {**backprop(p), "b": backprop(p)["b"] + xp.asarray(1e-6, dtype)}

    assert [leaf.path for leaf in jc.check_grad(loss, params, shifted, where=False).failed] == ["b"]


def test_what_float32_leaves_of_a_zero_is_no_mistake():
    """Autodiff of cos^2 + sin^2 is exactly 0; by the addition theorem it is 0 but for rounding."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)), jnp.float32)
    report = jc.check_grad(
        lambda p: jnp.sum(jnp.cos(p["x"]) ** 2 + jnp.sin(p["x"]) ** 2) + jnp.sum(p["w"] ** 2),
        {"x": x[0], "w": x[1]},
        lambda p: {"x": jnp.sin(2 * p["x"]) - 2 * jnp.sin(p["x"]) * jnp.cos(p["x"]), "w": 2 * p["w"]},
        where=False,
    )
    assert report, report


def deep_network(seed: int):
    """Four layers at 0.01 randn, in NumPy: the first ones move the loss by 1e-7 of itself."""
    sizes, rng = (4, 6, 5, 4, 1), np.random.RandomState(seed)
    x, y = rng.randn(4, 20), (rng.rand(1, 20) < 0.5) * 1.0
    params = {f"W{k}": rng.randn(sizes[k], sizes[k - 1]) * 0.01 for k in range(1, 5)}
    params |= {f"b{k}": np.zeros((sizes[k], 1)) for k in range(1, 5)}

    def forward(p):
        kept = [x]
        for k in range(1, 5):
            z = p[f"W{k}"] @ kept[-1] + p[f"b{k}"]
            kept.append(np.tanh(z) if k < 4 else 1 / (1 + np.exp(-z)))
        return kept

    def loss(p):
        a = forward(p)[-1]
        return -np.mean(y * np.log(a) + (1 - y) * np.log(1 - a))

    def backprop(p, wrong=1.0):
        kept, found = forward(p), {}
        d = (kept[-1] - y) / 20
        for k in range(4, 0, -1):
            found[f"W{k}"], found[f"b{k}"] = d @ kept[k - 1].T, d.sum(1, keepdims=True)
            if k > 1:
                d = p[f"W{k}"].T @ d * (1 - kept[k - 1] ** 2)
        found["W1"] = found["W1"] * wrong
        return found

    return loss, params, backprop


def test_numpy_layers_that_hardly_move_the_loss_are_moved_farther():
    loss, params, backprop = deep_network(1)
    report = jc.check_grad(loss, params, backprop, where=False)
    assert report and max(leaf.floor for leaf in report) <= 1e-4, report
    assert 0 < report.cost.running < report.seconds  # what Python takes is run, too
    wrong = jc.check_grad(loss, params, lambda p: backprop(p, 1.01), where=False)
    assert [leaf.path for leaf in wrong.failed] == ["W1"]


def test_the_drop_in_pulls_back_what_jax_grad_does():
    """A bound on the cotangent that 1 reaches, and a random one may not."""

    @jax.custom_vjp
    def biased(x, b):
        return x + b

    biased.defvjp(lambda x, b: (x + b, None), lambda _, g: (g, jnp.clip(g.sum(0), -4.0, 4.0)))
    rng = np.random.default_rng(0)
    x, b = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((5, 8), 8))
    with pytest.raises(jc.GradientMismatch):
        check_grads(lambda b: jnp.sum(jnp.sin(biased(x, b))), (b,), 1, modes=["rev"])
