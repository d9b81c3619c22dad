"""A pendulum with drag, leapfrog steps, mass and drag fitted to a measured path; the adjoint by hand. Held back."""

import jax.numpy as jnp
import numpy as np


def point(r):
    return {"pull": np.asarray(1.5, r().dtype), "drag": np.asarray(0.2, r().dtype), "start": r(2)}, (r(6),)


def loss(p, path):
    q, v = p["start"][0], p["start"][1]
    total = 0.0
    for seen in path:
        v = v + 0.2 * (-p["pull"] * jnp.sin(q) - p["drag"] * v)
        q = q + 0.2 * v
        total = total + (q - seen) ** 2
    return total / 2


def grad(p, path):
    h = 0.2
    q, v = p["start"][0], p["start"][1]
    kept = []
    for _ in range(6):
        q0, v0 = q, v
        v = v0 + h * (-p["pull"] * jnp.sin(q0) - p["drag"] * v0)
        q = q0 + h * v
        kept.append((q0, v0, q))
    lq, lv = 0.0, 0.0
    dpull, ddrag = 0.0, 0.0
    for (q0, v0, q1), seen in zip(kept[::-1], path[::-1], strict=True):
        lq = lq + q1 - seen
        lv = lv + h * lq
        dpull = dpull - h * jnp.sin(q0) * lv
        ddrag = ddrag - h * v0 * lv
        lq = lq - h * p["pull"] * jnp.cos(q0) * lv
        lv = lv * (1 - h * p["drag"])
    return {"pull": dpull, "drag": ddrag, "start": jnp.stack([lq, lv])}
