"""The textbook's best-known exercise: a three-layer classifier whose backprop has two mistakes.

    LINEAR -> RELU -> LINEAR -> RELU -> LINEAR -> SIGMOID, cross entropy

Three examples of four features are the columns of `X`; W[l] is (outputs, inputs). The exercise plants two
mistakes, dW2 doubled and db1 times four, and asks to find them with

    gradapprox_i = (J(theta + eps e_i) - J(theta - eps e_i)) / (2 eps),      eps = 1e-7
    difference   = ||grad - gradapprox|| / (||grad|| + ||gradapprox||)

Its answer, 0.2850931567, says that something is wrong; where, the reader must find out. Here the report
names W2 and b1, and the factors. For the right backprop that procedure gives 1.19e-07, a hair above its
own threshold of 1e-7: with eps = 1e-7 rounding alone is that large. jaxcheck's verdict rests on error bars,
and the right gradient passes.

Run it: python examples/classifier.py
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc


class Params(NamedTuple):
    """theta is flattened in this order: a NamedTuple keeps it, a dict would sort it."""

    W1: Any
    b1: Any
    W2: Any
    b2: Any
    W3: Any
    b3: Any


def exercise() -> tuple[Params, np.ndarray, np.ndarray]:
    """The exercise's numbers: NumPy's legacy seed 1, drawn in this order, float64."""
    np.random.seed(1)
    X = np.random.randn(4, 3)
    Y = np.array([1, 1, 0])
    shapes = ((5, 4), (5, 1), (3, 5), (3, 1), (1, 3), (1, 1))
    return Params(*(np.random.randn(*shape) for shape in shapes)), X, Y


def forward(p: Params, X):
    Z1 = p.W1 @ X + p.b1
    A1 = jnp.maximum(Z1, 0)
    Z2 = p.W2 @ A1 + p.b2
    A2 = jnp.maximum(Z2, 0)
    A3 = jax.nn.sigmoid(p.W3 @ A2 + p.b3)
    return A1, A2, A3


def loss(p: Params, X, Y):
    A3 = forward(p, X)[-1]
    return -jnp.sum(Y * jnp.log(A3) + (1 - Y) * jnp.log(1 - A3)) / X.shape[1]


def backprop(p: Params, X, Y) -> Params:
    A1, A2, A3 = forward(p, X)
    dZ3 = (A3 - Y) / X.shape[1]  # sigmoid and cross entropy in one
    dZ2 = (p.W3.T @ dZ3) * (A2 > 0)
    dZ1 = (p.W2.T @ dZ2) * (A1 > 0)
    return Params(
        W1=dZ1 @ X.T,
        b1=dZ1.sum(axis=1, keepdims=True),
        W2=dZ2 @ A1.T,
        b2=dZ2.sum(axis=1, keepdims=True),
        W3=dZ3 @ A2.T,
        b3=dZ3.sum(axis=1, keepdims=True),
    )


def mistaken_backprop(p: Params, X, Y) -> Params:
    grads = backprop(p, X, Y)
    return grads._replace(W2=2 * grads.W2, b1=4 * grads.b1)


def main() -> list[jc.Report]:
    """The reports of the mistaken backprop, and of the right one: by the textbook's step, and by default."""
    params, X, Y = exercise()
    textbook = jc.Exhaustive(step=1e-7)
    # The exercise's numbers are float64; in JAX's default mode its program would see them rounded to float32.
    with jax.enable_x64(True):
        wrong = jc.check_grad(loss, params, grad=mistaken_backprop, args=(X, Y), mode=textbook, name="two mistakes")
        right = jc.check_grad(loss, params, grad=backprop, args=(X, Y), mode=textbook, name="corrected")
        default = jc.check_grad(loss, params, grad=backprop, args=(X, Y), name="corrected, jaxcheck's own steps")
    for report in (wrong, right, default):
        print(report)
        print(f"difference by formula (2): {report.difference:.10g}\n")
    return [wrong, right, default]


if __name__ == "__main__":
    wrong, *right = main()
    raise SystemExit(0 if wrong.verdict is jc.Verdict.FAIL and all(report.ok for report in right) else 1)
