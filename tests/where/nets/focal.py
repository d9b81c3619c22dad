"""A dense network with dropout masks given, the focal loss of binary targets. Held back."""

import jax
import jax.numpy as jnp
import numpy as np


def point(r):
    keep = (np.arange(54).reshape(9, 6) % 4 > 0).astype(np.float32)
    return {"W": r(5, 6), "b": r(6), "v": r(6), "c": r()}, (r(9, 5), (np.arange(9) % 2).astype(np.float32), keep)


def loss(p, x, t, keep):
    h = jax.nn.relu(x @ p["W"] + p["b"]) * keep / 0.75
    q = jax.nn.sigmoid(h @ p["v"] + p["c"])
    right = jnp.where(t == 1, q, 1 - q)
    return jnp.mean(-((1 - right) ** 2) * jnp.log(right))


def grad(p, x, t, keep):
    z = x @ p["W"] + p["b"]
    dropped = jnp.maximum(z, 0) * keep / 0.75
    s = dropped @ p["v"] + p["c"]
    q = 1 / (1 + jnp.exp(-s))
    right = jnp.where(t == 1, q, 1 - q)
    dright = 2 * (1 - right) * jnp.log(right) - (1 - right) ** 2 / right
    dright = dright / t.shape[0]
    dq = jnp.where(t == 1, dright, -dright)
    ds = dq * q * (1 - q)
    dv = dropped.T @ ds
    dc = ds.sum()
    dh = ds[:, None] * p["v"][None, :]
    dz = dh * keep / 0.75 * (z > 0)
    return {"W": x.T @ dz, "b": dz.sum(0), "v": dv, "c": dc}
