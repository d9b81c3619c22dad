"""A gated linear unit with a fused bias as a custom rule."""

import jax
import jax.numpy as jnp


def point(r):
    return (r(6, 4), r(4, 5), r(4, 5), r(5)), ()


def sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


@jax.custom_vjp
def f(x, A, B, b):
    return (x @ A + b) * sigmoid(x @ B)


def fwd(x, A, B, b):
    lin = x @ A + b
    gate = sigmoid(x @ B)
    return lin * gate, (x, A, B, lin, gate)


def bwd(kept, ct):
    x, A, B, lin, gate = kept
    dlin = ct * gate
    dgate = ct * lin
    dpre = dgate * gate * (1 - gate)
    dx = dlin @ A.T + dpre @ B.T
    dA = x.T @ dlin
    dB = x.T @ dpre
    db = dlin.sum(0)
    return dx, dA, dB, db


f.defvjp(fwd, bwd)
