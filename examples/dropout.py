"""Dropout and gradient checking: with random masks there is nothing to check, with a fixed one there is.

A difference quotient needs two values of one function. If every evaluation draws its own mask, they are values of two
functions. That is INCONCLUSIVE with reason NONDETERMINISTIC, neither PASS nor FAIL: nothing was shown. So it is for a
mask from NumPy's global generator, and for a key that moves on at each call. With a key that is held fixed the network
is a function again, and the check covers the dropout too, its scaling by 1/keep included: PASS.

Run it: python examples/dropout.py
"""

from itertools import count

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc

KEEP = 0.8
rng = np.random.default_rng(0)
PARAMS = {"W1": rng.normal(size=(4, 16)) / 2, "b1": np.zeros(16), "W2": rng.normal(size=(16, 1)) / 4}
BATCH = rng.normal(size=(8, 4)), rng.normal(size=(8, 1))


def network(draw):
    """(loss, backprop) of a network whose hidden units are multiplied by `draw()`, 0 or 1/KEEP each."""

    def loss(params, X, Y):
        A = jnp.tanh(X @ params["W1"] + params["b1"]) * draw()
        return jnp.mean((A @ params["W2"] - Y) ** 2)

    def backprop(params, X, Y):
        H, mask = jnp.tanh(X @ params["W1"] + params["b1"]), draw()
        dout = 2 * (H * mask @ params["W2"] - Y) / len(X)
        dZ = (dout @ params["W2"].T) * mask * (1 - H**2)
        return {"W1": X.T @ dZ, "b1": dZ.sum(axis=0), "W2": (H * mask).T @ dout}

    return loss, backprop


def mask_from(key):
    return jax.random.bernoulli(key, KEEP, (8, 16)) / KEEP


def main() -> list[jc.Report]:
    """The reports with NumPy's generator, with a key that moves on, and with a fixed key."""
    calls, key = count(), jax.random.key(0)
    masks = [lambda: (np.random.rand(8, 16) < KEEP) / KEEP]
    masks += [lambda: mask_from(jax.random.fold_in(key, next(calls))), lambda: mask_from(key)]
    checks = [jc.check_grad(loss, PARAMS, backprop, args=BATCH) for loss, backprop in map(network, masks)]
    print(*checks, sep="\n\n")
    return checks


if __name__ == "__main__":
    raise SystemExit([str(report.reason) for report in main()] != ["NONDETERMINISTIC", "NONDETERMINISTIC", "AGREE"])
