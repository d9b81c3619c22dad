"""A GRU over sequences of several lengths, packed, its backward pass a scan from the end."""

import jax
import jax.numpy as jnp
import numpy as np

LENGTHS = np.array([5, 3, 4, 2])


def point(r):
    return {"Wz": r(5, 3), "Wr": r(5, 3), "Wn": r(2, 3), "Un": r(3, 3), "o": r(3)}, (r(5, 4, 2), r(4))


def cell(p, h, x):
    hx = jnp.concatenate([h, x], axis=1)
    z, r = jax.nn.sigmoid(hx @ p["Wz"]), jax.nn.sigmoid(hx @ p["Wr"])
    a = h @ p["Un"]
    n = jnp.tanh(x @ p["Wn"] + r * a)
    return hx, z, r, a, n


def mask(steps):
    return (jnp.arange(steps)[:, None] < LENGTHS).astype(jnp.float32)[..., None]


def loss(p, xs, y):
    def step(h, xm):
        _, z, _, _, n = cell(p, h, xm[0])
        new = (1 - z) * n + z * h
        return xm[1] * new + (1 - xm[1]) * h, None

    h, _ = jax.lax.scan(step, jnp.zeros((4, 3)), (xs, mask(5)))
    return jnp.mean((h @ p["o"] - y) ** 2)


def grad(p, xs, y):
    m = mask(5)

    def run(h, xm):
        kept = cell(p, h, xm[0])
        new = (1 - kept[1]) * kept[4] + kept[1] * h
        return xm[1] * new + (1 - xm[1]) * h, (h, *kept)

    last, kept = jax.lax.scan(run, jnp.zeros((4, 3)), (xs, m))
    err = 2 * (last @ p["o"] - y) / y.shape[0]

    def back(carry, k):
        dh, g = carry
        x, m, h, hx, z, r, a, n = k
        dnew = m * dh
        dz = dnew * (h - n) * z * (1 - z)
        dn = dnew * (1 - z) * (1 - n**2)
        dr = dn * a * r * (1 - r)
        da = dn * r
        dhx = dz @ p["Wz"].T + dr @ p["Wr"].T
        g = {"Wz": g["Wz"] + hx.T @ dz, "Wr": g["Wr"] + hx.T @ dr, "Wn": g["Wn"] + x.T @ dn, "Un": g["Un"] + h.T @ da}
        dh = (1 - m) * dh + dnew * z + da @ p["Un"].T + dhx[:, :3]
        return (dh, g), None

    zero = {k: jnp.zeros_like(p[k]) for k in ("Wz", "Wr", "Wn", "Un")}
    (_, g), _ = jax.lax.scan(back, (err[:, None] * p["o"], zero), (xs, m, *kept), reverse=True)
    return {**g, "o": last.T @ err}
