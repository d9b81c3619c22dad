"""Bodies that attract each other, by leapfrog steps of a scan, their masses and starts fitted to where they come."""

import jax
import jax.numpy as jnp


def point(r):
    return {"x": 2 * r(4, 2), "v": 0.3 * r(4, 2), "m": 1 + 0.2 * r(4)}, (2 * r(4, 2),)


def pull(x, m):
    gap = x[None, :, :] - x[:, None, :]
    cube = (jnp.sum(gap**2, -1) + 0.3) ** -1.5
    return jnp.einsum("ij,ijk,j->ik", cube, gap, m)


def loss(p, goal):
    def step(state, _):
        x, v = state
        v = v + 0.05 * pull(x, p["m"])
        x = x + 0.1 * v
        v = v + 0.05 * pull(x, p["m"])
        return (x, v), None

    (x, _), _ = jax.lax.scan(step, (p["x"], p["v"]), None, length=5)
    return 0.5 * jnp.sum((x - goal) ** 2)


def grad(p, goal):
    def step(state, _):
        x, v = state
        v = v + 0.05 * pull(x, p["m"])
        new = x + 0.1 * v
        return (new, v + 0.05 * pull(new, p["m"])), (x, new)

    (x, _), kept = jax.lax.scan(step, (p["x"], p["v"]), None, length=5)

    def back(carry, k):
        dx, dv, dm = carry
        old, new = k
        gx, gm = pull_back(new, p["m"], 0.05 * dv)
        dx, dm = dx + gx, dm + gm
        dv = dv + 0.1 * dx
        gx, gm = pull_back(old, p["m"], 0.05 * dv)
        return (dx + gx, dv, dm + gm), None

    start = (x - goal, jnp.zeros_like(x), jnp.zeros_like(p["m"]))
    (dx, dv, dm), _ = jax.lax.scan(back, start, kept, reverse=True)
    return {"x": dx, "v": dv, "m": dm}


def pull_back(x, m, da):
    gap = x[None, :, :] - x[:, None, :]
    near = jnp.sum(gap**2, -1) + 0.3
    along = jnp.einsum("ik,ijk->ij", da, gap)
    dm = jnp.sum(along * near**-1.5, axis=0)
    dnear = -1.5 * along * m[None, :] * near**-2.5
    dgap = near[..., None] ** -1.5 * da[:, None, :] * m[None, :, None] + 2 * dnear[..., None] * gap
    return dgap.sum(0) - dgap.sum(1), dm
