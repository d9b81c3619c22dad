"""Linear algebra: solves, determinants, factorisations, eigenvalues, fixed points."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.planted.base import Problem, draws, right, wrong


def near(dtype, seed, n, scale=0.3):
    """A generic, well-conditioned matrix."""
    return jnp.eye(n, dtype=dtype) * 2 + draws(seed, dtype)(n, n, scale=scale)


def solve(dtype, bug=None):
    p = {"A": near(dtype, 61, 4), "b": draws(62, dtype)(4)}
    c = draws(63, dtype)(4)

    def loss(p, c):
        return jnp.sum(jnp.sin(jnp.linalg.solve(p["A"], p["b"])) * c)

    def grad(p, c):
        A = p["A"]
        x = jnp.linalg.solve(A, p["b"])
        y = jnp.linalg.solve(A if bug == "no-transpose" else A.T, jnp.cos(x) * c)
        dA = jnp.outer(y, x) if bug == "sign" else -jnp.outer(y, x)
        return {"A": dA.T if bug == "transposed" else dA, "b": y}

    return Problem(loss, p, grad, (c,))


def inverse(dtype, bug=None):
    A, C = near(dtype, 64, 3), draws(65, dtype)(3, 3)

    def loss(A):
        sign, logdet = jnp.linalg.slogdet(A)
        return jnp.sum(jnp.linalg.inv(A) * C) + sign * logdet + jnp.trace(A @ A)

    def grad(A):
        B = jnp.linalg.inv(A)
        logdet = B if bug == "logdet" else B.T
        trace = A + A.T if bug == "trace" else 2 * A.T
        middle = -B @ C @ B if bug == "inverse" else -B.T @ C @ B.T
        return middle + logdet + trace

    return Problem(loss, A, grad)


def quadratic(dtype, bug=None):
    """x'Ax for a general A, and a Rayleigh quotient."""
    r = draws(66, dtype)
    p = (r(4), r(4, 4))

    def loss(p):
        x, A = p
        return x @ A @ x + (x @ A @ x) / (x @ x)

    def grad(p):
        x, A = p
        n, q = x @ x, x @ A @ x
        both = 2 * A @ x if bug == "symmetric" else A @ x + A.T @ x
        dx = both * (1 + 1 / n) - (0 if bug == "quotient" else 2 * q * x / n**2)
        return dx, jnp.outer(x, x) * (1 if bug == "denominator" else 1 + 1 / n)

    return Problem(loss, p, grad)


def gaussian_process(dtype, bug=None):
    """Marginal likelihood of a Gaussian process, by Cholesky: log length, log noise, mean."""
    r = draws(67, dtype)
    p = {"length": r(scale=0.2), "noise": r(scale=0.2), "mean": r()}
    x, y = jnp.linspace(0, 3, 6, dtype=dtype), r(6)
    D = (x[:, None] - x) ** 2

    def kernel(p):
        K = jnp.exp(-D * jnp.exp(-2 * p["length"]) / 2)
        return K, K + jnp.exp(p["noise"]) * jnp.eye(6, dtype=D.dtype)

    def loss(p):
        L = jnp.linalg.cholesky(kernel(p)[1])
        a = jax.scipy.linalg.solve_triangular(L, y - p["mean"], lower=True)
        return 0.5 * a @ a + jnp.sum(jnp.log(jnp.diag(L)))

    def grad(p):
        K, S = kernel(p)
        inv = jnp.linalg.inv(S)
        a = inv @ (y - p["mean"])
        half = 1 if bug == "half" else 0.5
        dS = half * inv - 0.5 * jnp.outer(a, a)
        if bug == "no-determinant":
            dS = -0.5 * jnp.outer(a, a)
        power = 1 if bug == "length" else jnp.exp(-2 * p["length"])
        noise = jnp.trace(dS) * (1 if bug == "log-noise" else jnp.exp(p["noise"]))
        mean = a.sum() if bug == "mean-sign" else -a.sum()
        return {"length": jnp.sum(dS * K * D * power), "noise": noise, "mean": mean}

    return Problem(loss, p, grad)


def covariance(dtype, bug=None):
    """A Gaussian likelihood by its Cholesky factor, packed as a vector below the diagonal."""
    r = draws(68, dtype)
    p, X = {"packed": r(6, scale=0.4), "mean": r(3)}, r(8, 3)
    rows, cols = np.tril_indices(3)

    def factor(packed):
        L = jnp.zeros((3, 3), packed.dtype).at[rows, cols].set(packed)
        return L.at[jnp.arange(3), jnp.arange(3)].set(jnp.exp(jnp.diag(L)))

    def loss(p):
        L = factor(p["packed"])
        Z = jax.scipy.linalg.solve_triangular(L, (X - p["mean"]).T, lower=True)
        return jnp.mean(0.5 * (Z**2).sum(0)) + jnp.sum(jnp.log(jnp.diag(L)))

    def grad(p):
        L = factor(p["packed"])
        Z = jax.scipy.linalg.solve_triangular(L, (X - p["mean"]).T, lower=True)
        back = jax.scipy.linalg.solve_triangular(L.T, Z, lower=False) / len(X)
        dL = -back @ Z.T
        diagonal = jnp.diag(dL) * (1 if bug == "exp" else jnp.diag(L)) + 1
        if bug == "upper":
            dL = dL.T
        dL = dL.at[jnp.arange(3), jnp.arange(3)].set(diagonal)
        return {"packed": dL[rows, cols], "mean": -back.sum(1)}

    return Problem(loss, p, grad)


def symmetric(dtype, bug=None):
    """Eigenvalues and eigenvectors of the symmetric matrix with a given lower triangle."""
    r = draws(69, dtype)
    p, c, v = r(10), r(4), r(4)
    rows, cols = np.tril_indices(4)

    def full(p):
        return jnp.zeros((4, 4), p.dtype).at[rows, cols].set(p).at[cols, rows].set(p)

    def loss(p):
        w, V = jnp.linalg.eigh(full(p))
        return jnp.sum(jnp.sin(w) * c) + jnp.sum((v @ V) ** 2 * c)

    def grad(p):
        w, V = jnp.linalg.eigh(full(p))
        u = v @ V
        gap = w[None] - w[:, None] + jnp.eye(4, dtype=w.dtype)
        F = (1 - jnp.eye(4, dtype=w.dtype)) / gap
        dV = 2 * jnp.outer(v, u * c)
        inner = jnp.diag(jnp.cos(w) * c)
        if bug != "values-only":
            inner = inner + F * (V.T @ dV)
        S = V @ inner @ V.T
        S = (S + S.T) / 2
        double = 1 if bug == "half-off-diagonal" else 2
        return S[rows, cols] * jnp.where(rows == cols, 1, double)

    return Problem(loss, p, grad)


def equilibrium(dtype, bug=None):
    """A fixed point of 200 tanh iterations; the gradient by the implicit function theorem."""
    r = draws(70, dtype)
    p = {"W": r(4, 4, scale=0.25), "b": r(4)}
    target = r(4)

    def fixed(p):
        return jax.lax.fori_loop(0, 200, lambda _, z: jnp.tanh(p["W"] @ z + p["b"]), jnp.zeros_like(p["b"]))

    def loss(p):
        return 0.5 * jnp.sum((fixed(p) - target) ** 2)

    def grad(p):
        z = fixed(p)
        s = 1 - z**2
        J = s[:, None] * p["W"]
        eye = jnp.eye(4, dtype=z.dtype)
        if bug == "one-step":  # the last iteration only: (I - J)^-1 taken as I
            adj = z - target
        elif bug == "neumann":
            adj = (eye + J.T) @ (z - target)
        else:
            adj = jnp.linalg.solve(eye - (J if bug == "no-transpose" else J.T), z - target)
        db = s * adj
        return {"W": jnp.outer(db, z), "b": db}

    return Problem(loss, p, grad)


def pairs(dtype, bug=None):
    """A repulsion between all pairs of points: every pair acts on both."""
    r = draws(71, dtype)
    X = r(5, 2)

    def loss(X):
        D = X[:, None] - X
        d2 = (D**2).sum(-1) + jnp.eye(5, dtype=X.dtype)
        return jnp.sum(jnp.log(d2)) + jnp.sum(1 / jnp.sqrt(d2))

    def grad(X):
        D = X[:, None] - X
        d2 = (D**2).sum(-1) + jnp.eye(5, dtype=X.dtype)
        pull = 2 * D * (1 / d2 - 0.5 * d2**-1.5)[..., None]
        if bug == "one-side":
            return pull.sum(1)
        return pull.sum(1) + (pull.sum(0) if bug == "sign" else -pull.sum(0))

    return Problem(loss, X, grad)


CASES = (
    right("solve", solve, "a linear solve by its adjoint"),
    wrong("solve-no-transpose", solve, "no-transpose", "A for A^T in the adjoint", "A b"),
    wrong("solve-sign", solve, "sign", "minus missing in dA", "A"),
    wrong("solve-dA-transposed", solve, "transposed", "dA transposed", "A"),
    right("inverse", inverse, "inverse, logdet and trace of a general matrix"),
    wrong("inverse-no-transpose", inverse, "inverse", "A^-1 for A^-T", ""),
    wrong("inverse-logdet", inverse, "logdet", "logdet's A^-1 not transposed", ""),
    wrong("inverse-trace", inverse, "trace", "2A^T taken as A + A^T", ""),
    right("quadratic", quadratic, "a quadratic form that is not symmetric"),
    wrong("quadratic-symmetric", quadratic, "symmetric", "2A for A + A^T", "[0]"),
    wrong("quadratic-quotient", quadratic, "quotient", "quotient rule's second term", "[0]"),
    wrong("quadratic-denominator", quadratic, "denominator", "1/|x|^2 missing", "[1]"),
    right("gaussian-process", gaussian_process, "marginal likelihood by Cholesky, scalars"),
    wrong("gp-half", gaussian_process, "half", "1/2 of the determinant", "length noise"),
    wrong("gp-no-determinant", gaussian_process, "no-determinant", "logdet left out", "length noise"),
    wrong("gp-length", gaussian_process, "length", "1/l^2 missing", "length"),
    wrong("gp-log-noise", gaussian_process, "log-noise", "exp of the log noise", "noise"),
    wrong("gp-mean-sign", gaussian_process, "mean-sign", "sign of the mean", "mean"),
    right("cholesky-packed", covariance, "a packed Cholesky factor with a log diagonal"),
    wrong("cholesky-upper", covariance, "upper", "the upper triangle read", "packed"),
    wrong("cholesky-exp", covariance, "exp", "chain rule of the log diagonal", "packed"),
    right("eigh", symmetric, "eigenvalues and eigenvectors by a lower triangle"),
    wrong("eigh-values-only", symmetric, "values-only", "eigenvectors taken as constant", ""),
    wrong("eigh-off-diagonal", symmetric, "half-off-diagonal", "each counted once", ""),
    right("equilibrium", equilibrium, "200 fixed-point iterations, implicit gradient"),
    wrong("equilibrium-one-step", equilibrium, "one-step", "(I - J)^-1 left out", "W b"),
    wrong("equilibrium-neumann", equilibrium, "neumann", "two terms of the series", "W b"),
    wrong("equilibrium-no-transpose", equilibrium, "no-transpose", "J for J^T", "W b"),
    right("pairs", pairs, "a sum over pairs of points"),
    wrong("pairs-one-side", pairs, "one-side", "each pair once", ""),
    wrong("pairs-sign", pairs, "sign", "the reaction's sign", ""),
)
