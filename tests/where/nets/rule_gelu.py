"""Dense with the tanh form of GELU as a custom rule inside a jitted, scanned network. Held back."""

import jax
import jax.numpy as jnp

C = 0.7978845608


def point(r):
    return (r(6, 4), r(3, 4, 4), r(3, 4)), ()


@jax.custom_vjp
def layer(x, W, b):
    z = x @ W + b
    return 0.5 * z * (1 + jnp.tanh(C * (z + 0.044715 * z**3)))


def fwd(x, W, b):
    z = x @ W + b
    t = jnp.tanh(C * (z + 0.044715 * z**3))
    return 0.5 * z * (1 + t), (x, W, z, t)


def bwd(kept, ct):
    x, W, z, t = kept
    inner = C * (1 + 3 * 0.044715 * z**2)
    slope = 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * inner
    dz = ct * slope
    dx = dz @ W.T
    dW = x.T @ dz
    db = jnp.sum(dz, axis=0)
    return dx, dW, db


layer.defvjp(fwd, bwd)


@jax.jit
def f(x, Ws, bs):
    return jax.lax.scan(lambda h, p: (layer(h, *p), None), x, (Ws, bs))[0]
