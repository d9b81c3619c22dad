"""A gated recurrent network unrolled in Python, read out at the end."""

import jax.numpy as jnp


def point(r):
    return {"Wz": r(7, 4), "Wh": r(7, 4), "bz": r(4), "bh": r(4), "out": r(4)}, (r(4, 5, 3), r(5))


def sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


def loss(p, xs, y):
    h = jnp.zeros((5, 4))
    for x in xs:
        u = jnp.concatenate([x, h], axis=1)
        z = sigmoid(u @ p["Wz"] + p["bz"])
        h = (1 - z) * h + z * jnp.tanh(u @ p["Wh"] + p["bh"])
    return jnp.mean((h @ p["out"] - y) ** 2)


def grad(p, xs, y):
    h = jnp.zeros((5, 4))
    kept = []
    for x in xs:
        u = jnp.concatenate([x, h], axis=1)
        z = sigmoid(u @ p["Wz"] + p["bz"])
        c = jnp.tanh(u @ p["Wh"] + p["bh"])
        kept.append((u, z, c, h))
        h = (1 - z) * h + z * c
    err = 2 * (h @ p["out"] - y) / y.size
    dout = h.T @ err
    dh = err[:, None] * p["out"]
    dWz, dWh = jnp.zeros_like(p["Wz"]), jnp.zeros_like(p["Wh"])
    dbz, dbh = jnp.zeros_like(p["bz"]), jnp.zeros_like(p["bh"])
    for u, z, c, h0 in reversed(kept):
        dz = dh * (c - h0)
        dc = dh * z
        daz = dz * z * (1 - z)
        dac = dc * (1 - c**2)
        dWz += u.T @ daz
        dWh += u.T @ dac
        dbz += daz.sum(0)
        dbh += dac.sum(0)
        du = daz @ p["Wz"].T + dac @ p["Wh"].T
        dh = dh * (1 - z) + du[:, 3:]
    return {"Wz": dWz, "Wh": dWh, "bz": dbz, "bh": dbh, "out": dout}
