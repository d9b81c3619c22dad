"""Softmax cross-entropy with temperature as a custom rule, labels one-hot."""

import jax
import jax.numpy as jnp


def point(r):
    return (r(5, 4), jnp.abs(r()) + 0.7, jnp.abs(r(5, 4))), ()


@jax.custom_vjp
def f(z, temp, y):
    logp = jax.nn.log_softmax(z / temp)
    return -jnp.sum(y * logp, axis=-1)


def fwd(z, temp, y):
    s = z / temp
    logp = s - jax.scipy.special.logsumexp(s, axis=-1, keepdims=True)
    return -jnp.sum(y * logp, axis=-1), (z, temp, y, logp)


def bwd(kept, ct):
    z, temp, y, logp = kept
    q = jnp.exp(logp)
    total = jnp.sum(y, axis=-1, keepdims=True)
    ds = ct[:, None] * (q * total - y)
    dz = ds / temp
    dtemp = -jnp.sum(ds * z) / temp**2
    dy = -ct[:, None] * logp
    return dz, dtemp, dy


f.defvjp(fwd, bwd)
