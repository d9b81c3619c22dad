"""A recurrent network run by lax.scan, its backward pass a scan from the end."""

import jax
import jax.numpy as jnp


def point(r):
    p = {"U": r(3, 4), "W": r(4, 4), "b": r(4), "V": r(4, 2)}
    return p, (r(6, 5, 3), r(6, 5, 2))


def step(p, h, x):
    return jnp.tanh(x @ p["U"] + h @ p["W"] + p["b"])


def loss(p, xs, ys):
    def body(h, xy):
        h = step(p, h, xy[0])
        return h, jnp.sum((h @ p["V"] - xy[1]) ** 2)

    _, each = jax.lax.scan(body, jnp.zeros((5, 4)), (xs, ys))
    return 0.5 * jnp.sum(each) / 5


def grad(p, xs, ys):
    def run(h, x):
        new = step(p, h, x)
        return new, (h, new)

    _, (before, after) = jax.lax.scan(run, jnp.zeros((5, 4)), xs)

    def back(carry, kept):
        dh, dU, dW, db, dV = carry
        x, y, h0, h1 = kept
        err = (h1 @ p["V"] - y) / 5
        dV = dV + h1.T @ err
        dh = dh + err @ p["V"].T
        dz = dh * (1 - h1**2)
        dU = dU + x.T @ dz
        dW = dW + h0.T @ dz
        db = db + dz.sum(axis=0)
        dh = dz @ p["W"].T
        return (dh, dU, dW, db, dV), None

    zero = jax.tree.map(jnp.zeros_like, (jnp.zeros((5, 4)), p["U"], p["W"], p["b"], p["V"]))
    (_, dU, dW, db, dV), _ = jax.lax.scan(back, zero, (xs, ys, before, after), reverse=True)
    return {"U": dU, "W": dW, "b": db, "V": dV}
