"""Programs made from a seed: scalar losses of a few leaves, out of the pieces that people build with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def _normed(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)


def _recurrent(x):
    return lax.scan(lambda c, row: (jnp.tanh(0.7 * c + row), c * row), jnp.zeros_like(x[0]), x)[1]


def _halved(x):
    size = jnp.sum(x * x)
    return (
        lax.while_loop(lambda c: jnp.sum(c[0] * c[0]) > 0.3, lambda c: (0.6 * c[0], c[1] + c[0] ** 2), (x, x))[1] + size
    )


def _solved(x):
    n = min(x.shape)
    matrix = x[:n, :n] @ x[:n, :n].T + jnp.eye(n, dtype=x.dtype)
    return jnp.linalg.solve(matrix, x[:n])


def _whitened(x):
    n = min(x.shape)
    factor = jnp.linalg.cholesky(x[:n, :n] @ x[:n, :n].T + 0.1 * jnp.eye(n, dtype=x.dtype))
    return lax.linalg.triangular_solve(factor, x[:n], left_side=True, lower=True)


SMOOTH = {
    "tanh": jnp.tanh, "sin": jnp.sin, "softplus": jax.nn.softplus, "sigmoid": jax.nn.sigmoid, "gelu": jax.nn.gelu,
    "silu": jax.nn.silu, "square": jnp.square, "exp": lambda x: jnp.exp(0.3 * x), "erf": jax.scipy.special.erf,
    "softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax, "normed": _normed,
    "cosh": lambda x: jnp.cosh(0.2 * x),
    "cumsum": lambda x: jnp.cumsum(x, 0), "log1p": lambda x: jnp.log1p(x * x), "sqrt": lambda x: jnp.sqrt(x * x + 0.1),
    "pow": lambda x: (x * x + 0.5) ** 1.7, "ratio": lambda x: x / (1.0 + x[..., ::-1] ** 2),
    "indexed": lambda x: x[jnp.arange(x.shape[0]) // 2], "segments": lambda x: x + jax.ops.segment_sum(
        x, np.arange(x.shape[0]) % 3, 3)[np.arange(x.shape[0]) % 3],
    "saturated": lambda x: jnp.tanh(6.0 * x), "shifted": lambda x: (x + 100.0) - x.mean(),
    "logsumexp": lambda x: x - jax.scipy.special.logsumexp(x, axis=0), "recurrent": _recurrent, "solved": _solved,
    "whitened": _whitened, "entropy": lambda x: jax.nn.softmax(3 * x) * jax.nn.log_softmax(3 * x),
}  # fmt: skip
KINKED = {
    "relu": jax.nn.relu, "abs": jnp.abs, "clip": lambda x: jnp.clip(x, -0.5, 0.5), "sorted": lambda x: jnp.sort(x, -1),
    "max": lambda x: x + x.max(-1, keepdims=True), "where": lambda x: jnp.where(x > 0.2, x, 0.2 * x * x),
    "leaky": jax.nn.leaky_relu, "minimum": lambda x: jnp.minimum(x, x[::-1]), 
    "branch": lambda x: lax.cond(x.sum() > 0, lambda y: 2.0 * y, lambda y: y * y, x),
    "hinge": lambda x: jnp.maximum(0.0, 1.0 - x) ** 2,
}  # fmt: skip


FORWARD = {"halved": _halved}  # no reverse mode


def program(seed, dtype, pieces=None):
    """(name, loss of a list of leaves, the leaves)."""
    rng = np.random.default_rng(seed)
    pieces = {**SMOOTH, **KINKED} if pieces is None else pieces
    rows, width, depth = int(rng.integers(3, 9)), int(rng.integers(3, 9)), int(rng.integers(1, 4))
    chosen = [str(rng.choice(list(pieces))) for _ in range(depth)]
    leaves = [rng.normal(size=(rows, width)).astype(dtype)]
    for _ in range(depth):
        leaves += [
            rng.normal(size=(width, width)).astype(dtype) / dtype(width**0.5),
            rng.normal(size=width).astype(dtype),
        ]

    def loss(*leaves):
        h = leaves[0]
        for i, piece in enumerate(chosen):
            h = pieces[piece](h @ leaves[1 + 2 * i] + leaves[2 + 2 * i])
        weights = np.cos(np.arange(h.size)).reshape(h.shape).astype(dtype)
        return jnp.sum(h * weights) + 0.1 * jnp.mean(h * h)

    return "-".join(chosen), loss, leaves
