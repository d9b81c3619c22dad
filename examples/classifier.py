"""The textbook's best-known exercise: a three-layer classifier whose backprop has two mistakes.

LINEAR -> RELU -> LINEAR -> RELU -> LINEAR -> SIGMOID, cross entropy; dW2 is doubled, db1 times four, to be found with

    gradapprox_i = (J(theta + eps e_i) - J(theta - eps e_i)) / (2 eps),      eps = 1e-7
    difference   = ||grad - gradapprox|| / (||grad|| + ||gradapprox||)

Its answer, 0.2850931567, says that something is wrong; here the report names W2 and b1, and the factors. For the right
backprop it gives 1.19e-07, above its own threshold of 1e-7: rounding alone is that large. With error bars that passes.

Run it: python examples/classifier.py
"""

from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc

Params = namedtuple("Params", "W1 b1 W2 b2 W3 b3")  # theta is flattened in this order; a dict would sort it


def forward(p, X):
    A1 = jnp.maximum(p.W1 @ X + p.b1, 0)
    A2 = jnp.maximum(p.W2 @ A1 + p.b2, 0)
    return A1, A2, jax.nn.sigmoid(p.W3 @ A2 + p.b3)


def loss(p, X, Y):
    A3 = forward(p, X)[-1]
    return -jnp.sum(Y * jnp.log(A3) + (1 - Y) * jnp.log(1 - A3)) / X.shape[1]


def backprop(p, X, Y):
    A1, A2, A3 = forward(p, X)
    dZ3 = (A3 - Y) / X.shape[1]  # sigmoid and cross entropy in one
    dZ2 = (p.W3.T @ dZ3) * (A2 > 0)
    dZ1 = (p.W2.T @ dZ2) * (A1 > 0)
    b1, b2, b3 = (dZ.sum(axis=1, keepdims=True) for dZ in (dZ1, dZ2, dZ3))
    return Params(dZ1 @ X.T, b1, dZ2 @ A1.T, b2, dZ3 @ A2.T, b3)


def main() -> list[jc.Report]:
    np.random.seed(1)  # the exercise's numbers, in the order in which it draws them
    X, Y, textbook = np.random.randn(4, 3), np.array([1, 1, 0]), jc.Exhaustive(step=1e-7)
    params = Params(*(np.random.randn(*shape) for shape in ((5, 4), (5, 1), (3, 5), (3, 1), (1, 3), (1, 1))))
    with jax.enable_x64(True):  # they are float64; in JAX's default mode they would be rounded to float32
        mistaken = lambda *given: (g := backprop(*given))._replace(W2=2 * g.W2, b1=4 * g.b1)  # noqa: E731
        wrong = jc.check_grad(loss, params, mistaken, args=(X, Y), mode=textbook, name="two mistakes")
        right = jc.check_grad(loss, params, backprop, args=(X, Y), mode=textbook, name="corrected")
        own = jc.check_grad(loss, params, backprop, args=(X, Y), name="corrected, jaxcheck's own steps")
    print(*(f"{one}\ndifference by formula (2): {one.difference:.10g}\n" for one in (wrong, right, own)), sep="\n")
    return [wrong, right, own]


if __name__ == "__main__":
    raise SystemExit([str(report.verdict) for report in main()] != ["FAIL", "PASS", "PASS"])
