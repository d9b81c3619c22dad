"""Forty ordinary layers and functions against the clock: our doors beside JAX's check_grads, in the same process.

    python -m tests.benchmarks.layers [--only NAME,NAME] [--doors drop-in,check_grad,check_rule] [--out FILE]

Every timing is cold: JAX's caches and ours are cleared before it, so that compilation counts, as it does for whoever
checks a function once. Arguments are float32, in JAX's default mode. `drop-in` is `jaxcheck.test_util.check_grads`;
`check_grad` has autodiff of the weighed sum of the outputs as the gradient by hand; `check_rule` has a custom_vjp
around the function whose rule is its autodiff. A ratio is ours over JAX's, which may itself fail (it says so).
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.ode import odeint

import jaxcheck as jc
from jaxcheck.program.run.cache import clear
from jaxcheck.test_util import check_grads as drop_in

DOORS = ("drop-in", "check_grad", "check_rule")
RNG = np.random.default_rng(0)


def arr(*shape: int, scale: float = 1.0) -> Any:
    return jnp.asarray(scale * RNG.normal(size=shape), jnp.float32)


def positive(n: int) -> Any:
    a = RNG.normal(size=(n, n))
    return jnp.asarray(a @ a.T + n * np.eye(n), jnp.float32)


def conv(x, w, strides, padding="SAME", dims=("NCHW", "OIHW", "NCHW"), **more):
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=dims, **more)


def norm(x, axes):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-5)


def attention(x, wq, wk, wv):
    q, k, v = x @ wq, x @ wk, x @ wv
    score = jnp.where(jnp.tril(jnp.ones((x.shape[0], x.shape[0]), bool)), q @ k.T / q.shape[-1] ** 0.5, -1e9)
    return jax.nn.softmax(score) @ v


def lstm(x, w, u, b):
    def cell(carry, row):
        h, c = carry
        i, f, g, o = jnp.split(row @ w + h @ u + b, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros(u.shape[0], x.dtype)
    return lax.scan(cell, (zero, zero), x)[1]


def sinkhorn(cost):
    def turn(_, v):
        u = 1 / (jnp.exp(-cost) @ v)
        return 1 / (jnp.exp(-cost).T @ u)

    return lax.fori_loop(0, 20, turn, jnp.ones(cost.shape[1], cost.dtype))


def newton(a):
    return lax.scan(lambda x, _: (x - (x**3 + x - a) / (3 * x**2 + 1), None), jnp.zeros_like(a), None, length=12)[0]


def pool(x, kind):
    one = (1, 1, 2, 2)
    if kind == "max":
        return lax.reduce_window(x, -jnp.inf, lax.max, one, one, "VALID")
    return lax.reduce_window(x, 0.0, lax.add, one, one, "VALID") / 4


LAYERS: dict[str, Callable[[], tuple[Callable, tuple]]] = {
    "dense": lambda: (lambda x, w, b: x @ w + b, (arr(8, 16), arr(16, 8), arr(8))),
    "mlp": lambda: (lambda x, w, v: jnp.tanh(jnp.tanh(x @ w) @ v), (arr(8, 16), arr(16, 16), arr(16, 4))),
    "relu layer": lambda: (lambda x, w: jax.nn.relu(x @ w), (arr(8, 16), arr(16, 8))),
    "gelu": lambda: (jax.nn.gelu, (arr(32, 16),)),
    "conv1d": lambda: (lambda x, w: conv(x, w, (1,), dims=("NCH", "OIH", "NCH")), (arr(2, 3, 16), arr(4, 3, 3))),
    "conv2d": lambda: (lambda x, w: conv(x, w, (1, 1)), (arr(2, 3, 8, 8), arr(4, 3, 3, 3))),
    "conv2d strided": lambda: (lambda x, w: conv(x, w, (2, 2)), (arr(2, 3, 8, 8), arr(4, 3, 3, 3))),
    "conv2d depthwise": lambda: (
        lambda x, w: conv(x, w, (1, 1), feature_group_count=4),
        (arr(2, 4, 8, 8), arr(4, 1, 3, 3)),
    ),
    "conv2d dilated": lambda: (
        lambda x, w: conv(x, w, (1, 1), rhs_dilation=(2, 2)),
        (arr(1, 2, 8, 8), arr(2, 2, 3, 3)),
    ),
    "conv2d transposed": lambda: (
        lambda x, w: lax.conv_transpose(x, w, (2, 2), "SAME"),
        (arr(1, 4, 4, 2), arr(3, 3, 2, 3)),
    ),
    "conv3d": lambda: (
        lambda x, w: conv(x, w, (1, 1, 1), dims=("NCDHW", "OIDHW", "NCDHW")),
        (arr(1, 2, 4, 4, 4), arr(2, 2, 3, 3, 3)),
    ),
    "max pool": lambda: (lambda x: pool(x, "max"), (arr(2, 3, 8, 8),)),
    "average pool": lambda: (lambda x: pool(x, "mean"), (arr(2, 3, 8, 8),)),
    "layer norm": lambda: (lambda x, g, b: norm(x, -1) * g + b, (arr(8, 16), arr(16), arr(16))),
    "batch norm": lambda: (lambda x, g, b: norm(x, 0) * g + b, (arr(8, 16), arr(16), arr(16))),
    "group norm": lambda: (lambda x: norm(x.reshape(4, 2, 4, 8), (2, 3)), (arr(4, 8, 8),)),
    "lstm": lambda: (lstm, (arr(10, 4), arr(4, 16, scale=0.3), arr(4, 16, scale=0.3), arr(16))),
    "scan of 500": lambda: (
        lambda a, x: lax.scan(lambda c, r: (jnp.tanh(a * c + r), None), jnp.float32(0), x)[0],
        (jnp.float32(0.5), arr(500)),
    ),
    "attention": lambda: (attention, (arr(6, 8), arr(8, 4), arr(8, 4), arr(8, 4))),
    "embedding": lambda: (lambda w: w[jnp.asarray([1, 3, 3, 0, 7])], (arr(10, 8),)),
    "softmax": lambda: (jax.nn.softmax, (arr(8, 10),)),
    "logsumexp": lambda: (lambda x: jax.nn.logsumexp(x, axis=-1), (arr(8, 10),)),
    "cross-entropy": lambda: (lambda x: -jnp.mean(jax.nn.log_softmax(x)[jnp.arange(8), jnp.arange(8)]), (arr(8, 10),)),
    "sort": lambda: (jnp.sort, (arr(40),)),
    "top-k": lambda: (lambda x: lax.top_k(x, 3)[0], (arr(4, 12),)),
    "fft": lambda: (lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2, (arr(32),)),
    "cholesky": lambda: (lambda a: jnp.linalg.cholesky((a + a.T) / 2), (positive(6),)),
    "qr": lambda: (lambda a: jnp.linalg.qr(a)[1], (arr(6, 6),)),
    "eigh": lambda: (lambda a: jnp.linalg.eigh((a + a.T) / 2)[0], (positive(6),)),
    "svd": lambda: (lambda a: jnp.linalg.svd(a, compute_uv=False), (arr(6, 5),)),
    "solve": lambda: (jnp.linalg.solve, (positive(6), arr(6, 2))),
    "slogdet": lambda: (lambda a: jnp.linalg.slogdet(a)[1], (positive(6),)),
    "expm": lambda: (jax.scipy.linalg.expm, (arr(4, 4, scale=0.3),)),
    "odeint": lambda: (
        lambda a, y: odeint(lambda y, t, a: jnp.tanh(a @ y), y, jnp.linspace(0.0, 1.0, 4), a)[-1],
        (arr(3, 3), arr(3)),
    ),
    "associative scan": lambda: (
        lambda a, b: lax.associative_scan(lambda x, y: (x[0] * y[0], y[0] * x[1] + y[1]), (a, b))[1],
        (arr(32), arr(32)),
    ),
    "sinkhorn": lambda: (sinkhorn, (arr(6, 5),)),
    "newton loop": lambda: (newton, (arr(8),)),
    "gather": lambda: (lambda x: x[jnp.asarray([[0, 2], [1, 1]]), jnp.asarray([[1, 3], [0, 0]])], (arr(4, 5, 3),)),
    "scatter": lambda: (lambda x, y: x.at[jnp.asarray([0, 2, 2])].add(y), (arr(5, 4), arr(3, 4))),
    "resize": lambda: (lambda x: jax.image.resize(x, (7, 7, 2), "bilinear"), (arr(4, 4, 2),)),
}


def with_rule(f: Callable) -> Callable:
    """A rule that is right: autodiff of a function of arrays alone."""
    g = jax.custom_vjp(lambda *a: f(*a))
    g.defvjp(lambda *a: jax.vjp(f, *a), lambda pull, ct: pull(ct))
    return g


def as_loss(f: Callable, args: tuple) -> Callable:
    out = jax.eval_shape(f, *args)
    weights = [np.random.default_rng(k).normal(size=o.shape) for k, o in enumerate(jax.tree.leaves(out))]
    return lambda args: sum(jnp.sum(w * o) for w, o in zip(weights, jax.tree.leaves(f(*args)), strict=True))


def cold(work: Callable[[], Any]) -> tuple[float, str]:
    """(seconds, what came of it) of one run with empty caches."""
    jax.clear_caches()
    clear()
    gc.collect()
    start = time.perf_counter()
    try:
        found = work()
        said = "" if found is None else f"{found.verdict} {found.reason}"
    except Exception as error:  # a benchmark tells what happened and goes on
        said = f"{type(error).__name__}: {str(error).splitlines()[0][:60] if str(error) else ''}"
    return time.perf_counter() - start, said


def timings(name: str, doors: tuple[str, ...]) -> dict[str, Any]:
    f, args = LAYERS[name]()
    works = {
        "peer": lambda: jax.test_util.check_grads(f, args, order=1),
        "drop-in": lambda: drop_in(f, args, order=1),
        "check_grad": lambda: jc.check_grad(loss := as_loss(f, args), args, jax.grad(loss)),
        "check_rule": lambda: jc.check_rule(with_rule(f), *args),
    }
    return {door: dict(zip(("seconds", "said"), cold(works[door]), strict=True)) for door in ("peer", *doors)}


def main() -> None:
    import jax.test_util

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--doors", default=",".join(DOORS))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    doors = tuple(d for d in asked.doors.split(",") if d)
    names = [n for n in LAYERS if not asked.only or n in asked.only.split(",")]
    timings("dense", doors)  # what is paid once per process is nobody's
    found = {}
    print(f"{'':20s}{'check_grads':>12s}" + "".join(f"{d:>14s}" for d in doors))
    for name in names:
        row = found[name] = timings(name, doors)
        peer = row["peer"]["seconds"]
        cells = "".join(f"{row[d]['seconds']:7.2f}{row[d]['seconds'] / peer:6.2f}x" for d in doors)
        odd = "; ".join(f"{d}: {r['said']}" for d, r in row.items() if r["said"] and not r["said"].startswith("PASS"))
        print(f"{name:20s}{peer:12.2f}{cells}  {odd}", flush=True)
    for door in doors:
        ratios = [r[door]["seconds"] / r["peer"]["seconds"] for r in found.values()]
        worst = max(found, key=lambda n: found[n][door]["seconds"])
        print(
            f"{door}: median {statistics.median(ratios):.2f}x, worst {max(ratios):.2f}x, "
            f"longest {found[worst][door]['seconds']:.1f} s ({worst})"
        )
    if asked.out:
        asked.out.write_text(
            json.dumps({"jax": jax.__version__, "device": str(jax.devices()[0]), "layers": found}, indent=1)
        )


if __name__ == "__main__":
    main()
