"""A mixture of two-layer experts with a softmax gate, squared error. Held back."""

import jax
import jax.numpy as jnp


def point(r):
    return {"G": r(5, 3), "A": r(3, 5, 4), "B": r(3, 4, 2)}, (r(7, 5), r(7, 2))


def loss(p, x, y):
    gate = jax.nn.softmax(x @ p["G"], axis=1)
    h = jax.nn.softplus(jnp.einsum("nd,edh->neh", x, p["A"]))
    o = jnp.einsum("neh,ehk->nek", h, p["B"])
    out = jnp.einsum("ne,nek->nk", gate, o)
    return jnp.mean((out - y) ** 2)


def grad(p, x, y):
    gate = jax.nn.softmax(x @ p["G"], axis=1)
    z = jnp.einsum("nd,edh->neh", x, p["A"])
    h = jax.nn.softplus(z)
    o = jnp.einsum("neh,ehk->nek", h, p["B"])
    out = jnp.einsum("ne,nek->nk", gate, o)
    dout = 2 * (out - y) / out.size
    dgate = jnp.einsum("nk,nek->ne", dout, o)
    do = gate[:, :, None] * dout[:, None, :]
    dB = jnp.einsum("neh,nek->ehk", h, do)
    dh = jnp.einsum("nek,ehk->neh", do, p["B"])
    dz = dh * jax.nn.sigmoid(z)
    dA = jnp.einsum("nd,neh->edh", x, dz)
    ds = gate * (dgate - jnp.sum(gate * dgate, axis=1, keepdims=True))
    dG = x.T @ ds
    return {"G": dG, "A": dA, "B": dB}
