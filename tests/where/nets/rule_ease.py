"""A rule: a soft threshold with a smooth corner, its width and gain learnt. Held back."""

import jax
import jax.numpy as jnp


def point(r):
    return (r(5, 4), jnp.abs(r(4)) + 0.5, 1 + 0.2 * r(4)), ()


@jax.custom_vjp
def f(x, width, gain):
    return gain * (x - width * jnp.tanh(x / width))


def fwd(x, width, gain):
    return f(x, width, gain), (x, width, gain)


def bwd(kept, ct):
    x, width, gain = kept
    u = x / width
    t = jnp.tanh(u)
    s = 1 - t**2
    dgain = jnp.sum(ct * (x - width * t), axis=0)
    inner = ct * gain
    dx = inner * (1 - s)
    dwidth = jnp.sum(inner * (u * s - t), axis=0)
    return dx, dwidth, dgain


f.defvjp(fwd, bwd)
