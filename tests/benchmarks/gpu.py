"""All that is to be known on a GPU, in one call: the tests marked `gpu`, and what large checks take.

    python -m tests.benchmarks.gpu [--rehearse] [--skip-tests] [--only exhaustive,sketch,points] [--into FILE]

Needs jax with an accelerator, numpy, rich, click; and pytest for the tests. With --rehearse it runs on CPU, at sizes
that take a minute. Prints one line a figure, the target beside it, and writes them to FILE:

    exhaustive  every component of a tanh MLP of 1,000,000 parameters, batch 128, float64     under 60 s
    sketch      a transformer of 124 million parameters (12 layers of 768, 50,257 tokens)     under 60 s
    points      10,000 points of a network of 3 layers, the second time                       under 2 s
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def exhaustive(small: bool) -> tuple[Callable[[], Any], float]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxcheck as jc

    width, batch = (24, 8) if small else (576, 128)
    rng = np.random.default_rng(0)
    params = [rng.normal(size=(width, width)) / width**0.5 for _ in range(3)]
    x = rng.normal(size=(batch, width))

    def loss(params):
        h = jnp.asarray(x)
        for w in params:
            h = jnp.tanh(h @ w)
        return jnp.mean(h**2)

    return lambda: jc.check_grad(loss, params, jax.grad(loss), mode="exhaustive", budget=None), 60.0


def sketch(small: bool) -> tuple[Callable[[], Any], float]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxcheck as jc

    depth, width, heads, tokens, length = (2, 32, 4, 200, 16) if small else (12, 768, 12, 50_257, 128)
    rng = np.random.default_rng(0)

    def draw(*shape, scale=0.02):
        return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)

    blocks = [
        {
            "qkv": draw(width, 3 * width),
            "out": draw(width, width),
            "up": draw(width, 4 * width),
            "down": draw(4 * width, width),
            "norm": jnp.ones((2, width), jnp.float32),
        }
        for _ in range(depth)
    ]
    params = {"tokens": draw(tokens, width), "places": draw(length, width), "blocks": blocks}
    text = rng.integers(0, tokens, length + 1)

    def normed(x, scale):
        return scale * (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def block(x, p):
        q, k, v = (y.reshape(length, heads, -1) for y in jnp.split(normed(x, p["norm"][0]) @ p["qkv"], 3, axis=-1))
        score = jnp.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
        score = jnp.where(jnp.tril(jnp.ones((length, length), bool)), score, -1e9)
        x = x + jnp.einsum("hqk,khd->qhd", jax.nn.softmax(score), v).reshape(length, width) @ p["out"]
        return x + jax.nn.gelu(normed(x, p["norm"][1]) @ p["up"]) @ p["down"]

    def loss(p):
        x = p["tokens"][text[:-1]] + p["places"]
        for one in p["blocks"]:
            x = block(x, one)
        return -jnp.mean(jax.nn.log_softmax(x @ p["tokens"].T)[jnp.arange(length), text[1:]])

    return lambda: jc.check_grad(loss, params, jax.grad(loss), budget=None), 60.0


def points(small: bool) -> tuple[Callable[[], Any], float]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxcheck as jc

    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)

    def init(key):
        keys = jax.random.split(key, 3)
        return [jax.random.normal(k, s) for k, s in zip(keys, ((4, 5), (5, 3), (3, 1)), strict=True)]

    def loss(p):
        return jnp.mean((jnp.tanh(jnp.tanh(x @ p[0]) @ p[1]) @ p[2]) ** 2)

    grad = jax.grad(loss)
    return lambda: jc.check_batch(loss, init=init, n=200 if small else 10_000, grad=grad, budget=None), 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--skip-tests", action="store_true")
    parser.add_argument("--only", default="exhaustive,sketch,points")
    parser.add_argument("--into", type=Path)
    asked = parser.parse_args()
    failed = False
    if not asked.skip_tests:
        import pytest

        if asked.rehearse:
            os.environ["JAXCHECK_REHEARSE"] = "1"
        marks = "gpu and not slow" if asked.rehearse else "gpu"
        failed = bool(
            pytest.main(["-q", "-m", marks, "tests/test_gpu.py", "-p", "no:cacheprovider", "-p", "no:benchmark"])
        )
    import jax

    print(f"jax {jax.__version__} on {jax.devices()}", flush=True)
    figures: dict[str, Any] = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    for name in asked.only.split(","):
        run, target = globals()[name](asked.rehearse)
        figures[name] = {"target": target}
        for which in ("first", "second"):
            start = time.perf_counter()
            report = run()
            seconds = time.perf_counter() - start
            print(
                f"{name}, the {which} time: {seconds:.2f} s (target {target:g} s), {report.verdict}, difference "
                f"{report.difference:.1e}, compiling {report.cost.compiling:.1f} s, running "
                f"{report.cost.running:.2f} s, at most {report.cost.peak / 2**20:.0f} MiB in a program",
                flush=True,
            )
            failed |= not report.ok
            figures[name] |= {which: round(seconds, 2), "verdict": str(report.verdict)}
            if asked.into:
                asked.into.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
