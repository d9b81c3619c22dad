"""A state that turns in the complex plane, step by step, read by a line: a diagonal state space layer. Held back."""

import jax
import jax.numpy as jnp


def point(r):
    p = {"decay": r(4), "turn": r(4), "B": r(2, 4) + 1j * r(2, 4), "C": r(4) + 1j * r(4)}
    return p, (r(7, 2), r(7))


def loss(p, x, y):
    lam = jnp.exp(-jnp.exp(p["decay"]) + 1j * p["turn"])

    def step(s, u):
        s = lam * s + u @ p["B"]
        return s, 2 * jnp.real(s @ p["C"])

    _, out = jax.lax.scan(step, jnp.zeros(4, p["B"].dtype), x)
    return jnp.mean((out - y) ** 2)


def grad(p, x, y):
    rate = jnp.exp(p["decay"])
    lam = jnp.exp(-rate + 1j * p["turn"])

    def step(s, u):
        new = lam * s + u @ p["B"]
        return new, (s, new)

    _, (before, after) = jax.lax.scan(step, jnp.zeros(4, p["B"].dtype), x)
    e = 2 * (2 * jnp.real(after @ p["C"]) - y) / y.size
    dC = 2 * (e[:, None] * after).sum(0)

    def back(carry, seen):
        ds, dlam, dB = carry
        e, s, u = seen
        ds = ds + 2 * e * p["C"]
        dlam = dlam + ds * s
        dB = dB + jnp.outer(u, ds)
        return (lam * ds, dlam, dB), None

    start = jnp.zeros(4, p["B"].dtype), jnp.zeros(4, p["B"].dtype), jnp.zeros_like(p["B"])
    (_, dlam, dB), _ = jax.lax.scan(back, start, (e, before, x), reverse=True)
    through = dlam * lam
    return {"decay": -rate * jnp.real(through), "turn": -jnp.imag(through), "B": dB, "C": dC}
