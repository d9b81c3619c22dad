"""The wrong line is named in whatever form the backward pass comes: methods, a helper of another file, a lambda."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from tests.where import build

pytestmark = pytest.mark.where

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


class Layer:
    def forward(self, p, x):
        return jnp.tanh(x @ p["W"] + p["b"])

    def backward(self, p, x, y, g):
        d = g * (1 - y)
        return {"W": x.T @ d, "b": d.sum(0)}, d @ p["W"].T


class Net:
    layers = (Layer(), Layer())

    def loss(self, params, x, y):
        for layer, p in zip(self.layers, params, strict=True):
            x = layer.forward(p, x)
        return jnp.mean((x - y) ** 2)

    def grad(self, params, x, y):
        kept = [x]
        for layer, p in zip(self.layers, params, strict=True):
            kept.append(layer.forward(p, kept[-1]))
        g = 2 * (kept[-1] - y) / y.size
        out = []
        for layer, p, a, b in reversed(list(zip(self.layers, params, kept, kept[1:], strict=False))):
            d, g = layer.backward(p, a, b, g)
            out.append(d)
        return out[::-1]


def test_methods():
    net, params = Net(), [{"W": draw(3, 4), "b": draw(4)}, {"W": draw(4, 4), "b": draw(4)}]
    report = jc.check_grad(net.loss, params, net.grad, args=(draw(6, 3), draw(6, 4)))
    assert [(c.kind, c.source, c.edit) for c in report.culprits] == [("line", "d = g * (1 - y)", "d = g * (1 - y**2)")]


def test_a_helper_in_another_file_and_a_lambda():
    helpers = build.module("helpers", "import jax.numpy as jnp\n\n\ndef slope(z):\n    return 1 - jnp.tanh(z)\n")
    x, y = draw(7, 3), draw(7)
    report = jc.check_grad(
        lambda w: jnp.mean((jnp.tanh(x @ w) - y) ** 2),
        draw(3),
        lambda w: x.T @ (2 * (jnp.tanh(x @ w) - y) * helpers.slope(x @ w)) / 7,
    )
    assert [c.source for c in report.culprits] == ["return 1 - jnp.tanh(z)"]
    assert report.culprits[0].file == helpers.__file__
