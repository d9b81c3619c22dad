"""Complex weights seen by their power, as in phase retrieval; the gradient is JAX's, the conjugate of the textbook's.
Held back."""

import jax.numpy as jnp


def point(r):
    p = {"W": r(4, 3) + 1j * r(4, 3), "c": r(3) + 1j * r(3), "g": r(3)}
    return p, (r(6, 4) + 1j * r(6, 4), r(6, 3) ** 2)


def loss(p, x, y):
    z = x @ p["W"] + p["c"]
    power = jnp.real(z * jnp.conj(z))
    return jnp.sum((jnp.exp(p["g"]) * power - y) ** 2) / y.shape[0] + 0.1 * jnp.sum(jnp.abs(p["c"]) ** 2)


def grad(p, x, y):
    z = x @ p["W"] + p["c"]
    power = jnp.real(z * jnp.conj(z))
    scale = jnp.exp(p["g"])
    e = 2 * (scale * power - y) / y.shape[0]
    dg = jnp.sum(e * power, axis=0) * scale
    dz = 2 * e * scale * jnp.conj(z)
    dW = x.T @ dz
    dc = dz.sum(0) + 0.2 * jnp.conj(p["c"])
    return {"W": dW, "c": dc, "g": dg}
