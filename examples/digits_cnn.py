"""A convolutional network on real handwritten digits, its backprop by hand, before and after training.

A gradient can be right at the random start and wrong later: check at both. At the start the biases are zero, and where
an image is blank ReLU is looked at in its kink: the textbook's formula takes that for a mistake in `conv.b`; jaxcheck
finds the gradient between the one-sided slopes, and says PASS with the reason KINK. After training the kink is gone.

Run it: python examples/digits_cnn.py      (needs scikit-learn: pip install "jaxcheck[examples]")
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import jaxcheck as jc

X, Y = jnp.array(load_digits().images / 16, "float32"), jax.nn.one_hot(load_digits().target, 10)  # (1797, 8, 8), (, 10)
K, W = (
    np.random.default_rng(0).normal(scale=s, size=n).astype("float32") for s, n in ((0.3, (9, 6)), (0.14, (54, 10)))
)
START = {"conv": {"K": K, "b": np.zeros(6, "float32")}, "dense": {"W": W, "b": np.zeros(10, "float32")}}


def forward(params, X):
    patches = jnp.stack([X[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)], axis=-1)  # (N, 6, 6, 9)
    A = jnp.maximum(patches @ params["conv"]["K"] + params["conv"]["b"], 0)
    windows = A.reshape(-1, 3, 2, 3, 2, 6).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 3, 3, 4, 6)
    pooled = windows.max(axis=3).reshape(-1, 54)
    return patches, windows, pooled, pooled @ params["dense"]["W"] + params["dense"]["b"]


def loss(params, X, Y):
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(forward(params, X)[-1]), axis=1))


def backprop(params, X, Y):
    patches, windows, pooled, logits = forward(params, X)
    dlogits = (jax.nn.softmax(logits) - Y) / len(X)
    dpooled = dlogits @ params["dense"]["W"].T * (pooled > 0)
    dA = dpooled.reshape(-1, 3, 3, 1, 6) * (windows.argmax(axis=3, keepdims=True) == jnp.arange(4)[:, None])
    dZ = dA.reshape(-1, 3, 3, 2, 2, 6).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 6, 6, 6)
    conv = {"K": jnp.einsum("nijk,nijf->kf", patches, dZ), "b": dZ.sum(axis=(0, 1, 2))}
    return {"conv": conv, "dense": {"W": pooled.T @ dlogits, "b": dlogits.sum(axis=0)}}


def train(params):
    for k in np.random.default_rng(0).integers(1500, size=(200, 64)):
        params = jax.tree.map(lambda w, g: w - 0.5 * g, params, jax.jit(backprop)(params, X[k], Y[k]))
    return params


def main() -> list[jc.Report]:
    reports = [jc.check_grad(loss, p, backprop, args=(X[:32], Y[:32])) for p in (START, train(START))]
    print(*reports, sep="\n\n")
    return reports


if __name__ == "__main__":
    raise SystemExit([str(report.reason) for report in main()] != ["KINK", "AGREE"])
