"""A network of three dense layers with softmax cross-entropy, written out layer by layer."""

import jax.numpy as jnp
import numpy as np


def point(r):
    p = {"W1": r(6, 8), "b1": r(8), "W2": r(8, 7), "b2": r(7), "W3": r(7, 4), "b3": r(4)}
    return p, (r(9, 6), jnp.eye(4)[np.arange(9) % 4])


def loss(p, x, y):
    h1 = jnp.tanh(x @ p["W1"] + p["b1"])
    z2 = h1 @ p["W2"] + p["b2"]
    h2 = z2 / (1 + jnp.exp(-z2))
    z3 = h2 @ p["W3"] + p["b3"]
    logp = z3 - jnp.log(jnp.sum(jnp.exp(z3), axis=1, keepdims=True))
    return -jnp.mean(jnp.sum(y * logp, axis=1)) + 0.05 * jnp.sum(p["W1"] ** 2)


def grad(p, x, y):
    n = x.shape[0]
    z1 = x @ p["W1"] + p["b1"]
    h1 = jnp.tanh(z1)
    z2 = h1 @ p["W2"] + p["b2"]
    s2 = 1 / (1 + jnp.exp(-z2))
    h2 = z2 * s2
    z3 = h2 @ p["W3"] + p["b3"]
    e = jnp.exp(z3)
    q = e / jnp.sum(e, axis=1, keepdims=True)
    dz3 = (q - y) / n
    dW3 = h2.T @ dz3
    db3 = jnp.sum(dz3, axis=0)
    dh2 = dz3 @ p["W3"].T
    dz2 = dh2 * (s2 + h2 * (1 - s2))
    dW2 = h1.T @ dz2
    db2 = jnp.sum(dz2, axis=0)
    dh1 = dz2 @ p["W2"].T
    dz1 = dh1 * (1 - h1**2)
    dW1 = x.T @ dz1 + 2 * 0.05 * p["W1"]
    db1 = jnp.sum(dz1, axis=0)
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2, "W3": dW3, "b3": db3}
