"""Cosine similarity of two projections with a contrastive loss. Held back."""

import jax
import jax.numpy as jnp


def point(r):
    return {"A": r(5, 4), "B": r(6, 4), "t": r()}, (r(6, 5), r(6, 6))


def loss(p, x, y):
    u, v = x @ p["A"], y @ p["B"]
    u = u / jnp.linalg.norm(u, axis=1, keepdims=True)
    v = v / jnp.linalg.norm(v, axis=1, keepdims=True)
    s = jnp.exp(p["t"]) * u @ v.T
    return -jnp.mean(jnp.diag(jax.nn.log_softmax(s, axis=1)))


def grad(p, x, y):
    n = x.shape[0]
    u, v = x @ p["A"], y @ p["B"]
    nu = jnp.sqrt(jnp.sum(u * u, axis=1, keepdims=True))
    nv = jnp.sqrt(jnp.sum(v * v, axis=1, keepdims=True))
    un, vn = u / nu, v / nv
    scale = jnp.exp(p["t"])
    c = un @ vn.T
    q = jax.nn.softmax(scale * c, axis=1)
    ds = (q - jnp.eye(n)) / n
    dt = jnp.sum(ds * c) * scale
    dc = ds * scale
    dun = dc @ vn
    dvn = dc.T @ un
    du = (dun - un * jnp.sum(un * dun, axis=1, keepdims=True)) / nu
    dv = (dvn - vn * jnp.sum(vn * dvn, axis=1, keepdims=True)) / nv
    dA = x.T @ du
    dB = y.T @ dv
    return {"A": dA, "B": dB, "t": dt}
