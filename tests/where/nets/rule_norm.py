"""A root-mean-square norm with a gain as a custom rule."""

import jax
import jax.numpy as jnp


def point(r):
    return (r(6, 5), 1 + 0.5 * r(5)), ()


@jax.custom_vjp
def f(x, g):
    return x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 0.01) * g


def fwd(x, g):
    r = 1 / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 0.01)
    return x * r * g, (x, g, r)


def bwd(kept, ct):
    x, g, r = kept
    n = x.shape[-1]
    xhat = x * r
    dg = jnp.sum(ct * xhat, axis=0)
    dxhat = ct * g
    proj = jnp.sum(dxhat * xhat, axis=-1, keepdims=True) / n
    dx = r * (dxhat - xhat * proj)
    return dx, dg


f.defvjp(fwd, bwd)
