"""What `resume=` costs, and what it saves.

    python -m tests.benchmarks.resume [--repeat 5]

Of several checks, warm and in turns: seconds without a file and with one, medians; of the latter those spent on the
file (reading what is checked, looking up, writing), which a busy machine does not blur as it does their difference;
the size of the file, and the chunks in it. Then, each in a new process, how long the call takes that finds its check
finished, and one that finds all evidence and no report. The targets are under 5 % or 50 ms, and under 2 s.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc
from jaxcheck import store
from jaxcheck.check import resume
from jaxcheck.program.run import kept
from tests.benchmarks.large import network


def components(path):
    """Every component of 37,000 parameters."""
    loss, params, backprop = network(96, 4, 64, False)
    return jc.check_grad(loss, params, backprop, mode="exhaustive", budget=None, resume=path)


def sketch(path):
    """A few directions of 4.2 million parameters, one of which is wrong."""
    loss, params, backprop = network(1024, 4, 64, True)
    return jc.check_grad(loss, params, backprop, budget=None, where=False, resume=path)


def batch(path):
    """2,000 points of 2,600 parameters."""
    rng = np.random.default_rng(0)
    points = {"V": rng.normal(size=(2000, 50, 50)) / 7, "b": rng.normal(size=(2000, 50))}
    x = rng.normal(size=(8, 50))

    def loss(p):
        return jnp.mean(jnp.tanh(x @ p["V"] + p["b"]) ** 2)

    return jc.check_batch(loss, points, jax.grad(loss), budget=None, resume=path)


def host(path):
    """600 parameters of a loss in NumPy, component by component."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2000, 600)), rng.normal(size=600) / 25

    def loss(w):
        return float(np.mean(np.tanh(x @ w) ** 2))

    def grad(w):
        t = np.tanh(x @ w)
        return x.T @ (2 * t * (1 - t**2)) / len(x)

    return jc.check_grad(loss, w, grad, mode="exhaustive", budget=None, resume=path)


CHECKS: dict[str, Callable] = {f.__name__: f for f in (components, sketch, batch, host)}


spent = [0.0]


def clocked(owner: Any, name: str) -> None:
    """Count the seconds of a function into `spent`."""
    f = getattr(owner, name)

    def counted(*args, **kwargs):
        start = time.perf_counter()
        try:
            return f(*args, **kwargs)
        finally:
            spent[0] += time.perf_counter() - start

    setattr(owner, name, counted)


def timed(check: Callable, path) -> float:
    start = time.perf_counter()
    check(path)
    return time.perf_counter() - start


def anew(name: str, path: Path) -> float:
    """Seconds of the call in a new process, JAX loaded."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.resume", "--one", name, str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def forget_report(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM about WHERE what = 'report'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("CHECK", "PATH"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        jax.block_until_ready(jnp.zeros(1))
        print(timed(CHECKS[asked.one[0]], asked.one[1]))
        return
    for owner, name in (
        (kept, "shelf"),
        (kept.Shelf, "take"),
        (kept.Shelf, "put"),
        (resume.Resumed, "before"),
        (resume.Resumed, "after"),
        (store.Store, "open"),
        (store.Store, "close"),
    ):
        clocked(owner, name)
    print(
        f"{'check':<12}{'without':>10}{'with':>10}{'on the file':>16}{'size':>11}{'chunks':>8}{'finished':>10}"
        f"{'all kept':>10}"
    )
    for name, check in CHECKS.items():
        with tempfile.TemporaryDirectory() as folder:
            check(None)  # compiled
            without, stored, shares = [], [], []
            for k in range(asked.repeat):
                without.append(timed(check, None))
                spent[0] = 0.0
                stored.append(timed(check, path := Path(folder) / f"{k}.sqlite"))
                shares.append((spent[0], spent[0] / (stored[-1] - spent[0])))
            with contextlib.closing(sqlite3.connect(path)) as file:
                chunks = file.execute("SELECT count(*) FROM chunks").fetchone()[0]
            size, finished = path.stat().st_size, anew(name, path)
            forget_report(path)
            seconds, share = map(statistics.median, zip(*shares, strict=True))
            print(
                f"{name:<12}{statistics.median(without):>8.2f} s{statistics.median(stored):>8.2f} s"
                f"{1e3 * seconds:>7.0f} ms{share:>6.1%}{size / 2**20:>7.2f} MiB{chunks:>8}{finished:>8.2f} s"
                f"{anew(name, path):>8.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
