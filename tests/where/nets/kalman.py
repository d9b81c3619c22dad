"""A Kalman filter of one observed number, its backward pass a scan from the end."""

import jax
import jax.numpy as jnp


def point(r):
    return {"F": 0.5 * r(2, 2) + 0.5 * jnp.eye(2), "h": r(2), "q": 0.3 * r(2), "s": 0.2 * r()}, (r(6),)


def predict(p, m, P):
    return p["F"] @ m, p["F"] @ P @ p["F"].T + jnp.diag(jnp.exp(p["q"]))


def loss(p, ys):
    def step(carry, y):
        m, P = predict(p, *carry)
        e = y - p["h"] @ m
        S = p["h"] @ P @ p["h"] + jnp.exp(p["s"])
        K = P @ p["h"] / S
        return (m + K * e, P - jnp.outer(K, P @ p["h"])), 0.5 * (jnp.log(S) + e**2 / S)

    return jnp.sum(jax.lax.scan(step, (jnp.zeros(2), jnp.eye(2)), ys)[1])


def grad(p, ys):
    F, h = p["F"], p["h"]

    def run(carry, y):
        m0, P0 = carry
        m, P = predict(p, m0, P0)
        u = P @ h
        e, S = y - h @ m, h @ u + jnp.exp(p["s"])
        return (m + u * e / S, P - jnp.outer(u, u) / S), (m0, P0, m, P, u, e, S)

    _, kept = jax.lax.scan(run, (jnp.zeros(2), jnp.eye(2)), ys)

    def back(carry, x):
        dm1, dP1, g = carry
        m0, P0, m, P, u, e, S = x
        de = e / S + dm1 @ u / S
        dS = 0.5 / S - 0.5 * e**2 / S**2 - dm1 @ u * e / S**2 + u @ dP1 @ u / S**2
        du = dm1 * e / S - (dP1 + dP1.T) @ u / S + dS * h
        dP = dP1 + jnp.outer(du, h)
        dm = dm1 - de * h
        dh = -de * m + dS * u + P.T @ du
        dF = jnp.outer(dm, m0) + (dP + dP.T) @ F @ P0
        dq = jnp.diag(dP) * jnp.exp(p["q"])
        ds = dS * jnp.exp(p["s"])
        new = {"F": g["F"] + dF, "h": g["h"] + dh, "q": g["q"] + dq, "s": g["s"] + ds}
        return (F.T @ dm, F.T @ dP @ F, new), None

    zero = (jnp.zeros(2), jnp.zeros((2, 2)), jax.tree.map(jnp.zeros_like, p))
    (_, _, g), _ = jax.lax.scan(back, zero, kept, reverse=True)
    return g
