"""The wrong line is named in whatever form the backward pass comes: methods, a helper of another file, a lambda."""

from __future__ import annotations

import jax
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


# Loss and gradients in one function, a helper that is called twice, a random mask, a name that is given twice.
HELPED = """import jax
import jax.numpy as jnp


def layer(p, x):
    return jnp.tanh(x @ p["W"]) * p["s"]


def back(p, x, g):
    h = jnp.tanh(x @ p["W"])
    d = g * p["s"] * (1 - h**2)
    return {"W": x.T @ d, "s": (g * h).sum(0)}, d @ p["W"].T


def loss_and_grads(p, x, key):
    x = x * jax.random.bernoulli(key, 0.8, x.shape)
    a = layer(p["first"], x)
    b = layer(p["last"], a)
    y = a + b
    tops = {name: y @ p[name] for name in ("u", "v")}
    g = {name: jnp.cos(tops[name]) for name in tops}
    grads = {name: y.T @ g[name] for name in tops}
    d = sum(g[name] @ p[name].T for name in tops)
    grads["last"], through = back(p["last"], a, d)
    d = d + through
    grads["first"], _ = back(p["first"], x, d)
    return sum(jnp.sum(jnp.sin(tops[name])) for name in tops), grads
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("d = d + through", "d = through"), ("y.T @ g", "b.T @ g"), ('p["last"], a, d', 'p["last"], y, d')],
    ids=["a name given again", "in a comprehension", "another argument"],
)
def test_loss_and_gradients_in_one(right, wrong):
    found = build.module("helped", HELPED.replace(right, wrong))
    p = {name: {"W": draw(4, 4), "s": 1 + 0.2 * draw(4)} for name in ("first", "last")} | {k: draw(4, 4) for k in "uv"}
    report = jc.check_grad(
        lambda *a: found.loss_and_grads(*a)[0], p, found.loss_and_grads, args=(draw(6, 4), jax.random.key(3))
    )
    (culprit,) = report.culprits
    assert wrong in culprit.source


def test_a_file_that_was_written_and_loaded_again(tmp_path):
    file = tmp_path / "again.py"
    for lines in (1, 3):
        file.write_text("\n" * lines + "def grad(w):\n    a = 3 * w\n    b = a * w\n    return b / 2\n", "utf-8")
        loaded = {}
        exec(compile(file.read_text("utf-8"), str(file), "exec"), loaded)
        report = jc.check_grad(lambda w: (w**3).sum(), draw(3), loaded["grad"])
        assert {(c.line, c.source) for c in report.culprits} >= {(lines + 4, "return b / 2")}


LAYERS = """import jax.numpy as jnp


class Dense:
    def __init__(self, w):
        self.w = w

    def forward(self, x):
        self.x = x
        return x @ self.w

    def backward(self, dout):
        self.dw = self.x.T @ dout
        return dout @ self.w.T


class Relu:
    def forward(self, x):
        self.x = x
        return jnp.maximum(x, 0)

    def backward(self, dout):
        return dout * self.x


def run(p, x):
    layers = [Dense(p["a"]), Relu(), Dense(p["b"])]
    for layer in layers:
        x = layer.forward(x)
    return x, layers


def loss(p, x):
    return jnp.sum(run(p, x)[0] ** 2)


def grad(p, x):
    out, layers = run(p, x)
    d = 2 * out
    for layer in reversed(layers):
        d = layer.backward(d)
    return {"a": layers[0].dw, "b": layers[2].dw}
"""


def test_what_a_layer_of_a_list_holds_is_not_what_the_list_holds():
    found = build.module("layers", LAYERS)
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(3, 5)), "b": rng.normal(size=(5, 2))}
    named = jc.check_grad(found.loss, params, found.grad, args=(rng.normal(size=(4, 3)),)).culprits
    assert "return dout * self.x" in [culprit.source for culprit in named]
