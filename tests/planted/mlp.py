"""Dense networks: the textbook's backprop and every classic way to get it wrong."""

import jax.numpy as jnp

from tests.planted.base import ALL_REAL, Problem, draws, right, sigmoid, wrong


def mlp(dtype, bug=None):
    """The textbook's net, one column per example: tanh, sigmoid, mean cross-entropy."""
    r = draws(1, dtype)
    p = {"W1": r(5, 4, scale=0.5), "b1": r(5, 1), "W2": r(1, 5, scale=0.5), "b2": r(1, 1)}
    X, Y = r(4, 6), (r(1, 6) > 0).astype(dtype)

    def loss(p, X, Y):
        A2 = sigmoid(p["W2"] @ jnp.tanh(p["W1"] @ X + p["b1"]) + p["b2"])
        return -jnp.mean(Y * jnp.log(A2) + (1 - Y) * jnp.log(1 - A2))

    def grad(p, X, Y):
        m = 1 if bug == "no-mean" else X.shape[1]
        Z1 = p["W1"] @ X + p["b1"]
        A1 = jnp.tanh(Z1)
        A2 = sigmoid(p["W2"] @ A1 + p["b2"])
        dZ2 = (A2 - Y) / m
        if bug == "squared-error":
            dZ2 = dZ2 * A2 * (1 - A2)
        slope = {"at-z": 1 - Z1**2, "not-squared": 1 - A1, "no-activation": 1}.get(bug, 1 - A1**2)
        dZ1 = p["W2"].T @ dZ2 * slope
        g = {"W1": dZ1 @ X.T, "W2": dZ2 @ A1.T}
        g["b1"] = dZ1.sum(1, keepdims=True)
        g["b2"] = dZ2.sum(1, keepdims=True)
        if bug == "sum-all":
            g["b1"] = jnp.full_like(g["b1"], dZ1.sum())
        if bug == "last-example":
            g["b1"] = dZ1[:, -1:]
        if bug == "mean-twice":
            g["W1"] = g["W1"] / m
        if isinstance(bug, tuple):  # (leaf, factor)
            g[bug[0]] = g[bug[0]] * bug[1]
        return g

    return Problem(loss, p, grad, (X, Y))


def square(dtype, bug=None):
    """Three layers of equal size, so that no shape gives a transposition or a swap away."""
    r = draws(2, dtype)
    p = {"layers": [{"W": r(4, 4, scale=0.7), "b": r(4, scale=0.3)} for _ in range(3)]}
    X, Y = r(5, 4), r(5, 4)

    def forward(p, X):
        outputs = [X]
        for layer in p["layers"]:
            outputs.append(sigmoid(outputs[-1] @ layer["W"] + layer["b"]))
        return outputs

    def loss(p):
        return 0.5 * jnp.sum((forward(p, X)[-1] - Y) ** 2)

    def grad(p):
        outputs = forward(p, X)
        layers, dA = [None] * 3, outputs[-1] - Y
        for i in (2, 1, 0):
            A = outputs[i + 1]
            if bug == "at-a" and i == 0:
                A = sigmoid(A)  # the derivative taken at the activation, not at its input
            if bug == "wrong-layer" and i == 0:
                A = outputs[2]
            dZ = dA * A * (1 - A)
            layers[i] = {"W": outputs[i].T @ dZ, "b": dZ.sum(0)}
            W = p["layers"][i]["W"]
            dA = dZ @ (W if bug == "no-transpose" and i == 1 else W.T)
            if bug == "stopped" and i == 1:
                dA = dA * 0
        W1, W2 = layers[1]["W"], layers[2]["W"]
        if bug == "transposed":
            layers[1]["W"] = W1.T
        if bug == "swapped":
            layers[1]["W"], layers[2]["W"] = W2, W1
        if bug == "last-row":
            layers[1]["W"] = W1.at[-1].set(0)
        if bug == "one-column":
            layers[1]["W"] = W1.at[:, 2].multiply(-1)
        if bug == "rolled":
            layers[2]["b"] = jnp.roll(layers[2]["b"], 1)
        if bug == "reversed":
            layers[0]["b"] = layers[0]["b"][::-1]
        if bug == "one-component":
            layers[2]["W"] = W2.at[3, 1].multiply(1.01)
        return {"layers": layers}

    return Problem(loss, p, grad)


def leaky(dtype, bug=None):
    """Leaky relu and elu, right for positive inputs whatever the bug."""
    r = draws(3, dtype)
    p, X, y = (r(6, 4), r(4, scale=0.5), r(4)), r(9, 6), r(9)

    def loss(p):
        W, b, v = p
        Z = X @ W + b
        Z = jnp.where(Z > 0, Z, 0.1 * Z)
        U = Z @ v
        return jnp.mean((jnp.where(U > 0, U, jnp.exp(jnp.minimum(U, 0)) - 1) - y) ** 2)

    def grad(p):
        W, b, v = p
        Z = X @ W + b
        A = jnp.where(Z > 0, Z, 0.1 * Z)
        U = A @ v
        E = jnp.where(U > 0, U, jnp.exp(jnp.minimum(U, 0)) - 1)
        dU = 2 * (E - y) / y.size
        dU = dU * jnp.where(U > 0, 1, 1.0 if bug == "elu-negative" else E + 1)
        dZ = jnp.outer(dU, v) * jnp.where(Z > 0, 1, 0.01 if bug == "slope" else 0.1)
        if bug == "rare":  # only the examples whose every unit is negative
            dZ = jnp.where((Z < 0.3).all(1)[:, None], 0, dZ)
        return X.T @ dZ, dZ.sum(0), A.T @ dU

    return Problem(loss, p, grad)


def ridge(dtype, bug=None):
    """Regression with an L2 term on the weights only; params are a list."""
    r = draws(4, dtype)
    p, X, y, decay = [r(5), r()], r(8, 5), r(8), 0.1

    def loss(p, X, y):
        return jnp.mean((X @ p[0] + p[1] - y) ** 2) / 2 + decay / 2 * jnp.sum(p[0] ** 2)

    def grad(p, X, y):
        d = (X @ p[0] + p[1] - y) / (1 if bug == "sum" else y.size)
        coefficient = {"forgotten": 0, "half": decay / 2, "over-m": decay / y.size}.get(bug, decay)
        db = d.sum() + (decay * p[1] if bug == "bias-too" else 0)
        if bug == "one-row":
            d = d.at[-1].set(0)  # the last, incomplete batch
        return [X.T @ d + coefficient * p[0], db]

    return Problem(loss, p, grad, (X, y))


CASES = (
    right("mlp", mlp, "the textbook's two-layer net", dtypes=ALL_REAL),
    wrong("mlp-missing-1-over-m", mlp, "no-mean", "1/m missing", "W1 W2 b1 b2", dtypes=ALL_REAL),
    wrong("mlp-mean-twice", mlp, "mean-twice", "1/m applied twice in dW1", "W1"),
    wrong("mlp-db-sum-all", mlp, "sum-all", "db1 summed over both axes, then broadcast", "b1"),
    wrong("mlp-db-last-example", mlp, "last-example", "db1 overwritten, not accumulated", "b1"),
    wrong("mlp-tanh-slope-at-z", mlp, "at-z", "1 - z^2 where 1 - a^2 is meant", "W1 b1"),
    wrong("mlp-tanh-slope-not-squared", mlp, "not-squared", "1 - a for 1 - a^2", "W1 b1"),
    wrong("mlp-no-activation-slope", mlp, "no-activation", "tanh' left out", "W1 b1"),
    wrong("mlp-loss-mixed-up", mlp, "squared-error", "a(1-a) kept", "W1 W2 b1 b2"),
    wrong("mlp-dW2-doubled", mlp, ("W2", 2), "dW2 is twice the truth", "W2", dtypes=ALL_REAL),
    wrong("mlp-db1-times-4", mlp, ("b1", 4), "db1 is four times the truth", "b1"),
    wrong("mlp-db2-sign", mlp, ("b2", -1), "sign of db2 flipped", "b2"),
    wrong("mlp-db1-zero", mlp, ("b1", 0), "db1 never filled in", "b1"),
    wrong("mlp-1-percent", mlp, ("W1", 1.01), "dW1 1 % too large", "W1"),
    wrong("mlp-1e-4", mlp, ("W2", 1 + 1e-4), "dW2 too large by 1e-4", "W2"),
    wrong("mlp-1e-6", mlp, ("W2", 1 + 1.2e-6), "dW2 too large by 1.2e-6", "W2"),
    right("square", square, "three square layers, parameters in a closure's list"),
    wrong("square-no-transpose", square, "no-transpose", "dZ W for dZ W^T", "layers[0].W layers[0].b"),
    wrong("square-dW-transposed", square, "transposed", "dW of a square layer transposed", "layers[1].W"),
    wrong("square-slope-at-a", square, "at-a", "sigmoid' taken at the activation", "layers[0].W layers[0].b"),
    wrong(
        "square-slope-of-next-layer",
        square,
        "wrong-layer",
        "the next layer's activation used",
        "layers[0].W layers[0].b",
    ),
    wrong("square-swapped", square, "swapped", "dW of two layers exchanged", "layers[1].W layers[2].W"),
    wrong("square-stopped", square, "stopped", "backprop stops before the first layer", "layers[0].W layers[0].b"),
    wrong("square-last-row", square, "last-row", "loop ends one row early", "layers[1].W"),
    wrong("square-one-column", square, "one-column", "one column has the wrong sign", "layers[1].W"),
    wrong("square-rolled", square, "rolled", "off by one: db rolled", "layers[2].b"),
    wrong("square-reversed", square, "reversed", "db in reverse order", "layers[0].b"),
    wrong("square-one-component-1-percent", square, "one-component", "one of 16 is 1 % off", "layers[2].W"),
    right("leaky", leaky, "leaky relu and elu, away from their kinks"),
    wrong("leaky-slope", leaky, "slope", "0.01 for 0.1: wrong only where z < 0", "[0] [1]"),
    wrong("elu-negative", leaky, "elu-negative", "slope 1 where u < 0", "[0] [1] [2]"),
    wrong("leaky-rare-branch", leaky, "rare", "only examples with every unit small", "[0] [1]"),
    right("ridge", ridge, "linear regression with weight decay"),
    wrong("ridge-decay-forgotten", ridge, "forgotten", "no decay term", "[0]"),
    wrong("ridge-decay-half", ridge, "half", "decay term halved", "[0]"),
    wrong("ridge-decay-over-m", ridge, "over-m", "decay divided by the batch size", "[0]"),
    wrong("ridge-decay-on-bias", ridge, "bias-too", "bias decayed though the loss does not", "[1]"),
    wrong("ridge-sum-for-mean", ridge, "sum", "factor of the batch size", "[0] [1]"),
    wrong("ridge-last-example", ridge, "one-row", "last example left out of dW", "[0]"),
)
