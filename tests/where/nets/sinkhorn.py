"""The cost of carrying points to others by Sinkhorn's steps, unrolled, the plan's points fitted."""

import jax
import jax.numpy as jnp
from jax.nn import logsumexp


def point(r):
    return {"x": r(5, 2), "y": r(6, 2)}, (jnp.exp(r(5)), jnp.exp(r(6)))


def costs(x, y):
    return jnp.sum((x[:, None, :] - y[None, :, :]) ** 2, axis=-1)


def loss(p, a, b):
    C = costs(p["x"], p["y"])
    la, lb = jnp.log(a / a.sum()), jnp.log(b / b.sum())
    g = jnp.zeros(6)
    for _ in range(4):
        f = la - logsumexp(g[None, :] - C, axis=1)
        g = lb - logsumexp(f[:, None] - C, axis=0)
    return jnp.sum(jnp.exp(f[:, None] + g[None, :] - C) * C)


def grad(p, a, b):
    x, y = p["x"], p["y"]
    C = costs(x, y)
    la, lb = jnp.log(a / a.sum()), jnp.log(b / b.sum())
    g = jnp.zeros(6)
    kept = []
    for _ in range(4):
        s = jax.nn.softmax(g[None, :] - C, axis=1)
        f = la - logsumexp(g[None, :] - C, axis=1)
        t = jax.nn.softmax(f[:, None] - C, axis=0)
        g = lb - logsumexp(f[:, None] - C, axis=0)
        kept.append((s, t))
    P = jnp.exp(f[:, None] + g[None, :] - C)
    dC = P - P * C
    df, dg = jnp.sum(P * C, axis=1), jnp.sum(P * C, axis=0)
    for s, t in reversed(kept):
        dC = dC + t * dg[None, :]
        df = df - t @ dg
        dC = dC + s * df[:, None]
        dg = -s.T @ df
        df = jnp.zeros(5)
    dx = 2 * (dC.sum(1)[:, None] * x - dC @ y)
    diff = x[:, None, :] - y[None, :, :]
    return {"x": dx, "y": -2 * jnp.einsum("ij,ijk->jk", dC, diff)}
