"""A default check at size: a tanh network of W x W layers with biases, its backprop by hand, in a process of its own.

    python -m tests.benchmarks.large [--width 1024] [--layers 8] [--batch 32] [--budget SECONDS] [--wrong]

Prints the report, what one loss and one gradient take, and the peak of the process's memory (Linux: in KiB by
getrusage) before and after the check. With `--wrong` one single component of one matrix is off by half of itself.
"""

from __future__ import annotations

import argparse
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc


def network(width: int, layers: int, batch: int, wrong: bool):
    rng = np.random.default_rng(0)
    params = [
        {
            "W": jnp.asarray(rng.normal(size=(width, width)) / width**0.5, jnp.float32),
            "b": jnp.zeros(width, jnp.float32),
        }
        for _ in range(layers)
    ]
    x = jnp.asarray(rng.normal(size=(batch, width)), jnp.float32)

    def forward(params):
        out = [x]
        for layer in params:
            out.append(jnp.tanh(out[-1] @ layer["W"] + layer["b"]))
        return out

    def loss(params):
        return jnp.mean(forward(params)[-1] ** 2)

    def backprop(params):
        h = forward(params)
        g, found = 2 * h[-1] / h[-1].size, []
        for k in reversed(range(layers)):
            dz = g * (1 - h[k + 1] ** 2)
            found.append({"W": h[k].T @ dz, "b": dz.sum(axis=0)})
            g = dz @ params[k]["W"].T
        found.reverse()
        if wrong:
            found[layers // 2]["W"] = found[layers // 2]["W"].at[5, 7].multiply(1.5)
        return found

    return loss, params, backprop


def timed(f, *args) -> float:
    """Seconds of the second run: compiled, warm."""
    jax.block_until_ready(f(*args))
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    return time.perf_counter() - start


def peak() -> float:
    """GiB that this process has used at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--budget", type=float, default=None)
    parser.add_argument("--wrong", action="store_true")
    asked = parser.parse_args()
    loss, params, backprop = network(asked.width, asked.layers, asked.batch, asked.wrong)
    one, both = timed(jax.jit(loss), params), timed(jax.jit(backprop), params)
    print(
        f"P = {sum(x.size for x in jax.tree.leaves(params)):,} in {2 * asked.layers} leaves; one loss {one:.3f} s, "
        f"one gradient {both:.3f} s in float32; {peak():.2f} GiB so far"
    )
    start = time.perf_counter()
    report = jc.check_grad(loss, params, backprop, budget=asked.budget)
    seconds = time.perf_counter() - start
    print(report)
    print(f"{seconds:.1f} s, {report.evaluations} evaluations, peak {peak():.2f} GiB")


if __name__ == "__main__":
    main()
