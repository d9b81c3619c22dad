"""A Gaussian of which mean and log variance are linear in a softplus layer, rows weighted."""

import jax
import jax.numpy as jnp


def point(r):
    return (r(3, 5), r(5), r(5, 2), r(5, 2)), (r(7, 3), r(7, 2), jnp.abs(r(7)) + 0.2)


def loss(p, x, y, w):
    W, b, M, S = p
    h = jax.nn.softplus(x @ W + b)
    mu, logvar = h @ M, h @ S
    nll = 0.5 * (logvar + (y - mu) ** 2 * jnp.exp(-logvar))
    return jnp.sum(w[:, None] * nll) / jnp.sum(w)


def grad(p, x, y, w):
    W, b, M, S = p
    a = x @ W + b
    h = jax.nn.softplus(a)
    mu = h @ M
    logvar = h @ S
    prec = jnp.exp(-logvar)
    scale = w[:, None] / jnp.sum(w)
    dmu = scale * (mu - y) * prec
    dlv = scale * 0.5 * (1 - (mu - y) ** 2 * prec)
    dM = h.T @ dmu
    dS = h.T @ dlv
    dh = dmu @ M.T
    dh += dlv @ S.T
    da = dh * jax.nn.sigmoid(a)
    return x.T @ da, da.sum(0), dM, dS
