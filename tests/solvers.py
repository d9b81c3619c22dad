"""Iterative solvers as people write them: a `lax.while_loop` that stops at a tolerance, and a rule at its limit.

`solver(...)` gives (f, arguments, names): f carries a custom_vjp whose backward pass is the implicit function theorem
at the values where the loop stopped, with `wrong` done to one of its cotangents.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

MOST = 2000
WRONG = {
    "1 %": lambda g, other: 1.01 * g, "1e-4": lambda g, other: 1.0001 * g, "sign": lambda g, other: -g,
    "missing term": lambda g, other: other, "5e-6": lambda g, other: (1 + 5e-6) * g,
    "square": lambda g, other: g * jnp.abs(g),
}  # fmt: skip


def draws(seed, dtype, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def until_still(step, start, tol):
    """The values once a step moves them by less than `tol`."""

    def cont(s):
        old, new, count = s
        return (jnp.max(jnp.abs(new - old)) > tol) & (count < MOST)

    return lax.while_loop(cont, lambda s: (s[1], step(s[1]), s[2] + 1), (start, step(start), 0))[1]


def implicit(forward, backward, wrong, reduced):
    """A rule: `backward(args, y, g)` gives one cotangent per argument; the first one goes wrong."""
    f = jax.custom_vjp(forward)

    def back(res, g):
        args, y = res
        first, *rest = backward(args, y, g)
        if wrong is not None:
            first = WRONG[wrong](first, reduced(args, y, g))
        return (first, *rest)

    f.defvjp(lambda *args: (lambda y: (y, (args, y)))(forward(*args)), back)
    return f


def newton(tol, dtype, wrong=None):
    """x with x + exp(x) / 4 = a, by Newton's method from 0."""

    def forward(a, s):
        def body(c):
            x, _, k = c
            d = (s * x + jnp.exp(x) / 4 - a) / (s + jnp.exp(x) / 4)
            return x - d, jnp.max(jnp.abs(d)), k + 1

        start = jnp.zeros_like(a), jnp.asarray(jnp.inf, a.dtype), 0
        return lax.while_loop(lambda c: (c[1] > tol) & (c[2] < MOST), body, start)[0]

    def backward(args, x, g):
        u = g / (args[1] + jnp.exp(x) / 4)
        return u, -jnp.sum(u * x)

    return implicit(forward, backward, wrong, lambda args, x, g: g / args[1]), (
        draws(1, dtype, 3),
        jnp.asarray(1.3, dtype),
    )


def power(tol, dtype, wrong=None):
    """The leading eigenvector of a symmetric matrix, by power iteration."""
    q = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    matrix = jnp.asarray(q * np.array([3.0, 1.5, -1.0, 0.5]) @ q.T, dtype)

    def forward(A):
        def step(v):
            w = (A + A.T) @ v
            return w / jnp.sqrt(w @ w)

        return until_still(step, jnp.ones(4, A.dtype) / 2, tol)

    def backward(args, v, g):
        B = args[0] + args[0].T
        P = jnp.eye(4, dtype=v.dtype) - jnp.outer(v, v)
        u = jnp.linalg.solve((v @ B @ v) * jnp.eye(4, dtype=v.dtype) - P @ B @ P, P @ g)
        return (jnp.outer(u, v) + jnp.outer(v, u),)

    def one_sided(args, v, g):
        u = backward(args, v, g)[0] @ v
        return 2 * jnp.outer(u, v)

    return implicit(forward, backward, wrong, one_sided), (matrix,)


def equilibrium(tol, dtype, wrong=None):
    """z = tanh(W z + b), by plain iteration; the backward pass iterates too, to the same tolerance."""

    def forward(W, b):
        return until_still(lambda z: jnp.tanh(W @ z + b), jnp.zeros_like(b), tol)

    def backward(args, z, g):
        W, _ = args
        s = 1 - z**2
        u = until_still(lambda u: W.T @ (s * u) + g, g, tol)
        return jnp.outer(s * u, z), s * u

    return implicit(forward, backward, wrong, lambda args, z, g: jnp.outer((1 - z**2) * g, z)), (
        0.3 * draws(3, dtype, 4, 4),
        draws(4, dtype, 4),
    )


def sinkhorn(tol, dtype, wrong=None):
    """Entropic transport; the value by the envelope theorem."""
    a, b, eps = jnp.full(3, 1 / 3, dtype), jnp.full(4, 0.25, dtype), 0.5

    def potentials(C):
        def step(f):
            g = -eps * jnp.log(jnp.sum(a[:, None] * jnp.exp((f[:, None] - C) / eps), 0))
            return -eps * jnp.log(jnp.sum(b * jnp.exp((g - C) / eps), 1))

        f = until_still(step, jnp.zeros_like(a), tol)
        return f, -eps * jnp.log(jnp.sum(a[:, None] * jnp.exp((f[:, None] - C) / eps), 0))

    def forward(C):
        f, g = potentials(C)
        return f @ a + g @ b

    def plan(C):
        f, g = potentials(C)
        return a[:, None] * b * jnp.exp((f[:, None] + g - C) / eps)

    return implicit(
        forward, lambda args, y, g: (g * plan(args[0]),), wrong, lambda args, y, g: g * plan(args[0]) / a[:, None]
    ), (jnp.abs(draws(5, dtype, 3, 4)),)


def conjugate(tol, dtype, wrong=None):
    """A x = b by conjugate gradients, written out; the backward pass is the same solve."""
    q = np.linalg.qr(np.random.default_rng(6).normal(size=(5, 5)))[0]
    matrix = jnp.asarray(q * np.array([1.0, 2.0, 3.5, 5.0, 7.0]) @ q.T, dtype)

    def forward(A, b):
        def body(c):
            x, r, p, rr, k = c
            Ap = A @ p
            alpha = rr / (p @ Ap)
            x, r = x + alpha * p, r - alpha * Ap
            new = r @ r
            return x, r, r + new / rr * p, new, k + 1

        start = jnp.zeros_like(b), b, b, b @ b, 0
        return lax.while_loop(lambda c: (c[3] > tol**2) & (c[4] < MOST), body, start)[0]

    def backward(args, x, g):
        u = forward(args[0], g)
        return -jnp.outer(u, x), u

    return implicit(forward, backward, wrong, lambda args, x, g: -jnp.outer(g, x)), (matrix, draws(7, dtype, 5))


def bisection(tol, dtype, wrong=None):
    """x with x + exp(x) / 4 = s a, by halving: autodiff of the loop is zero."""

    def forward(a, s):
        def body(c):
            low, high = c
            middle = (low + high) / 2
            above = middle + jnp.exp(middle) / 4 > s * a
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        start = jnp.full_like(a, -4), jnp.full_like(a, 4)
        low, high = lax.while_loop(lambda c: jnp.max(c[1] - c[0]) > tol, body, start)
        return (low + high) / 2

    def backward(args, x, g):
        a, s = args
        u = g / (1 + jnp.exp(x) / 4)
        return s * u, jnp.sum(a * u)

    return implicit(forward, backward, wrong, lambda args, x, g: args[1] * g), (
        draws(8, dtype, 3),
        jnp.asarray(1.3, dtype),
    )


SOLVERS = {f.__name__: f for f in (newton, power, equilibrium, sinkhorn, conjugate, bisection)}
