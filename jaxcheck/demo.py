"""What `jaxcheck demo` shows: a small classifier, its backprop with two mistakes, then without."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.check.calls import check_grad
from jaxcheck.result import Report, Verdict

Params = dict[str, Any]

PLANTED = ("W2", "b1")


def network() -> tuple[Params, np.ndarray, np.ndarray]:
    """Parameters of a 4-5-3-1 network, and seven examples with their labels, all float32."""
    rng = np.random.default_rng(1)
    sizes = (4, 5, 3, 1)
    params: Params = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        params[f"W{layer}"] = rng.normal(size=(inputs, outputs)).astype(np.float32)
        params[f"b{layer}"] = rng.normal(scale=0.5, size=outputs).astype(np.float32)
    X = rng.normal(size=(7, sizes[0])).astype(np.float32)
    Y = (rng.uniform(size=(7, 1)) < 0.5).astype(np.float32)
    return params, X, Y


def forward(params: Params, X: Any) -> tuple[Any, Any, Any]:
    A1 = jnp.tanh(X @ params["W1"] + params["b1"])
    A2 = jax.nn.relu(A1 @ params["W2"] + params["b2"])
    Z3 = A2 @ params["W3"] + params["b3"]
    return A1, A2, Z3


def loss(params: Params, X: Any, Y: Any) -> Any:
    """Cross entropy of a sigmoid output, written so that it does not overflow."""
    _, _, Z3 = forward(params, X)
    return jnp.mean(jax.nn.softplus(Z3) - Y * Z3)


def backprop(params: Params, X: Any, Y: Any) -> Params:
    """The gradient of `loss`, by hand."""
    A1, A2, Z3 = forward(params, X)
    dZ3 = (jax.nn.sigmoid(Z3) - Y) / X.shape[0]
    dZ2 = (dZ3 @ params["W3"].T) * (A2 > 0)
    dZ1 = (dZ2 @ params["W2"].T) * (1 - A1**2)
    return {
        "W1": X.T @ dZ1,
        "b1": dZ1.sum(0),
        "W2": A1.T @ dZ2,
        "b2": dZ2.sum(0),
        "W3": A2.T @ dZ3,
        "b3": dZ3.sum(0),
    }


def mistaken_backprop(params: Params, X: Any, Y: Any) -> Params:
    """The same with the textbook's two mistakes: dW2 doubled, db1 times 4."""
    grads = backprop(params, X, Y)
    return {**grads, "W2": 2 * grads["W2"], "b1": 4 * grads["b1"]}


def reports() -> tuple[Report, Report]:
    """The check of the mistaken backprop, and of the right one."""
    params, X, Y = network()
    wrong = check_grad(loss, params, grad=mistaken_backprop, args=(X, Y))
    right = check_grad(loss, params, grad=backprop, args=(X, Y))
    return wrong, right


def as_designed(wrong: Report, right: Report) -> bool:
    """Whether both mistakes, and nothing else, were found in the first and nothing in the second."""
    blamed = {leaf.path for leaf in wrong.leaves if leaf.verdict is Verdict.FAIL}
    return wrong.verdict is Verdict.FAIL and blamed == set(PLANTED) and right.ok
