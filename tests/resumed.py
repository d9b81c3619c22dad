"""A check in a process of its own that ends itself, as `kill -9` would, at a chosen moment.

    python -m tests.resumed PATH [MOMENT COUNT]

MOMENT is `before` (the COUNT-th chunk of this process is measured and not stored), `within` (it is written, and not
committed) or `after` (it is stored). Without one the check goes on to its end; with `slowly` too, and takes its time.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc
from jaxcheck import store
from jaxcheck.evidence import blocks


def network(width: int = 24, batch: int = 16):
    """(loss, params, backprop) of two layers; one component of the gradient is wrong."""
    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(width, width)) / width**0.5, "b": rng.normal(size=width)}
    x = rng.normal(size=(batch, width))

    def loss(p):
        return jnp.mean(jnp.tanh(jnp.tanh(x @ p["W"] + p["b"]) @ p["W"]) ** 2)

    def backprop(p):
        g = jax.grad(loss)(p)
        return {**g, "b": g["b"].at[3].multiply(1.25)}

    return loss, params, backprop


def check(path, **more):
    """Component by component, in many short calls, each of which is worth storing. The search for the wrong line, which
    looks at the clock, is left out."""
    blocks.ONE_CALL, store.PART = 2e5, 1e9
    loss, params, backprop = network()
    return jc.check_grad(loss, params, backprop, mode=jc.Exhaustive(), budget=None, where=False, resume=path, **more)


def killed_at(moment: str, count: int) -> None:
    put, done = store.Store.put, []

    def patched(self, *args):
        done.append(args)
        if moment == "slowly":
            time.sleep(0.1)
            return put(self, *args)
        if len(done) < count:
            return put(self, *args)
        if moment == "within":
            self._connection.execute("BEGIN IMMEDIATE")
        if moment != "before":
            put(self, *args)
        os.kill(os.getpid(), signal.SIGKILL)

    store.Store.put = patched


if __name__ == "__main__":
    if sys.argv[2:]:
        killed_at(sys.argv[2], int(sys.argv[3]))
    check(sys.argv[1])
