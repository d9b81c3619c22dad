"""Regression: weighted logistic and ridge, and a Huber part."""

import jax.numpy as jnp

LAM = 0.3


def point(r):
    return {"w": r(5), "b": r(), "v": r(5)}, (r(11, 5), jnp.sign(r(11)), 1 + r(11) ** 2)


def loss(p, X, t, weight):
    m = t * (X @ p["w"] + p["b"])
    logistic = jnp.sum(weight * jnp.log1p(jnp.exp(-m))) / jnp.sum(weight)
    res = X @ p["v"] - t
    huber = jnp.mean(jnp.where(jnp.abs(res) < 1, 0.5 * res**2, jnp.abs(res) - 0.5))
    return logistic + huber + LAM * (p["w"] @ p["w"]) + 0.5 * LAM * (p["v"] @ p["v"])


def grad(p, X, t, weight):
    m = t * (X @ p["w"] + p["b"])
    s = 1 / (1 + jnp.exp(m))
    dm = -weight * s / jnp.sum(weight)
    da = dm * t
    gw = X.T @ da + 2 * LAM * p["w"]
    gb = jnp.sum(da)
    res = X @ p["v"] - t
    dres = jnp.where(jnp.abs(res) < 1, res, jnp.sign(res)) / t.shape[0]
    gv = X.T @ dres + LAM * p["v"]
    return {"w": gw, "b": gb, "v": gv}
