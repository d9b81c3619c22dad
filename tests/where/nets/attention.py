"""One head of self-attention with an output projection, squared error against a target."""

import jax
import jax.numpy as jnp


def point(r):
    p = {k: r(6, 6) for k in ("q", "k", "v", "o")}
    return p, (r(5, 6), r(5, 6))


def loss(p, x, y):
    q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
    a = jax.nn.softmax(q @ k.T / jnp.sqrt(6.0), axis=-1)
    return jnp.mean((a @ v @ p["o"] - y) ** 2)


def grad(p, x, y):
    scale = 1 / jnp.sqrt(6.0)
    q = x @ p["q"]
    k = x @ p["k"]
    v = x @ p["v"]
    a = jax.nn.softmax(q @ k.T * scale, axis=-1)
    c = a @ v
    out = c @ p["o"]
    dout = 2 * (out - y) / out.size
    do = c.T @ dout
    dc = dout @ p["o"].T
    da = dc @ v.T
    dv = a.T @ dc
    ds = a * (da - jnp.sum(da * a, axis=-1, keepdims=True))
    ds = ds * scale
    dq = ds @ k
    dk = ds.T @ q
    return {"q": x.T @ dq, "k": x.T @ dk, "v": x.T @ dv, "o": do}
