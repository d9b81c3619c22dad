"""A log-cosh of a normalised row as a forward rule. Held back."""

import jax
import jax.numpy as jnp


def point(r):
    return (r(4, 5), 1 + r(5) ** 2), ()


@jax.custom_jvp
def f(x, w):
    n = jnp.sqrt(jnp.sum(w * x**2, axis=1, keepdims=True) + 1)
    return jnp.log(jnp.cosh(x / n))


@f.defjvp
def rule(primals, tangents):
    x, w = primals
    dx, dw = tangents
    n = jnp.sqrt(jnp.sum(w * x**2, axis=1, keepdims=True) + 1)
    u = x / n
    dsq = jnp.sum(2 * w * x * dx + x**2 * dw, axis=1, keepdims=True)
    dn = 0.5 * dsq / n
    du = (dx - u * dn) / n
    t = jnp.tanh(u)
    return jnp.log(jnp.cosh(u)), t * du
