"""The backprop of a GPT block by hand: layer norm, causal attention of two heads, GELU, two residuals.

What goes wrong here is seldom the calculus: a residual not added, two head axes mixed up, the mean terms of layer norm,
a 1/sqrt(d). Each leaf is judged by itself, and where one fails the report names the line: change any of those below.
`backprop` returns the loss and the gradients, as the textbooks write it; jaxcheck takes either from it.

Run it: python examples/transformer_block.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm as normal

import jaxcheck as jc


def layer_norm(p, x):
    return jax.nn.standardize(x, epsilon=1e-5) * p["scale"] + p["shift"]


def layer_norm_back(p, x, g):
    unit, d = jax.nn.standardize(x, epsilon=1e-5), g * p["scale"]
    d = d - d.mean(-1, keepdims=True) - unit * (d * unit).mean(-1, keepdims=True)
    return {"scale": (g * unit).sum(0), "shift": g.sum(0)}, d / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)


def backprop(p, x, target):  # x, target: (time, width); query, key, value: (width, heads, d)
    n = layer_norm(p["norm1"], x)
    q, k, v = (jnp.einsum("ti,ihd->htd", n, p[name]) for name in ("query", "key", "value"))
    weights = jax.nn.softmax(q @ k.mT / q.shape[-1] ** 0.5, where=jnp.tri(len(x), dtype=bool))
    y = x + jnp.einsum("htd,hdo->to", mixed := weights @ v, p["out"])
    m = layer_norm(p["norm2"], y)
    z = m @ p["up"] + p["b"]
    error = y + (z * normal.cdf(z)) @ p["down"] - target
    g = 2 * error / error.size
    dz = (g @ p["down"].T) * (normal.cdf(z) + z * normal.pdf(z))
    grads = {"down": (z * normal.cdf(z)).T @ g, "up": m.T @ dz, "b": dz.sum(0)}
    grads["norm2"], dy = layer_norm_back(p["norm2"], y, dz @ p["up"].T)
    g = g + dy  # a residual: through the branch and past it
    grads["out"], dmixed = jnp.einsum("htd,to->hdo", mixed, g), jnp.einsum("to,hdo->htd", g, p["out"])
    dscores = weights * (dmixed @ v.mT - (dmixed * mixed).sum(-1, keepdims=True)) / q.shape[-1] ** 0.5
    d = {"query": dscores @ k, "key": dscores.mT @ q, "value": weights.mT @ dmixed}
    grads |= {name: jnp.einsum("ti,htd->ihd", n, d[name]) for name in d}
    grads["norm1"], _ = layer_norm_back(p["norm1"], x, sum(jnp.einsum("htd,ihd->ti", d[name], p[name]) for name in d))
    return jnp.mean(error**2), grads


def main() -> list[jc.Report]:
    draw = np.random.default_rng(0).normal
    shapes = {"query": (8, 2, 4), "key": (8, 2, 4), "value": (8, 2, 4), "out": (2, 4, 8), "up": (8, 9), "down": (9, 8)}
    params = {name: draw(0, 0.4, shape) for name, shape in shapes.items()} | {"b": draw(size=9)}
    params |= {name: {"scale": draw(1, 0.2, 8), "shift": draw(0, 0.2, 8)} for name in ("norm1", "norm2")}
    print(report := jc.check_grad(lambda *a: backprop(*a)[0], params, backprop, args=tuple(draw(size=(2, 6, 8)))))
    return [report]


if __name__ == "__main__":
    raise SystemExit(0 if main()[0].ok else 1)
