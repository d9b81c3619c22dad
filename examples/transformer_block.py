"""The backprop of a transformer block by hand: attention, layer norm, GELU and two residuals.

    x = x + Attention(LayerNorm(x))        causal, several heads
    x = x + MLP(LayerNorm(x))              GELU between two linear maps

It is built from pairs. `f(params, x)` returns the output and what the backward pass needs; `f_back` takes
that and the gradient of the output, and returns the gradient of the parameters and of x. What goes wrong
in such code is seldom the calculus: it is a residual that is not added, a head axis that is mixed up, the
two mean terms of layer norm, a missing 1/sqrt(d). Each leaf of the nested parameters is judged by itself,
so a wrong small leaf (a bias, a norm's scale) does not hide behind a large right one.

Run it: python examples/transformer_block.py
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

import jaxcheck as jc

BATCH, TIME, WIDTH, HEADS, HIDDEN = 2, 6, 8, 2, 16
EPSILON = 1e-5


def initial(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)

    def matrix(inputs, outputs):
        return rng.normal(scale=inputs**-0.5, size=(inputs, outputs))

    def norm():
        # Away from 1 and 0, where a backprop that forgets the scale would be right by accident.
        return {"scale": rng.normal(1, 0.2, WIDTH), "shift": rng.normal(0, 0.2, WIDTH)}

    return {
        "norm1": norm(),
        "attention": {name: matrix(WIDTH, WIDTH) for name in ("query", "key", "value", "out")},
        "norm2": norm(),
        "mlp": {
            "up": {"W": matrix(WIDTH, HIDDEN), "b": rng.normal(0, 0.1, HIDDEN)},
            "down": {"W": matrix(HIDDEN, WIDTH), "b": rng.normal(0, 0.1, WIDTH)},
        },
    }


def data(seed: int = 1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, BATCH, TIME, WIDTH))


def over_positions(x, g):
    """Gradient of W in x @ W from that of the product: the sum over batch and time."""
    return jnp.einsum("bti,bto->io", x, g)


def layer_norm(p, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    inverse = 1 / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
    unit = centred * inverse
    return unit * p["scale"] + p["shift"], (unit, inverse)


def layer_norm_back(p, saved, g):
    unit, inverse = saved
    grads = {"scale": (g * unit).sum(axis=(0, 1)), "shift": g.sum(axis=(0, 1))}
    d = g * p["scale"]
    # The mean and the variance depend on x too: each takes its part away.
    d = d - d.mean(axis=-1, keepdims=True) - unit * (d * unit).mean(axis=-1, keepdims=True)
    return grads, d * inverse


def split(x):
    return x.reshape(BATCH, TIME, HEADS, -1).swapaxes(1, 2)  # (batch, head, time, width of a head)


def join(x):
    return x.swapaxes(1, 2).reshape(BATCH, TIME, WIDTH)


def attention(p, x):
    q, k, v = (split(x @ p[name]) for name in ("query", "key", "value"))
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(WIDTH // HEADS)
    causal = jnp.tril(jnp.ones((TIME, TIME), bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
    mixed = join(weights @ v)
    return mixed @ p["out"], (x, q, k, v, weights, mixed)


def attention_back(p, saved, g):
    x, q, k, v, weights, mixed = saved
    dmixed = split(g @ p["out"].T)
    dv = weights.swapaxes(-1, -2) @ dmixed
    dweights = dmixed @ v.swapaxes(-1, -2)
    # Softmax: weights * (dweights - their mean under the weights). Masked entries have weight 0.
    dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True))
    dscores = dscores / math.sqrt(WIDTH // HEADS)
    dq, dk = dscores @ k, dscores.swapaxes(-1, -2) @ q
    grads = {"out": over_positions(mixed, g)}
    dx = jnp.zeros_like(x)
    for name, d in (("query", dq), ("key", dk), ("value", dv)):
        grads[name] = over_positions(x, join(d))
        dx = dx + join(d) @ p[name].T
    return grads, dx


def mlp(p, x):
    z = x @ p["up"]["W"] + p["up"]["b"]
    cumulative = (1 + erf(z / math.sqrt(2))) / 2  # of the normal distribution: GELU is z times it
    a = z * cumulative
    return a @ p["down"]["W"] + p["down"]["b"], (x, z, cumulative, a)


def mlp_back(p, saved, g):
    x, z, cumulative, a = saved
    density = jnp.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    dz = (g @ p["down"]["W"].T) * (cumulative + z * density)
    grads = {
        "up": {"W": over_positions(x, dz), "b": dz.sum(axis=(0, 1))},
        "down": {"W": over_positions(a, g), "b": g.sum(axis=(0, 1))},
    }
    return grads, dz @ p["up"]["W"].T


def block(p, x):
    normed, saved1 = layer_norm(p["norm1"], x)
    change, saved2 = attention(p["attention"], normed)
    x = x + change
    normed, saved3 = layer_norm(p["norm2"], x)
    change, saved4 = mlp(p["mlp"], normed)
    return x + change, (saved1, saved2, saved3, saved4)


def block_back(p, saved, g):
    grads = {}
    grads["mlp"], d = mlp_back(p["mlp"], saved[3], g)
    grads["norm2"], d = layer_norm_back(p["norm2"], saved[2], d)
    g = g + d  # a residual: the gradient flows through the branch and past it
    grads["attention"], d = attention_back(p["attention"], saved[1], g)
    grads["norm1"], d = layer_norm_back(p["norm1"], saved[0], d)
    return grads, g + d


def loss(params, x, target):
    return jnp.mean((block(params, x)[0] - target) ** 2)


def backprop(params, x, target):
    y, saved = block(params, x)
    return block_back(params, saved, 2 * (y - target) / y.size)[0]


def main() -> list[jc.Report]:
    """One report, over the twelve leaves of the block."""
    x, target = data()
    report = jc.check_grad(loss, initial(), grad=backprop, args=(x, target), name="transformer block")
    print(report)
    return [report]


if __name__ == "__main__":
    raise SystemExit(0 if all(report.ok for report in main()) else 1)
