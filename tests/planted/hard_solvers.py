"""Near-singular linear algebra and iterative solvers: values good to 1e-6, or barely so."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.planted.base import Problem, draws, right, wrong

ITERATED = ("", "CONVERGED", "AUTODIFF_DIFFERS")


def rotation(seed, n):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


def matrix(dtype, seed, eigenvalues):
    Q = rotation(seed, len(eigenvalues))
    A = Q * np.asarray(eigenvalues) @ Q.T
    return jnp.asarray((A + A.T) / 2, dtype)


def ill_solve(dtype, bug=None, cond=1e6):
    """A solve and a determinant of a matrix of the given condition; both leaves move it."""
    p = {"A": matrix(dtype, 161, np.geomspace(1, 1 / cond, 4)), "b": draws(162, dtype)(4)}
    c = draws(163, dtype)(4)

    def loss(p):
        # Scaled so that the loss is of order one.
        return c @ jnp.linalg.solve(p["A"], p["b"]) / cond + jnp.linalg.slogdet(p["A"])[1]

    def grad(p):
        x, y = jnp.linalg.solve(p["A"], p["b"]), jnp.linalg.solve(p["A"].T, c) / cond
        dA = -jnp.outer(y, x) + jnp.linalg.inv(p["A"]).T
        return {"A": dA * (bug or 1), "b": y}

    return Problem(loss, p, grad)


def close_eigenvalues(dtype, bug=None, gap=1e-6):
    """A smooth function of eigenvalues two of which nearly coincide."""
    A = matrix(dtype, 164, [1.0, 1.0 + gap, 2.0, -0.5])

    def loss(A):
        return jnp.sum(jnp.exp(jnp.linalg.eigvalsh((A + A.T) / 2)))

    def grad(A):
        w, V = jnp.linalg.eigh((A + A.T) / 2)
        return V * (jnp.exp(w) * (bug or 1)) @ V.T

    return Problem(loss, A, grad)


def power_iteration(dtype, bug=None):
    """The largest eigenvalue by 200 power iterations; its gradient is v v^T."""
    A = matrix(dtype, 165, [3.0, 1.5, -1.0, 0.5])

    def vector(A):
        def step(_, v):
            v = A @ v
            return v / jnp.sqrt(v @ v)

        return jax.lax.fori_loop(0, 200, step, jnp.ones(4, A.dtype))

    def loss(A):
        v = vector(A)
        return v @ A @ v

    def grad(A):
        v = vector(A)
        # Of a matrix that is not symmetric by type, but is by value: left and right vectors agree.
        return jnp.outer(v, v) * (bug or 1)

    return Problem(loss, A, grad)


def sinkhorn(dtype, bug=None):
    """Entropic transport, 200 iterations; by the envelope theorem the gradient is the plan."""
    C = jnp.abs(draws(166, dtype)(4, 5))
    a, b, eps = jnp.full(4, 0.25, dtype), jnp.full(5, 0.2, dtype), 0.5

    def potentials(C):
        def step(_, fg):
            _, g = fg
            f = -eps * jnp.log(jnp.sum(b * jnp.exp((g - C) / eps), 1))
            return f, -eps * jnp.log(jnp.sum(a[:, None] * jnp.exp((f[:, None] - C) / eps), 0))

        return jax.lax.fori_loop(0, 200, step, (jnp.zeros_like(a), jnp.zeros_like(b)))

    def loss(C):
        f, g = potentials(C)
        return f @ a + g @ b

    def grad(C):
        f, g = potentials(C)
        P = a[:, None] * b * jnp.exp((f[:, None] + g - C) / eps)
        return P / a[:, None] if bug else P

    return Problem(loss, C, grad)


def tolerance(dtype, bug=None, tol=1e-6):
    """A while loop that stops at a tolerance: the loss is good to about that, and jumps by it."""
    r = draws(167, dtype)
    p, c = {"W": r(3, 3, scale=0.25), "b": r(3)}, r(3)

    def solve(p, tol):
        def cont(s):
            return (jnp.max(jnp.abs(s[0] - s[1])) > tol) & (s[2] < 500)

        def body(s):
            return s[1], jnp.tanh(p["W"] @ s[1] + p["b"]), s[2] + 1

        return jax.lax.while_loop(cont, body, (p["b"], jnp.tanh(p["b"]), 0))[1]

    def loss(p):
        return c @ solve(p, tol)

    def grad(p, tol=tol):
        z = solve(p, tol)
        s = 1 - z**2
        J = s[:, None] * p["W"]
        db = s * jnp.linalg.solve(jnp.eye(3, dtype=z.dtype) - J.T, c)
        return {"W": jnp.outer(db, z), "b": db * (bug or 1)}

    return Problem(loss, p, grad, truth=lambda p: {**grad(p, 0.0), "b": grad(p, 0.0)["b"] / (bug or 1)})


def newton(dtype, bug=None, tol=1e-6):
    """A cube root by Newton's method in a while loop; converged far below its tolerance."""
    x = jnp.abs(draws(168, dtype)(3)) + 0.5

    def root(x):
        def cont(s):
            return (jnp.max(jnp.abs(s[0] ** 3 - x)) > tol) & (s[1] < 60)

        def body(s):
            return s[0] - (s[0] ** 3 - x) / (3 * s[0] ** 2), s[1] + 1

        return jax.lax.while_loop(cont, body, (jnp.maximum(x, 1), 0))[0]

    def grad(x):
        return jnp.cos(root(x)) / (3 * root(x) ** 2) * (bug or 1)

    def truth(x):
        return jnp.cos(x ** (1 / 3)) * x ** (-2 / 3) / 3

    return Problem(lambda x: jnp.sum(jnp.sin(root(x))), x, grad, truth=truth)


def bisection(dtype, bug=None):
    """60 halvings: autodiff of the program is zero, the implicit gradient is right."""
    a = jnp.abs(draws(169, dtype)(3)) + 0.2

    def root(a):  # x + exp(x) / 4 = a
        def step(_, s):
            low, high = s
            middle = (low + high) / 2
            above = middle + jnp.exp(middle) / 4 > a
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        low, high = jax.lax.fori_loop(0, 60, step, (jnp.full_like(a, -3), jnp.full_like(a, 3)))
        return (low + high) / 2

    def grad(a):
        x = root(a)
        return 2 * x / (1 + jnp.exp(x) / 4) * (bug or 1)

    return Problem(lambda a: jnp.sum(root(a) ** 2), a, grad, truth=lambda a: 2 * root(a) / (1 + jnp.exp(root(a)) / 4))


def conjugate(dtype, bug=None, tol=1e-6):
    """Conjugate gradients to a tolerance of 1e-6, exact adjoint by hand."""
    A, r = matrix(dtype, 170, [1.0, 2.0, 3.5, 5.0, 7.0]), draws(171, dtype)
    b, c = r(5), r(5)

    def loss(b):
        x = jax.scipy.sparse.linalg.cg(lambda v: A @ v, b, tol=tol)[0]
        return c @ x + 0.5 * x @ x

    def grad(b):
        x = jnp.linalg.solve(A, b)
        return jnp.linalg.solve(A, c + (0 if bug else x))

    return Problem(loss, b, grad, truth=lambda b: jnp.linalg.solve(A, c + jnp.linalg.solve(A, b)))


DOUBLE = ("float64",)
CASES = (
    right("solve-cond-1e4", ill_solve, "a solve and a determinant, condition 1e4", cond=1e4),
    right("solve-cond-1e6", ill_solve, "condition 1e6", reasons=("", "NOISE"), cond=1e6),
    right("solve-cond-1e8", ill_solve, "condition 1e8", dtypes=DOUBLE, reasons=("", "NOISE"), cond=1e8),
    wrong("solve-cond-1e6-1-percent", ill_solve, 1.01, "1 % wrong at condition 1e6", "A"),
    right("eigenvalues-close", close_eigenvalues, "eigenvalues 1e-6 apart"),
    wrong("eigenvalues-close-1e-3", close_eigenvalues, 1.001, "1e-3 wrong, 1e-6 apart", ""),
    right("power-iteration", power_iteration, "200 power iterations"),
    wrong("power-iteration-half", power_iteration, 0.5, "half", ""),
    right("sinkhorn", sinkhorn, "200 Sinkhorn iterations"),
    wrong("sinkhorn-conditional", sinkhorn, "rows", "conditional for joint plan", ""),
    right("while-1e-6", tolerance, "a while loop that stops at 1e-6", reasons=ITERATED),
    wrong("while-1e-6-1-percent", tolerance, 1.01, "1 % wrong under noise of 1e-6", "b"),
    right("while-newton", newton, "Newton in a while loop", reasons=ITERATED),
    wrong("while-newton-1e-3", newton, 1.001, "1e-3 wrong, Newton in a while loop", ""),
    right("bisection", bisection, "60 halvings: autodiff is zero", reasons=("AUTODIFF_DIFFERS", "")),
    wrong("bisection-half", bisection, 0.5, "half, where autodiff is zero", ""),
    right("conjugate-gradients", conjugate, "CG to 1e-6", reasons=ITERATED),
    wrong("conjugate-gradients-term", conjugate, "term", "one term forgotten", ""),
)
