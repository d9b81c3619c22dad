"""Losses at the end of a network: softmax cross-entropy and its relatives, margins, likelihoods."""

import jax.numpy as jnp

from tests.planted.base import ALL_REAL, Problem, draws, ints, right, sigmoid, wrong


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - jnp.log(jnp.exp(z).sum(-1, keepdims=True))


def one_hot(labels, n, dtype):
    return (labels[:, None] == jnp.arange(n)).astype(dtype)


def xent(dtype, bug=None):
    """Mean softmax cross-entropy of a linear classifier, integer labels in args."""
    r = draws(11, dtype)
    p, X, labels = {"W": r(5, 4), "b": r(4)}, r(6, 5), ints(11, 4, 6)

    def loss(p, X, labels):
        logp = log_softmax(X @ p["W"] + p["b"])
        return -jnp.mean(jnp.take_along_axis(logp, labels[:, None], 1))

    def grad(p, X, labels):
        Z = X @ p["W"] + p["b"]
        P = jnp.exp(log_softmax(Z))
        if bug == "wrong-axis":
            P = jnp.exp(Z) / jnp.exp(Z).sum(0)
        dZ = (P - one_hot(labels, 4, Z.dtype)) / len(labels)
        if bug == "no-label":
            dZ = P / len(labels)
        if bug == "sign":
            dZ = -dZ
        if bug == "label-off-by-one":
            dZ = (P - one_hot((labels + 1) % 4, 4, Z.dtype)) / len(labels)
        if bug == "through-softmax":  # p - y sent through the softmax's Jacobian once more
            dZ = P * (dZ - (P * dZ).sum(-1, keepdims=True))
        if bug == "classes-for-examples":
            dZ = dZ * len(labels) / 4
        return {"W": X.T @ dZ, "b": dZ.sum(1)[:4] if bug == "bias-axis" else dZ.sum(0)}

    return Problem(loss, p, grad, (X, labels))


def tokens(dtype, bug=None):
    """Masked, weighted, smoothed cross-entropy with a learned temperature, over padded tokens."""
    r = draws(12, dtype)
    p = {"E": r(7, 5), "log_t": r(scale=0.3)}
    labels, mask = ints(12, 5, 7), jnp.arange(7) < 5
    weight, smooth = jnp.asarray([1.0, 2.0, 0.5, 1.0, 3.0], dtype), 0.1

    def targets(dtype, smooth):
        return (1 - smooth) * one_hot(labels, 5, dtype) + smooth / 5

    def loss(p):
        logp = log_softmax(p["E"] * jnp.exp(-p["log_t"]))
        each = -(targets(logp.dtype, smooth) * logp).sum(-1) * weight[labels]
        return jnp.where(mask, each, 0).sum() / mask.sum()

    def grad(p):
        scale = jnp.exp(-p["log_t"])
        P = jnp.exp(log_softmax(p["E"] * scale))
        w = 1 if bug == "no-weight" else weight[labels][:, None]
        count = len(labels) if bug == "mean-of-padded" else mask.sum()
        dZ = w * (P - targets(P.dtype, 0 if bug == "no-smoothing" else smooth)) / count
        if bug != "no-mask":
            dZ = jnp.where(mask[:, None], dZ, 0)
        dt = -(dZ * p["E"]).sum() * (1 if bug == "temperature" else scale)
        return {"E": dZ if bug == "unscaled" else dZ * scale, "log_t": dt}

    return Problem(loss, p, grad)


def binary(dtype, bug=None):
    """Binary cross-entropy with logits and a positive weight; params are one bare vector."""
    r = draws(13, dtype)
    w, X, y = r(6), r(9, 6), (r(9) > 0).astype(dtype)

    def loss(w, X, y):
        z = X @ w
        soft = jnp.maximum(-z, 0) + jnp.log1p(jnp.exp(-jnp.abs(z)))
        return jnp.sum((1 - y) * z + (1 + 2 * y) * soft)

    def grad(w, X, y):
        s = sigmoid(X @ w)
        if bug == "no-weight":
            return X.T @ (s - y)
        return X.T @ ((1 - y) - (1 + 2 * y) * (1 - s))

    return Problem(loss, w, grad, (X, y))


def hinge(dtype, bug=None):
    """Multi-class hinge, away from its margin, with a squared hinge beside it."""
    r = draws(14, dtype)
    W, X, labels = r(5, 3), r(7, 5), ints(14, 3, 7)

    def loss(W):
        Z = X @ W
        true = jnp.take_along_axis(Z, labels[:, None], 1)
        margin = jnp.maximum(0, Z - true + 1)
        Y = one_hot(labels, 3, Z.dtype)
        return jnp.sum((1 - Y) * (margin + margin**2))

    def grad(W):
        Z = X @ W
        true = jnp.take_along_axis(Z, labels[:, None], 1)
        margin, Y = jnp.maximum(0, Z - true + 1), one_hot(labels, 3, Z.dtype)
        dZ = (1 - Y) * ((margin > 0) + 2 * margin)
        total = (margin * (1 - Y) > 0).sum(1, keepdims=True) if bug == "count" else dZ.sum(1, keepdims=True)
        return X.T @ (dZ if bug == "true-class" else dZ - Y * total)

    return Problem(loss, W, grad)


def huber(dtype, bug=None):
    """Huber regression where few residuals reach the linear branch."""
    r = draws(15, dtype)
    w, X = r(4), r(12, 4)
    y, delta = (X @ w + 0.3 * r(12)).at[5].add(4), 1.5

    def loss(w):
        e = X @ w - y
        a = jnp.abs(e)
        return jnp.mean(jnp.where(a < delta, e**2 / 2, delta * (a - delta / 2)))

    def grad(w):
        e = X @ w - y
        outside = {"no-delta": jnp.sign(e), "unclipped": e}.get(bug, delta * jnp.sign(e))
        return X.T @ jnp.where(jnp.abs(e) < delta, e, outside) / y.size

    return Problem(loss, w, grad)


def gaussian(dtype, bug=None):
    """Heteroscedastic Gaussian likelihood plus the KL term of a variational code, as a tuple."""
    r = draws(16, dtype)
    p, y, noise = (r(5), r(5, scale=0.5)), r(5), r(5)

    def loss(p, y):
        mean, logvar = p
        z = mean + jnp.exp(logvar / 2) * noise
        fit = 0.5 * jnp.sum(logvar + (y - mean) ** 2 * jnp.exp(-logvar))
        kl = -0.5 * jnp.sum(1 + logvar - mean**2 - jnp.exp(logvar))
        return fit + kl + jnp.sum(jnp.sin(z))

    def grad(p, y):
        mean, logvar = p
        std = jnp.exp(logvar / 2)
        dz = jnp.cos(mean + std * noise)
        dmean = (mean - y) / std**2 + mean + dz
        dlog = 0.5 * (1 - ((y - mean) / std) ** 2) + 0.5 * (std**2 - 1)
        if bug == "kl-half":
            dlog = dlog + 0.5 * (std**2 - 1)
        if bug == "no-determinant":
            dlog = dlog - 0.5
        if bug != "no-reparametrisation":
            dlog = dlog + dz * noise * std / (1 if bug == "std" else 2)
        return dmean, dlog

    return Problem(loss, p, grad, (y,))


CASES = (
    right("xent", xent, "softmax cross-entropy", dtypes=ALL_REAL),
    wrong("xent-no-label", xent, "no-label", "p where p - y is meant", "W b", dtypes=ALL_REAL),
    wrong("xent-sign", xent, "sign", "y - p", "W b"),
    wrong("xent-wrong-axis", xent, "wrong-axis", "softmax over the batch", "W b"),
    wrong("xent-label-off-by-one", xent, "label-off-by-one", "labels shifted", "W b"),
    wrong("xent-softmax-twice", xent, "through-softmax", "softmax's Jacobian twice", "W b"),
    wrong("xent-classes-for-examples", xent, "classes-for-examples", "mean over classes", "W b"),
    wrong("xent-bias-axis", xent, "bias-axis", "db summed over the classes", "b"),
    right("tokens", tokens, "masked, weighted, smoothed tokens with a temperature"),
    wrong("tokens-no-mask", tokens, "no-mask", "padding contributes", "E log_t"),
    wrong("tokens-mean-of-padded", tokens, "mean-of-padded", "divided by all tokens", "E log_t"),
    wrong("tokens-no-smoothing", tokens, "no-smoothing", "hard labels in backprop", "E log_t"),
    wrong("tokens-no-class-weight", tokens, "no-weight", "class weights left out", "E log_t"),
    wrong("tokens-temperature", tokens, "temperature", "1/t missing in the temperature", "log_t"),
    wrong("tokens-unscaled", tokens, "unscaled", "1/t missing in the logits", "E"),
    right("binary-logits", binary, "weighted binary cross-entropy of logits, a bare vector"),
    wrong("binary-no-weight", binary, "no-weight", "positive weight left out", ""),
    right("hinge", hinge, "multi-class hinge away from the margin"),
    wrong("hinge-true-class", hinge, "true-class", "the true class gets no gradient", ""),
    wrong("hinge-count", hinge, "count", "margins counted, their squares forgotten", ""),
    right("huber", huber, "Huber loss with one outlier"),
    wrong("huber-no-delta", huber, "no-delta", "delta missing in the rare linear branch", ""),
    wrong("huber-unclipped", huber, "unclipped", "the rare branch taken as quadratic", ""),
    right("gaussian-vae", gaussian, "likelihood, KL and reparametrised noise"),
    wrong("gaussian-kl-half", gaussian, "kl-half", "KL's half forgotten", "[1]"),
    wrong("gaussian-no-determinant", gaussian, "no-determinant", "log-determinant left out", "[1]"),
    wrong("gaussian-no-noise-path", gaussian, "no-reparametrisation", "the noise path dropped", "[1]"),
    wrong("gaussian-std-for-logvar", gaussian, "std", "chain rule of exp(s/2) without its half", "[1]"),
)
