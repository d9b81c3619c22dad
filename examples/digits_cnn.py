"""A convolutional network on real handwritten digits, its backprop by hand, before and after training.

    3x3 convolution -> ReLU -> 2x2 max pooling -> dense -> softmax cross entropy

on scikit-learn's 8x8 digits (pip install "jaxcheck[examples]"). Parameters and data are float32, as one
trains; the formula is judged in float64 all the same, because differences in float32 are too coarse to tell
a right gradient from a slightly wrong one.

A gradient can be right at the random start and wrong later: at the start the biases are zero and hardly a
unit is dead, so a mistake in a term that vanishes there stays hidden. Hence the textbook's advice, "at
random initialisation, and perhaps again after some training". The training here uses the very backprop
under test.

The two points differ in one more way. The corners of the images are blank, so with a bias of zero the
convolution gives exactly 0 there, and ReLU has no derivative at 0: its slope is 1 on one side and 0 on the
other. The difference sees the middle, autodiff of `maximum` halves it too, and the backprop below says 0.
All are subgradients. The textbook's formula takes that for a mistake in `conv.b`; jaxcheck compares the
one-sided slopes, finds the gradient between them, and says PASS with the reason KINK. After training
the biases are no longer zero, the kink is gone, and so is the disagreement.

Run it: python examples/digits_cnn.py
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc

FILTERS, CLASSES = 6, 10
OFFSETS = [(i, j) for i in range(3) for j in range(3)]
CORNERS = [(i, j) for i in range(2) for j in range(2)]


def digits():
    """1,797 images (N, 8, 8) scaled to [0, 1], and their one-hot labels (N, 10)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images.astype(np.float32) / 16, np.eye(CLASSES, dtype=np.float32)[data.target]


def initial(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    inputs = 3 * 3 * FILTERS  # what pooling leaves of a 6x6 map, per filter
    params = {
        "conv": {"K": rng.normal(scale=0.3, size=(9, FILTERS)), "b": np.zeros(FILTERS)},
        "dense": {"W": rng.normal(scale=inputs**-0.5, size=(inputs, CLASSES)), "b": np.zeros(CLASSES)},
    }
    return jax.tree.map(np.float32, params)


def forward(params, X):
    # The nine shifted copies of the image turn the convolution into one matrix product.
    patches = jnp.stack([X[:, i : i + 6, j : j + 6] for i, j in OFFSETS], axis=-1)  # (N, 6, 6, 9)
    Z = patches @ params["conv"]["K"] + params["conv"]["b"]
    A = jnp.maximum(Z, 0)
    windows = jnp.stack([A[:, i::2, j::2] for i, j in CORNERS])  # (4, N, 3, 3, FILTERS)
    pooled = windows.max(axis=0).reshape(len(X), -1)
    logits = pooled @ params["dense"]["W"] + params["dense"]["b"]
    return patches, Z, windows, pooled, logits


def loss(params, X, Y):
    logits = forward(params, X)[-1]
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(logits), axis=1))


def backprop(params, X, Y):
    patches, Z, windows, pooled, logits = forward(params, X)
    dlogits = (jax.nn.softmax(logits) - Y) / len(X)
    dpooled = (dlogits @ params["dense"]["W"].T).reshape(windows.shape[1:])
    # The gradient goes to the first of the largest in each window, and only where the ReLU is open:
    # a window of zeros has no open unit, so it does not matter which of them is chosen.
    winner = jnp.argmax(windows, axis=0)
    dA = jnp.zeros_like(Z)
    for number, (i, j) in enumerate(CORNERS):
        dA = dA.at[:, i::2, j::2].set(dpooled * (winner == number))
    dZ = dA * (Z > 0)
    return {
        "conv": {"K": jnp.einsum("nijk,nijf->kf", patches, dZ), "b": dZ.sum(axis=(0, 1, 2))},
        "dense": {"W": pooled.T @ dlogits, "b": dlogits.sum(axis=0)},
    }


def train(params, X, Y, steps: int = 200, batch: int = 64, rate: float = 0.5):
    """Plain gradient descent with the hand-written gradient."""
    step = jax.jit(lambda p, x, y: jax.tree.map(lambda w, g: w - rate * g, p, backprop(p, x, y)))
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = rng.integers(len(X), size=batch)
        params = step(params, X[chosen], Y[chosen])
    return params


def accuracy(params, X, Y) -> float:
    return float(jnp.mean(forward(params, X)[-1].argmax(axis=1) == Y.argmax(axis=1)))


def main() -> list[jc.Report]:
    """The reports before and after training."""
    X, Y = digits()
    (train_X, train_Y), (test_X, test_Y) = (X[:1500], Y[:1500]), (X[1500:], Y[1500:])
    start = initial()
    trained = train(start, train_X, train_Y)
    reports = []
    for when, params in (("before training", start), ("after training", trained)):
        report = jc.check_grad(loss, params, grad=backprop, args=(X[:32], Y[:32]), name=f"digits, {when}")
        print(f"{when}: {accuracy(params, test_X, test_Y):.1%} of unseen digits recognised")
        print(report, end="\n\n")
        reports.append(report)
    return reports


if __name__ == "__main__":
    raise SystemExit(0 if all(report.ok for report in main()) else 1)
