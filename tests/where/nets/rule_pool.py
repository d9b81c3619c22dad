"""Softmax-weighted pooling with a temperature as a reverse rule, vmapped over a batch. Held back."""

import jax
import jax.numpy as jnp


def point(r):
    return (r(3, 6, 4), r(4), 1 + 0.2 * r()), ()


@jax.custom_vjp
def pool(x, q, temp):
    a = jax.nn.softmax(x @ q / temp)
    return a @ x


def fwd(x, q, temp):
    a = jax.nn.softmax(x @ q / temp)
    return a @ x, (x, q, temp, a)


def bwd(kept, ct):
    x, q, temp, a = kept
    da = x @ ct
    ds = a * (da - jnp.sum(a * da))
    dscore = ds / temp
    dx = a[:, None] * ct + dscore[:, None] * q
    dq = x.T @ dscore
    dtemp = -jnp.sum(ds * (x @ q)) / temp**2
    return dx, dq, dtemp


pool.defvjp(fwd, bwd)


@jax.jit
def f(x, q, temp):
    return jax.vmap(pool, (0, None, None))(x, q, temp)
