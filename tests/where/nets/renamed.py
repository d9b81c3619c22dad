"""Three dense layers written with a name handed on at every step, Poisson loss. Held back."""

import jax.numpy as jnp


def point(r):
    return {"A": r(5, 6), "a": r(6), "B": r(6, 4), "b": r(4), "c": r(4)}, (r(8, 5), jnp.abs(jnp.round(4 * r(8))))


def loss(p, x, counts):
    h = jnp.sin(x @ p["A"] + p["a"])
    g = jnp.arctan(h @ p["B"] + p["b"])
    eta = g @ p["c"]
    return jnp.mean(jnp.exp(eta) - counts * eta)


def grad(p, x, counts):
    inputs = x
    pre1 = inputs @ p["A"] + p["a"]
    out1 = jnp.sin(pre1)
    hidden = out1
    pre2 = hidden @ p["B"] + p["b"]
    out2 = jnp.arctan(pre2)
    last = out2
    eta = last @ p["c"]
    error = (jnp.exp(eta) - counts) / len(eta)
    upstream = error
    dc = last.T @ upstream
    dout2 = upstream[:, None] * p["c"]
    delta2 = dout2
    dpre2 = delta2 / (1 + pre2**2)
    back2 = dpre2
    dB = hidden.T @ back2
    db = back2.sum(0)
    dout1 = back2 @ p["B"].T
    delta1 = dout1
    dpre1 = delta1 * jnp.cos(pre1)
    back1 = dpre1
    dA = inputs.T @ back1
    da = back1.sum(0)
    return {"A": dA, "a": da, "B": dB, "b": db, "c": dc}
