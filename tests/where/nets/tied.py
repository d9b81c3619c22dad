"""An autoencoder with tied weights, a sparsity penalty on its code. Held back."""

import jax.numpy as jnp


def point(r):
    return {"W": r(6, 4), "b": r(4), "c": r(6), "s": r(4)}, (r(8, 6),)


def loss(p, x):
    h = jnp.tanh(x @ p["W"] + p["b"]) * jnp.exp(p["s"])
    y = h @ p["W"].T + p["c"]
    usage = jnp.mean(h**2, axis=0)
    return 0.5 * jnp.mean(jnp.sum((y - x) ** 2, axis=1)) + 0.3 * jnp.sum(jnp.log(1 + usage))


def grad(p, x):
    n = x.shape[0]
    t = jnp.tanh(x @ p["W"] + p["b"])
    e = jnp.exp(p["s"])
    h = t * e
    y = h @ p["W"].T + p["c"]
    dy = (y - x) / n
    dc = dy.sum(0)
    usage = jnp.mean(h**2, axis=0)
    dusage = 0.3 / (1 + usage)
    dh = dy @ p["W"]
    dh = dh + 2 * h * dusage / n
    ds = jnp.sum(dh * h, axis=0)
    dt = dh * e
    dz = dt * (1 - t**2)
    db = dz.sum(0)
    dW = x.T @ dz + dy.T @ h
    return {"W": dW, "b": db, "c": dc, "s": ds}
