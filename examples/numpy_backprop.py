"""A course's backprop in plain NumPy: no JAX in it, and none needed.

A softmax classifier with one hidden ReLU layer and weight decay, in loops of NumPy as courses teach it. jaxcheck runs
such code on the host as it is; differences are taken in float64, autodiff has nothing to say, and the report tells so.
The mistake is a common one: the weight decay's factor 2 is cancelled by a 1/2 in the loss, but not in the gradient of
W2. The hint says what is too much: a multiple of the parameter itself.

Run it: python examples/numpy_backprop.py
"""

import numpy as np

import jaxcheck as jc

DECAY = 0.1


def forward(p, X):
    Z = X @ p["W1"] + p["b1"]
    scores = np.maximum(Z, 0) @ p["W2"] + p["b2"]
    scores = scores - scores.max(axis=1, keepdims=True)
    return Z, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def loss(p, X, labels):
    P = forward(p, X)[1]
    weights = np.sum(p["W1"] ** 2) + np.sum(p["W2"] ** 2)
    return -np.mean(np.log(P[np.arange(len(X)), labels])) + DECAY / 2 * weights


def backprop(p, X, labels, factor=1):
    Z, P = forward(p, X)
    dscores = P.copy()
    dscores[np.arange(len(X)), labels] -= 1
    dscores /= len(X)
    dZ = (dscores @ p["W2"].T) * (Z > 0)
    return {
        "W1": X.T @ dZ + DECAY * p["W1"],
        "b1": dZ.sum(0),
        "W2": np.maximum(Z, 0).T @ dscores + factor * DECAY * p["W2"],
        "b2": dscores.sum(0),
    }


def main() -> list[jc.Report]:
    """The reports of the wrong backprop and of the right one."""
    rng = np.random.default_rng(0)
    p = {"W1": rng.normal(size=(4, 6)), "b1": rng.normal(size=6), "W2": rng.normal(size=(6, 3)), "b2": np.zeros(3)}
    args = (rng.normal(size=(10, 4)), rng.integers(0, 3, 10))
    wrong = jc.check_grad(loss, p, grad=lambda *a: backprop(*a, factor=2), args=args, name="decay doubled")
    right = jc.check_grad(loss, p, grad=backprop, args=args, name="right")
    print(wrong, right, sep="\n\n")
    return [wrong, right]


if __name__ == "__main__":
    wrong, right = main()
    raise SystemExit(0 if right.ok and not wrong.ok else 1)
