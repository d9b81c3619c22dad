"""Cox regression: the partial likelihood of survival times by running sums, a penalty. Not seen by any tuning."""

import jax.numpy as jnp
import numpy as np


def point(r):
    return {"beta": r(5), "A": r(5, 3), "g": r(3)}, (r(9, 5), np.array([1, 0, 1, 1, 0, 1, 1, 0, 1], np.float32))


def loss(p, x, died):
    eta = x @ p["beta"] + jnp.tanh(x @ p["A"]) @ p["g"]
    risk = jnp.log(jnp.cumsum(jnp.exp(eta)[::-1])[::-1])
    return -jnp.sum(died * (eta - risk)) / jnp.sum(died) + 0.05 * jnp.sum(p["A"] ** 2)


def grad(p, x, died):
    h = jnp.tanh(x @ p["A"])
    eta = x @ p["beta"] + h @ p["g"]
    w = jnp.exp(eta)
    total = jnp.cumsum(w[::-1])[::-1]
    events = jnp.sum(died)
    hazard = jnp.cumsum(died / total)
    deta = (w * hazard - died) / events
    dbeta = x.T @ deta
    dg = h.T @ deta
    dh = deta[:, None] * p["g"]
    da = dh * (1 - h * h)
    dA = x.T @ da + 0.1 * p["A"]
    return {"beta": dbeta, "A": dA, "g": dg}
