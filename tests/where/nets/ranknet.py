"""Scores of pairs by a shared two-layer network, a logistic loss on their differences. Not seen by any tuning."""

import jax
import jax.numpy as jnp


def point(r):
    return {"W": r(4, 6), "b": r(6), "v": r(6)}, (r(7, 4), r(7, 4), jnp.abs(r(7)) + 0.2)


def score(p, x):
    return jax.nn.silu(x @ p["W"] + p["b"]) @ p["v"]


def loss(p, x, y, weight):
    margin = score(p, x) - score(p, y)
    return jnp.sum(weight * jax.nn.softplus(-margin)) / jnp.sum(weight) + 0.1 * jnp.sum(jnp.abs(p["v"]))


def back(p, x, ds):
    z = x @ p["W"] + p["b"]
    s = jax.nn.sigmoid(z)
    h = z * s
    dv = h.T @ ds
    dh = ds[:, None] * p["v"]
    dz = dh * (s + h * (1 - s))
    return {"W": x.T @ dz, "b": dz.sum(0), "v": dv}


def grad(p, x, y, weight):
    margin = score(p, x) - score(p, y)
    dm = -weight * jax.nn.sigmoid(-margin) / weight.sum()
    one = back(p, x, dm)
    other = back(p, y, -dm)
    out = {k: one[k] + other[k] for k in one}
    out["v"] = out["v"] + 0.1 * jnp.sign(p["v"])
    return out
