"""A chain of masses and springs, its rest lengths and stiffness fitted to forces. Not seen by any tuning."""

import jax.numpy as jnp


def point(r):
    return {"k": 1 + 0.2 * r(5), "rest": 0.5 + 0.1 * r(5), "damp": 0.3 * r()}, (r(4, 6, 2), r(4, 6, 2))


def loss(p, x, f):
    gap = x[:, 1:] - x[:, :-1]
    length = jnp.sqrt(jnp.sum(gap**2, axis=-1) + 0.01)
    pull = (p["k"] * (length - p["rest"]) / length)[..., None] * gap
    zero = jnp.zeros((4, 1, 2))
    force = jnp.concatenate([pull, zero], 1) - jnp.concatenate([zero, pull], 1) - p["damp"] * x
    return jnp.mean(jnp.sum((force - f) ** 2, axis=-1))


def grad(p, x, f):
    gap = x[:, 1:] - x[:, :-1]
    length = jnp.sqrt(jnp.sum(gap**2, axis=-1) + 0.01)
    stretch = length - p["rest"]
    unit = gap / length[..., None]
    pull = (p["k"] * stretch)[..., None] * unit
    force = jnp.pad(pull, ((0, 0), (0, 1), (0, 0))) - jnp.pad(pull, ((0, 0), (1, 0), (0, 0))) - p["damp"] * x
    dforce = 2 * (force - f) / (x.shape[0] * x.shape[1])
    ddamp = -jnp.sum(dforce * x)
    dpull = dforce[:, :-1] - dforce[:, 1:]
    along = jnp.sum(dpull * unit, axis=-1)
    dk = jnp.sum(along * stretch, axis=0)
    drest = -jnp.sum(along * p["k"], axis=0)
    return {"k": dk, "rest": drest, "damp": ddamp}
