"""Normalisation layers: the paths through the mean and the variance, axes, keepdims."""

import jax.numpy as jnp

from tests.planted.base import Problem, draws, right, wrong


def batch_norm(dtype, bug=None, exact=False):
    """Linear, batch norm, tanh; the bias before the norm has a gradient of exactly zero."""
    r = draws(21, dtype)
    p = {"W": r(3, 4), "b0": r(4), "gamma": r(4), "beta": r(4)}
    X, T, eps = r(7, 3), r(7, 4), 1e-2

    def loss(p, X, T):
        U = X @ p["W"] + p["b0"]
        C = U - U.mean(0)
        N = C / jnp.sqrt((C**2).mean(0) + eps)
        return jnp.sum(jnp.tanh(p["gamma"] * N + p["beta"]) * T)

    def grad(p, X, T):
        m = len(X)
        U = X @ p["W"] + p["b0"]
        C = U - U.mean(0)
        inv = 1 / jnp.sqrt((C**2).mean(0) + (0 if bug == "no-eps" else eps))
        dY = (1 - jnp.tanh(p["gamma"] * C * inv + p["beta"]) ** 2) * T
        dN = dY * p["gamma"]
        dvar = (dN * C).sum(0) * -0.5 * inv**3
        dmean = -(dN * inv).sum(0)
        if bug == "no-mean-path":
            dmean = 0
        if bug == "no-variance-path":
            dvar = 0
        dU = dN * inv + 2 * C * dvar / (m - 1 if bug == "unbiased" else m) + dmean / m
        dgamma = (dY * (U if bug == "gamma" else C * inv)).sum(0)
        dbeta = dY.mean(0) if bug == "beta-mean" else dY.sum(0)
        db0 = jnp.zeros_like(p["b0"]) if exact else dU.sum(0)
        return {"W": X.T @ dU, "b0": db0, "gamma": dgamma, "beta": dbeta}

    return Problem(loss, p, grad, (X, T))


def layer_norm(dtype, bug=None):
    """Layer norm over the features of a square batch, so that a wrong axis has the right shape."""
    r = draws(22, dtype)
    p, T, eps = {"x": r(5, 5), "scale": r(5), "shift": r(5)}, r(5, 5), 1e-5

    def loss(p):
        C = p["x"] - p["x"].mean(-1, keepdims=True)
        N = C / jnp.sqrt((C**2).mean(-1, keepdims=True) + eps)
        return jnp.sum((N * p["scale"] + p["shift"] - T) ** 2)

    def grad(p):
        C = p["x"] - p["x"].mean(-1, keepdims=True)
        inv = 1 / jnp.sqrt((C**2).mean(-1, keepdims=True) + eps)
        N = C * inv
        dY = 2 * (N * p["scale"] + p["shift"] - T)
        dN = dY if bug == "no-scale" else dY * p["scale"]
        axis = 0 if bug == "axis" else -1
        keep = bug != "keepdims"
        mean = dN.mean(axis, keepdims=keep)
        along = (dN * N).mean(axis, keepdims=keep)
        dx = dN - mean * (bug != "no-mean-path") - N * along * (bug != "no-variance-path")
        dscale = (dY * N).sum(1 if bug == "scale-axis" else 0)
        return {"x": dx * (1 if bug == "no-inverse" else inv), "scale": dscale, "shift": dY.sum(0)}

    return Problem(loss, p, grad)


def rms_norm(dtype, bug=None):
    r = draws(23, dtype)
    p, T = {"x": r(4, 6), "g": r(6)}, r(4, 6)

    def loss(p):
        N = p["x"] / jnp.sqrt((p["x"] ** 2).mean(-1, keepdims=True) + 1e-6)
        return jnp.sum(jnp.sin(p["g"] * N) * T)

    def grad(p):
        x, inv = p["x"], 1 / jnp.sqrt((p["x"] ** 2).mean(-1, keepdims=True) + 1e-6)
        dY = jnp.cos(p["g"] * x * inv) * T
        dN = dY * p["g"]
        inner = (dN * x).sum(-1, keepdims=True) / (1 if bug == "sum" else x.shape[-1])
        dx = dN * inv - (0 if bug == "constant" else x * inv**3 * inner)
        return {"x": dx, "g": (dY * x * inv).sum(0)}

    return Problem(loss, p, grad)


def weight_norm(dtype, bug=None):
    """W = g v / |v| row by row: a parametrisation whose direction and length are coupled."""
    r = draws(24, dtype)
    p, X, T = {"v": r(4, 4), "g": r(4)}, r(6, 4), r(6, 4)

    def loss(p):
        W = p["g"][:, None] * p["v"] / jnp.linalg.norm(p["v"], axis=1, keepdims=True)
        return 0.5 * jnp.sum((X @ W.T - T) ** 2)

    def grad(p):
        length = jnp.linalg.norm(p["v"], axis=1, keepdims=True)
        unit, g = p["v"] / length, p["g"][:, None]
        dW = (X @ (g * unit).T - T).T @ X
        dg = (dW * unit).sum(1)
        tangent = dW if bug == "no-projection" else dW - dg[:, None] * unit
        return {"v": tangent * g / (1 if bug == "no-length" else length), "g": dg}

    return Problem(loss, p, grad)


def standardise(dtype, bug=None):
    """Standardised over everything, with the n - 1 estimate of the variance."""
    r = draws(25, dtype)
    x, T = r(3, 5), r(3, 5)

    def loss(x):
        C = x - x.mean()
        return jnp.sum(jnp.exp(C / jnp.sqrt((C**2).sum() / (x.size - 1))) * T)

    def grad(x):
        n = x.size
        C = x - x.mean()
        s = jnp.sqrt((C**2).sum() / (n - 1))
        dN = jnp.exp(C / s) * T
        dC = dN / s - C * (dN * C).sum() / s**3 / (n if bug == "biased" else n - 1)
        return dC - dC.mean(0 if bug == "mean-axis" else None)

    return Problem(loss, x, grad)


CASES = (
    right("batch-norm", batch_norm, "db before the norm is rounding noise around zero"),
    right("batch-norm-exact-zero", batch_norm, "db before the norm is exactly zero", exact=True),
    wrong("batch-norm-no-mean-path", batch_norm, "no-mean-path", "mean taken as constant", "W b0"),
    wrong("batch-norm-no-variance-path", batch_norm, "no-variance-path", "variance taken as constant", "W"),
    wrong("batch-norm-no-eps", batch_norm, "no-eps", "eps missing in backprop", "W gamma beta"),
    wrong("batch-norm-unbiased", batch_norm, "unbiased", "m - 1 for m", "W"),
    wrong("batch-norm-gamma", batch_norm, "gamma", "dgamma from x, not normalised x", "gamma"),
    wrong("batch-norm-beta-mean", batch_norm, "beta-mean", "dbeta averaged", "beta"),
    right("layer-norm", layer_norm, "layer norm of a square batch"),
    wrong("layer-norm-no-mean-path", layer_norm, "no-mean-path", "mean taken as constant", "x"),
    wrong("layer-norm-no-variance-path", layer_norm, "no-variance-path", "variance taken as constant", "x"),
    wrong("layer-norm-axis", layer_norm, "axis", "means over the batch", "x"),
    wrong("layer-norm-keepdims", layer_norm, "keepdims", "keepdims forgotten: broadcast along the other axis", "x"),
    wrong("layer-norm-no-scale", layer_norm, "no-scale", "scale left out of dx", "x"),
    wrong("layer-norm-scale-axis", layer_norm, "scale-axis", "dscale over features", "scale"),
    wrong("layer-norm-no-inverse", layer_norm, "no-inverse", "1/sigma missing", "x"),
    right("rms-norm", rms_norm, "root mean square norm"),
    wrong("rms-norm-sum", rms_norm, "sum", "sum where the mean is meant", "x"),
    wrong("rms-norm-constant", rms_norm, "constant", "the norm taken as constant", "x"),
    right("weight-norm", weight_norm, "weights by direction and length"),
    wrong("weight-norm-no-projection", weight_norm, "no-projection", "radial part kept", "v"),
    wrong("weight-norm-no-length", weight_norm, "no-length", "1/|v| missing", "v"),
    right("standardise", standardise, "all entries standardised, n - 1"),
    wrong("standardise-biased", standardise, "biased", "n for n - 1", ""),
    wrong("standardise-mean-axis", standardise, "mean-axis", "mean over one axis only", ""),
)
