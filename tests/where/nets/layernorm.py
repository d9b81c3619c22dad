"""Dense, layer norm, dense, with a residual and a smooth L1 loss."""

import jax.numpy as jnp


def point(r):
    return {"W": r(5, 6), "g": 1 + 0.3 * r(6), "b": r(6), "V": r(6, 6), "c": r(6)}, (r(7, 5), r(7, 6))


def normed(a):
    mu = jnp.mean(a, axis=-1, keepdims=True)
    var = jnp.mean((a - mu) ** 2, axis=-1, keepdims=True)
    return (a - mu) / jnp.sqrt(var + 1e-3)


def loss(p, x, y):
    a = x @ p["W"]
    h = normed(a) * p["g"] + p["b"]
    o = a + jnp.tanh(h) @ p["V"] + p["c"]
    return jnp.sum(jnp.sqrt(1 + (o - y) ** 2) - 1) / x.shape[0]


def grad(p, x, y):
    n, d = x.shape[0], p["g"].shape[0]
    a = x @ p["W"]
    mu = a.mean(-1, keepdims=True)
    xc = a - mu
    var = (xc**2).mean(-1, keepdims=True)
    inv = 1 / jnp.sqrt(var + 1e-3)
    xhat = xc * inv
    h = xhat * p["g"] + p["b"]
    t = jnp.tanh(h)
    o = a + t @ p["V"] + p["c"]
    e = o - y
    do = e / jnp.sqrt(1 + e**2) / n
    dc = do.sum(0)
    dV = t.T @ do
    dt = do @ p["V"].T
    dh = dt * (1 - t * t)
    dg = (dh * xhat).sum(0)
    db = dh.sum(0)
    dxhat = dh * p["g"]
    m1 = dxhat.sum(-1, keepdims=True)
    m2 = (dxhat * xhat).sum(-1, keepdims=True)
    da = inv * (dxhat - m1 / d - xhat * m2 / d)
    da = da + do
    dW = x.T @ da
    return {"W": dW, "g": dg, "b": db, "V": dV, "c": dc}
