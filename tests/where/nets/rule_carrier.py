"""A rule for a signal on a carrier: complex in, complex and real out. Held back."""

import jax
import jax.numpy as jnp


def point(r):
    return (r(5, 3) + 1j * r(5, 3), r(3), r(3)), ()


@jax.custom_vjp
def f(x, phase, gain):
    u = jnp.exp(1j * phase) * x
    return gain * u, jnp.abs(u) ** 2


def fwd(x, phase, gain):
    u = jnp.exp(1j * phase) * x
    return (gain * u, jnp.abs(u) ** 2), (u, phase, gain)


def bwd(kept, ct):
    u, phase, gain = kept
    dout, dpower = ct
    du = gain * dout + 2 * dpower * jnp.conj(u)
    dgain = jnp.sum(jnp.real(dout * u), axis=0)
    dphase = jnp.sum(jnp.real(1j * u * du), axis=0)
    dx = jnp.exp(1j * phase) * du
    return dx, dphase, dgain


f.defvjp(fwd, bwd)
