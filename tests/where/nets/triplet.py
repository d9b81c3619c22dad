"""A soft triplet loss of embeddings from a small network. Held back."""

import jax.numpy as jnp


def point(r):
    return {"W": r(5, 6), "b": r(6), "P": r(6, 3)}, (r(6, 5), r(6, 5), r(6, 5))


def embed(p, x):
    h = jnp.sin(x @ p["W"] + p["b"])
    return h, h @ p["P"]


def loss(p, anchor, near, far):
    a, n, f = embed(p, anchor)[1], embed(p, near)[1], embed(p, far)[1]
    gap = jnp.sum((a - n) ** 2, axis=1) - jnp.sum((a - f) ** 2, axis=1)
    return jnp.mean(jnp.log1p(jnp.exp(gap)))


def back(p, x, h, dout):
    dP = h.T @ dout
    dh = dout @ p["P"].T
    dz = dh * jnp.cos(x @ p["W"] + p["b"])
    return {"W": x.T @ dz, "b": dz.sum(0), "P": dP}


def grad(p, anchor, near, far):
    ha, a = embed(p, anchor)
    hn, n = embed(p, near)
    hf, f = embed(p, far)
    gap = jnp.sum((a - n) ** 2, axis=1) - jnp.sum((a - f) ** 2, axis=1)
    dgap = 1 / (1 + jnp.exp(-gap)) / gap.shape[0]
    da = 2 * dgap[:, None] * (f - n)
    dn = -2 * dgap[:, None] * (a - n)
    df = 2 * dgap[:, None] * (a - f)
    parts = [back(p, anchor, ha, da), back(p, near, hn, dn), back(p, far, hf, df)]
    return {k: parts[0][k] + parts[1][k] + parts[2][k] for k in p}
