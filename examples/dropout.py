"""Dropout and gradient checking: with random masks there is nothing to check, with a fixed one there is.

A difference quotient needs two values of one function. If every evaluation draws its own mask, they are
values of two functions, and their difference over 2 eps is noise divided by a small number. The textbook's
advice is to turn dropout off for the check; then the dropout itself is not checked. Holding the mask fixed
checks it all, the scaling by 1/keep included.

1. A mask from NumPy's global generator, or from a key that moves on at each call: two evaluations at the
   same point differ. That is INCONCLUSIVE with reason NONDETERMINISTIC, neither PASS nor FAIL: nothing was
   shown about the gradient. The reason's text says what to do.
2. A key that is passed in and held fixed: the network is a function again. PASS.

Run it: python examples/dropout.py
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc

KEEP = 0.8


def initial(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {"W1": rng.normal(size=(4, 16)) / 2, "b1": np.zeros(16), "W2": rng.normal(size=(16, 1)) / 4}


def data(seed: int = 1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(8, 4)), rng.normal(size=(8, 1))


def mask_from(key):
    """Kept units are divided by KEEP, so that the expected activation stays the same."""
    return jax.random.bernoulli(key, KEEP, (8, 16)) / KEEP


def loss_with(mask, params, X, Y):
    A = jnp.tanh(X @ params["W1"] + params["b1"]) * mask
    return jnp.mean((A @ params["W2"] - Y) ** 2)


def backprop_with(mask, params, X, Y):
    H = jnp.tanh(X @ params["W1"] + params["b1"])
    A = H * mask
    dout = 2 * (A @ params["W2"] - Y) / len(X)
    dZ = (dout @ params["W2"].T) * mask * (1 - H**2)
    return {"W1": X.T @ dZ, "b1": dZ.sum(axis=0), "W2": A.T @ dout}


def numpy_masks():
    """Loss and backprop that draw from NumPy's global generator whenever they are called."""

    def draw():
        return (np.random.rand(8, 16) < KEEP) / KEEP

    return (lambda p, X, Y: loss_with(draw(), p, X, Y)), (lambda p, X, Y: backprop_with(draw(), p, X, Y))


def moving_key():
    """Loss and backprop that split a key of their own at each call, as a training loop does."""
    calls = iter(range(10**9))

    def draw():
        return mask_from(jax.random.fold_in(jax.random.key(0), next(calls)))

    return (lambda p, X, Y: loss_with(draw(), p, X, Y)), (lambda p, X, Y: backprop_with(draw(), p, X, Y))


def fixed_key(key):
    """The right way: one key, hence one mask, for every evaluation of the check."""
    return (
        lambda p, X, Y: loss_with(mask_from(key), p, X, Y),
        lambda p, X, Y: backprop_with(mask_from(key), p, X, Y),
    )


def main() -> list[jc.Report]:
    """The reports with NumPy's generator, with a moving key, and with a fixed key."""
    params, batch = initial(), data()
    pairs = {
        "dropout, NumPy's global generator": numpy_masks(),
        "dropout, a key that moves on": moving_key(),
        "dropout, a fixed key": fixed_key(jax.random.key(0)),
    }
    reports = []
    for name, (loss, backprop) in pairs.items():
        report = jc.check_grad(loss, params, grad=backprop, args=batch, name=name)
        print(report, end="\n\n")
        reports.append(report)
    return reports


if __name__ == "__main__":
    *moving, fixed = main()
    undecided = all(report.reason is jc.Reason.NONDETERMINISTIC for report in moving)
    raise SystemExit(0 if undecided and fixed.ok else 1)
