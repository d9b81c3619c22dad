"""Poisson regression with an offset and a hinge penalty, and a softplus link for the scale. Held back."""

import jax.numpy as jnp


def point(r):
    return {"beta": r(4), "a": r(), "s": r(4)}, (r(9, 4), r(9), jnp.floor(3 * r(9) ** 2))


def loss(p, X, offset, counts):
    eta = X @ p["beta"] + p["a"] + offset
    scale = jnp.log1p(jnp.exp(X @ p["s"]))
    nll = jnp.sum((jnp.exp(eta) - counts * eta) * scale - jnp.log(scale)) / X.shape[0]
    return nll + 0.2 * jnp.sum(jnp.maximum(p["beta"], 0) ** 2) + 0.1 * jnp.sum(p["s"] ** 4)


def grad(p, X, offset, counts):
    n = X.shape[0]
    eta = X @ p["beta"] + p["a"] + offset
    z = X @ p["s"]
    scale = jnp.log1p(jnp.exp(z))
    rate = jnp.exp(eta)
    deta = (rate - counts) * scale / n
    gbeta = X.T @ deta + 0.4 * jnp.maximum(p["beta"], 0)
    ga = jnp.sum(deta)
    fit = rate - counts * eta
    dscale = (fit - 1 / scale) / n
    dz = dscale / (1 + jnp.exp(-z))
    gs = X.T @ dz + 0.4 * p["s"] ** 3
    return {"beta": gbeta, "a": ga, "s": gs}
