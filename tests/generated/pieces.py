"""What programs are made of: steps on a real matrix, each written twice.

A piece is made by `piece(rng, take, shape)`: it draws what is fixed about it, takes the leaves that it wants with
`take(shape, kind)` and returns (main, other): two functions of (h, the values of these leaves) that compute the same by
different arithmetic. The first is the program under test, the derivative of the second is the right gradient, so that
two roundings of one derivative meet, and so that a loop which JAX cannot pull back has a gradient all the same.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def _as(x, h):
    return jnp.asarray(x, h.dtype)


def _of_one(main, other=None):
    """A piece without leaves or choices."""
    return lambda rng, take, shape: (main, other or main)


def _softplus(x):
    return 0.5 * x + jnp.log(2 * jnp.cosh(0.5 * x))


ELEMENTWISE = {
    "tanh": _of_one(jnp.tanh, lambda x: 1 - 2 / (jnp.exp(2 * x) + 1)),
    "sin": _of_one(jnp.sin, lambda x: jnp.cos(x - np.pi / 2)),
    "exp": _of_one(lambda x: jnp.exp(0.3 * x), lambda x: jnp.exp(0.15 * x) ** 2),
    "log1p": _of_one(lambda x: jnp.log1p(x * x), lambda x: jnp.log(1 + x * x)),
    "sqrt": _of_one(lambda x: jnp.sqrt(x * x + 0.1), lambda x: (x * x + 0.1) ** 0.5),
    "sigmoid": _of_one(jax.nn.sigmoid, lambda x: 0.5 * (1 + jnp.tanh(0.5 * x))),
    "softplus": _of_one(jax.nn.softplus, _softplus),
    "erf": _of_one(jax.scipy.special.erf, lambda x: 1 - jax.scipy.special.erfc(x)),
    "silu": _of_one(jax.nn.silu, lambda x: x / (1 + jnp.exp(-x))),
    "ratio": _of_one(lambda x: x / (1 + x * x), lambda x: x * (1 + x * x) ** -1.0),
    "cosh": _of_one(lambda x: jnp.cosh(0.5 * x), lambda x: 0.5 * (jnp.exp(0.5 * x) + jnp.exp(-0.5 * x))),
    "atan2": _of_one(lambda x: jnp.arctan2(x, 1 + x[::-1] ** 2), lambda x: jnp.arctan(x / (1 + x[::-1] ** 2))),
    "pow": _of_one(lambda x: (x * x + 0.5) ** 1.7, lambda x: jnp.exp(1.7 * jnp.log(x * x + 0.5))),
    "lgamma": _of_one(lambda x: jax.scipy.special.gammaln(1.5 + x * x)),
    "saturated": _of_one(lambda x: jnp.tanh(5 * x), lambda x: jax.nn.sigmoid(10 * x) * 2 - 1),
    "shifted": _of_one(lambda x: (x + 50.0) - x.mean(), lambda x: x + (50.0 - x.mean())),
    "relu": _of_one(jax.nn.relu, lambda x: jnp.where(x > 0, x, 0)),
    "abs": _of_one(jnp.abs, lambda x: x * jnp.sign(x)),
    "clip": _of_one(lambda x: jnp.clip(x, -0.7, 0.8), lambda x: jnp.minimum(jnp.maximum(x, -0.7), 0.8)),
    "where": _of_one(lambda x: jnp.where(x > 0.1, x, 0.2 * x * x)),
    "maximum": _of_one(
        lambda x: jnp.maximum(x, x[::-1] * 0.5), lambda x: jnp.where(x > x[::-1] * 0.5, x, x[::-1] * 0.5)
    ),
}


def _product(rng, take, shape):
    i = take((shape[1], int(rng.integers(2, 5))))
    return lambda h, *p: h @ p[i], lambda h, *p: jnp.einsum("ij,jk->ik", h, p[i])


def _affine(rng, take, shape):
    i, j = take((shape[0], shape[0])), take((shape[1],))
    return lambda h, *p: p[i] @ h + p[j], lambda h, *p: (h.T @ p[i].T).T + p[j][None]


def _gated(rng, take, shape):
    i = take(shape)
    return lambda h, *p: h * p[i] + p[i], lambda h, *p: (h + 1) * p[i]


def _scalar(rng, take, shape):
    i = take(())
    return lambda h, *p: jnp.sin(h * p[i]) + p[i], lambda h, *p: p[i] + jnp.sin(p[i] * h)


def _spd(a, ridge=0.5):
    return a @ a.T + ridge * jnp.eye(a.shape[0], dtype=a.dtype)


def _solve(rng, take, shape):
    i = take((shape[0], shape[0]))
    return lambda h, *p: jnp.linalg.solve(_spd(p[i]), h), lambda h, *p: jnp.linalg.inv(_spd(p[i])) @ h


def _whitened(rng, take, shape):
    i = take((shape[0], shape[0]))

    def main(h, *p):
        return lax.linalg.triangular_solve(jnp.linalg.cholesky(_spd(p[i])), h, left_side=True, lower=True)

    return main, lambda h, *p: jnp.linalg.solve(jnp.linalg.cholesky(_spd(p[i])), h)


def _logdet(rng, take, shape):
    i = take((shape[0], shape[0]))

    def other(h, *p):
        return h + 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(_spd(p[i])))))

    return lambda h, *p: h + jnp.linalg.slogdet(_spd(p[i]))[1], other


def _spectrum(rng, take, shape):
    weights = rng.normal(size=shape[0])

    def main(h):
        return h + jnp.sum(_as(weights, h) * jnp.linalg.eigvalsh(_spd(h) + jnp.diag(_as(3.0 * np.arange(len(h)), h))))

    return main, main


def _complex_solve(rng, take, shape):
    i = take((shape[0], shape[0]), "complex")

    def main(h, *p):
        out = jnp.linalg.solve(p[i] + 3 * jnp.eye(shape[0], dtype=p[i].dtype), h.astype(p[i].dtype))
        return out.real - 0.5 * out.imag

    def other(h, *p):
        out = jnp.linalg.inv(p[i] + 3 * jnp.eye(shape[0], dtype=p[i].dtype)) @ h
        return jnp.real(out * (1 + 0.5j))

    return main, other


def _phases(rng, take, shape):
    i = take(shape, "complex")

    def main(h, *p):
        return jnp.abs(jnp.exp(1j * h) + p[i]) ** 2

    def other(h, *p):
        z = lax.complex(jnp.cos(h), jnp.sin(h)) + p[i]
        return z.real**2 + z.imag**2

    return main, other


def _spectral(rng, take, shape):
    def other(h):
        n = h.shape[1]
        k = jnp.arange(n, dtype=h.dtype)
        angle = (-2 * np.pi / n) * k[:, None] * k
        re, im = h @ jnp.cos(angle), h @ jnp.sin(angle)
        return re * re + im * im - re

    def main(h):
        z = jnp.fft.fft(h, axis=1)
        return (z * z.conj()).real - z.real

    return main, other


LINEAR = {"product": _product, "affine": _affine, "gated": _gated, "scalar": _scalar, "solve": _solve,
          "whitened": _whitened,
          "logdet": _logdet, "spectrum": _spectrum, "complex solve": _complex_solve, "phases": _phases,
          "spectral": _spectral}  # fmt: skip


def _gather(rng, take, shape):
    rows = rng.integers(0, shape[0], size=4, dtype=np.int32)
    one_hot = np.eye(shape[0])[rows]
    return lambda h: h[rows], lambda h: _as(one_hot, h) @ h


def _scatter_add(rng, take, shape):
    rows, i = rng.integers(0, shape[0], size=3, dtype=np.int32), take((3, shape[1]))
    one_hot = np.eye(shape[0])[rows].T
    return lambda h, *p: h.at[rows].add(p[i] * h[rows]), lambda h, *p: h + _as(one_hot, h) @ (p[i] * h[rows])


def _scatter_set(rng, take, shape):
    row, i = int(rng.integers(shape[0])), take((shape[1],))

    def other(h, *p):
        return jnp.where(jnp.arange(shape[0])[:, None] == row, jnp.sin(p[i])[None], h)

    return lambda h, *p: h.at[row].set(jnp.sin(p[i])), other


def _along(rng, take, shape):
    index = rng.integers(0, shape[1], size=shape, dtype=np.int32)
    rows = np.arange(shape[0], dtype=np.int32)[:, None]
    return lambda h: jnp.take_along_axis(h, index, 1) + h, lambda h: h + h[rows, index]


def _sliced(rng, take, shape):
    start, i = int(rng.integers(shape[0])), take((1, shape[1]))

    def main(h, *p):
        cut = lax.dynamic_slice(h, (start, 0), (1, shape[1]))
        return lax.dynamic_update_slice(h, cut * p[i], (start, 0))

    return main, lambda h, *p: h.at[start : start + 1].multiply(p[i])


def _segments(rng, take, shape):
    parts = rng.integers(0, 2, size=shape[0], dtype=np.int32)
    one_hot = np.eye(2)[parts]
    return (
        lambda h: h + jax.ops.segment_sum(h * h, parts, 2)[parts],
        lambda h: h + _as(one_hot @ one_hot.T, h) @ (h * h),
    )


INDEXING = {"gather": _gather, "scatter add": _scatter_add, "scatter set": _scatter_set, "along": _along,
            "sliced": _sliced,
            "segments": _segments,
            "roll": _of_one(lambda x: x * jnp.roll(x, 1, 0), lambda x: x * jnp.concatenate([x[-1:], x[:-1]])),
            "padded": _of_one(lambda x: jnp.pad(x, ((0, 1), (0, 0)), constant_values=0.5),
                              lambda x: jnp.concatenate([x, jnp.full_like(x[:1], 0.5)])),
            "sorted": _of_one(lambda x: jnp.sort(x, 1), lambda x: jnp.take_along_axis(x, jnp.argsort(x, 1), 1)),
            "triangle": _of_one(jnp.triu, lambda x: jnp.where(np.triu(np.ones(x.shape, bool)), x, 0))}  # fmt: skip


def _centred(x, axis):
    # Large arguments overflow, in float32 before they do in float64: that gradient would be wrong where it runs.
    return x - lax.stop_gradient(x.mean(axis, keepdims=True))


def _softmax(x):
    e = jnp.exp(_centred(x, 1))
    return e / e.sum(1, keepdims=True)


REDUCTIONS = {
    "softmax": _of_one(jax.nn.softmax, _softmax),
    "log softmax": _of_one(jax.nn.log_softmax, lambda x: jnp.log(_softmax(x))),
    "logsumexp": _of_one(lambda x: x - jax.scipy.special.logsumexp(x, 0),
                         lambda x: _centred(x, 0) - jnp.log(jnp.exp(_centred(x, 0)).sum(0))),
    "normed": _of_one(lambda x: (x - x.mean(1, keepdims=True)) / jnp.sqrt(x.var(1, keepdims=True) + 1e-3),
                      lambda x: (x - x.mean(1, keepdims=True)) / jnp.sqrt(
                          ((x - x.mean(1, keepdims=True)) ** 2).mean(1, keepdims=True) + 1e-3)),
    "cumsum": _of_one(lambda x: jnp.cumsum(x, 0), lambda x: jnp.tril(jnp.ones((len(x),) * 2, x.dtype)) @ x),
    "cumprod": _of_one(lambda x: jnp.cumprod(1 + 0.3 * x, 0),
                       lambda x: jnp.stack([jnp.prod(1 + 0.3 * x[: k + 1], 0) for k in range(len(x))])),
    "max": _of_one(lambda x: x + x.max(1, keepdims=True), lambda x: x + jnp.sort(x, 1)[:, -1:]),
    "length": _of_one(lambda x: x / jnp.linalg.norm(x), lambda x: x / jnp.sqrt(jnp.sum(x * x))),
    "entropy": _of_one(lambda x: jax.nn.softmax(x) * jax.nn.log_softmax(x),
                       lambda x: _softmax(x) * jnp.log(_softmax(x))),
}  # fmt: skip


def _scan(rng, take, shape):
    i = take((shape[1],))

    def step(p):
        return lambda c, row: (jnp.tanh(0.7 * c + row * p[i]), c * row + c)

    def other(h, *p):
        c, out = jnp.zeros_like(h[0]), []
        for row in h:
            c, y = step(p)(c, row)
            out.append(y)
        return jnp.stack(out)

    return lambda h, *p: lax.scan(step(p), jnp.zeros_like(h[0]), h)[1], other


def _fori(rng, take, shape):
    count = int(rng.integers(2, 5))

    def other(h):
        for k in range(count):
            h = jnp.sin(h) + 0.1 * k * h
        return h

    return lambda h: lax.fori_loop(0, count, lambda k, h: jnp.sin(h) + 0.1 * k * h, h), other


def _while(rng, take, shape):
    count, i = int(rng.integers(2, 4)), take((shape[1],))

    def main(h, *p):
        return lax.while_loop(lambda c: c[0] < count, lambda c: (c[0] + 1, jnp.tanh(c[1] * p[i] + c[0])), (0, h))[1]

    def other(h, *p):
        for k in range(count):
            h = jnp.tanh(h * p[i] + k)
        return h

    return main, other


def _cond(rng, take, shape):
    i = take(())

    def main(h, *p):
        return lax.cond(h.sum() > 0.2, lambda h, s: s * h, lambda h, s: h * h - s, h, p[i])

    return main, lambda h, *p: jnp.where(h.sum() > 0.2, p[i] * h, h * h - p[i])


def _switch(rng, take, shape):
    which = int(rng.integers(3))
    branches = (jnp.tanh, lambda x: x * x, jnp.sin)
    return lambda h: lax.switch(jnp.int32(which), branches, h), branches[which]


LOOPS = {"scan": _scan, "fori": _fori, "while": _while, "cond": _cond, "switch": _switch}


def _custom_vjp(rng, take, shape):
    @jax.custom_vjp
    def f(x, y):
        return jnp.sin(x) * y

    f.defvjp(
        lambda x, y: (jnp.sin(x) * y, (x, y)),
        lambda res, g: (g * jnp.cos(res[0]) * res[1], (g * jnp.sin(res[0])).sum(0)),
    )
    i = take((shape[1],))
    return lambda h, *p: f(h, p[i]), lambda h, *p: jnp.sin(h) * p[i]


def _custom_jvp(rng, take, shape):
    @jax.custom_jvp
    def f(x):
        return jnp.log(1 + jnp.exp(x))

    f.defjvp(lambda primals, tangents: (f(*primals), jax.nn.sigmoid(*primals) * tangents[0]))
    return lambda h: f(h), lambda h: jnp.logaddexp(h, 0)


def _inner_grad(rng, take, shape):
    i = take((shape[1],))

    def inner(row, w):
        return jnp.sum(jnp.sin(row) * w) + jnp.prod(row) * 0.1

    def main(h, *p):
        return jax.vmap(jax.grad(inner), (0, None))(h, p[i])

    def other(h, *p):
        rest = jnp.stack([jnp.prod(jnp.delete(h, k, 1), 1) for k in range(shape[1])], 1)
        return jnp.cos(h) * p[i] + 0.1 * rest

    return main, other


def _inner_jvp(rng, take, shape):
    i = take((shape[1],))

    def main(h, *p):
        return jax.jvp(lambda x: jnp.exp(0.2 * x) * x, (h,), (jnp.broadcast_to(p[i], h.shape),))[1]

    return main, lambda h, *p: jnp.exp(0.2 * h) * (1 + 0.2 * h) * p[i]


def _mapped(rng, take, shape):
    i = take((shape[1],))
    row = lambda r, w: jnp.outer(r, w).sum(0) * jnp.tanh(r)  # noqa: E731
    return lambda h, *p: lax.map(lambda r: row(r, p[i]), h), lambda h, *p: h.sum(1, keepdims=True) * p[i] * jnp.tanh(h)


NESTED = {"custom vjp": _custom_vjp, "custom jvp": _custom_jvp, "inner grad": _inner_grad, "inner jvp": _inner_jvp,
          "mapped": _mapped}  # fmt: skip
FAMILIES = (ELEMENTWISE, LINEAR, INDEXING, REDUCTIONS, LOOPS, NESTED)
WRAPS: dict[str, Callable] = {
    "": lambda f: f,
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "vmap": lambda f: lambda h, *p: jax.vmap(lambda x: f(x, *p))(h[None])[0],
    "jit checkpoint": lambda f: jax.jit(jax.checkpoint(f)),
}
