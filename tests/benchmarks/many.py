"""1,000 consecutive different checks in one process: how far its memory grows.

    python -m tests.benchmarks.many [--checks 1000] [--every 100] [--limit 200]

Every check has another program (another depth, width, batch and constant), and every tenth is a batch, a rule, or all
components of a leaf. Prints resident MiB (Linux: /proc/self/statm), and exits with 1 where they grew by more than the
limit after the first ones (--every), which load the libraries.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc


def resident() -> float:
    """MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def one(number: int) -> jc.Report:
    """The check of this number: no two share a program, or data."""
    rng = np.random.default_rng(number)
    depth, width, batch = 1 + number % 3, 2 + number % 17, 3 + number % 11
    params = [rng.normal(size=(width, width)).astype(np.float32) for _ in range(depth)]
    x = rng.normal(size=(batch, width)).astype(np.float32)
    scale = 1.0 + number / 1000

    def loss(params):
        h = jnp.asarray(x)
        for w in params:
            h = jnp.tanh(h @ w * scale)
        return jnp.sum(h**2) / scale

    kind = number % 10
    if kind == 7:
        points = [rng.normal(size=(5, *w.shape)).astype(np.float32) for w in params]
        return jc.check_batch(loss, points, jax.grad(loss))
    if kind == 8:

        @jax.custom_vjp
        def f(v):
            return jnp.sin(v) * scale

        f.defvjp(lambda v: (f(v), v), lambda v, g: (g * jnp.cos(v) * scale,))
        return jc.check_rule(f, x[0], level="quick")
    return jc.check_grad(loss, params, jax.grad(loss), mode=jc.Exhaustive(step=1e-4) if kind == 9 else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=1000)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--limit", type=float, default=200.0)
    asked = parser.parse_args()
    start, first = time.perf_counter(), None
    for number in range(asked.checks):
        report = one(number)
        if report.verdict is jc.Verdict.FAIL:
            sys.exit(f"check {number}: {report}")
        if (number + 1) % asked.every == 0:
            gc.collect()
            now = resident()
            first = now if first is None else first
            print(
                f"{number + 1:5d} checks, {time.perf_counter() - start:6.0f} s: {now:7.1f} MiB, {now - first:+.1f} "
                f"since the first {asked.every}",
                flush=True,
            )
    sys.exit(int(resident() - (first or 0.0) > asked.limit))


if __name__ == "__main__":
    main()
