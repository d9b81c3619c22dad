"""A rule: rows scaled to a learnt length, smoothly, and turned by a matrix. Not seen by any tuning."""

import jax
import jax.numpy as jnp


def point(r):
    return (r(6, 4), r(4, 4), 1 + 0.1 * r()), ()


@jax.custom_vjp
def f(x, R, s):
    n = jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True) + 1)
    return s * (x / n) @ R


def fwd(x, R, s):
    n = jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True) + 1)
    return s * (x / n) @ R, (x, R, s, n)


def bwd(kept, ct):
    x, R, s, n = kept
    u = x / n
    back = ct @ R.T
    dR = s * u.T @ ct
    ds = jnp.sum(u * back)
    du = s * back
    inner = jnp.sum(du * u, axis=1, keepdims=True)
    dx = (du - u * inner) / n
    return dx, dR, ds


f.defvjp(fwd, bwd)
