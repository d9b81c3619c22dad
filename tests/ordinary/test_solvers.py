"""Losses that call a solver of SciPy's: an exact adjoint is off by its error, and the report says whose that is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import jaxcheck as jc

X = np.array([0.4])


def decay(rtol):
    def loss(p):
        return float(scipy.integrate.solve_ivp(lambda t, y: -p[0] * y, (0, 1), [1.0], rtol=rtol, atol=rtol).y[0, -1])

    return loss


def minimum(p):
    found = scipy.optimize.minimize(lambda y: (y[0] - np.sin(p[0])) ** 2 + 0.1 * y[0] ** 4, [0.0], tol=1e-3)
    return float(found.x[0])


def exact(p):
    y = scipy.optimize.brentq(lambda y: 2 * (y - np.sin(p[0])) + 0.4 * y**3, -2, 2, xtol=1e-15)
    return np.array([2 * np.cos(p[0]) / (2 + 1.2 * y**2)])


@pytest.mark.parametrize("name", ["solve_ivp", "minimize"])
def test_the_solver_is_named(name):
    loss, grad = (decay(1e-3), lambda p: -np.exp(-p)) if name == "solve_ivp" else (minimum, exact)
    report = jc.check_grad(loss, X, grad)
    assert report.verdict is jc.Verdict.FAIL
    assert any(f".{name}, which stops at a tolerance" in note for note in report.notes), report


def test_with_a_tight_tolerance_it_passes():
    assert jc.check_grad(decay(1e-12), X, lambda p: -np.exp(-p))
    wrong = jc.check_grad(decay(1e-12), X, lambda p: -1.01 * np.exp(-p))
    assert wrong.verdict is jc.Verdict.FAIL and any("solve_ivp" in note for note in wrong.notes)


def test_of_others_nothing_is_said():
    report = jc.check_grad(lambda p: float(np.sum(np.asarray(p) ** 2)), X, lambda p: 3 * np.asarray(p))
    assert report.verdict is jc.Verdict.FAIL and not any("tolerance" in note for note in report.notes)


def early(wrong):
    """A loss that calls JAX's conjugate gradients, which stop early, with its exact adjoint times `wrong`."""
    rng = np.random.default_rng(0)
    square = rng.normal(size=(6, 6))
    matrix = square @ square.T + 6 * np.eye(6)
    loss = lambda b: jnp.sum(jnp.sin(jax.scipy.sparse.linalg.cg(lambda v: matrix @ v, b, tol=1e-5)[0]))  # noqa: E731
    return loss, rng.normal(size=6), lambda b: wrong * jax.grad(loss)(b)


@pytest.mark.slow
def test_what_two_witnesses_outvote_costs_no_closer_look():
    """The differences see the solver's error, 5e-5; to measure how gradients round would compile four programs more,
    each as large as the gradient (an integrator's: half a minute)."""
    report = jc.check_grad(*early(1.0))
    assert report and "autodiff agrees; a difference is off" in str(report)
    assert report.compiled <= 2, report.compiled
    # What the differences say against both may be right all the same.
    assert report.floor >= report.leaves[0].difference > 1e-5
    assert not jc.check_grad(*early(1.001))


@pytest.mark.parametrize(("of_loss", "of_gradient"), [(1e-2, 1e-1), (0.1, 0.5), (0.0, 1e-3), (0.0, 1e-4)])
def test_a_floor_is_not_below_what_a_gradient_that_stops_early_is_off_by(of_loss, of_gradient):
    a, v, b = np.diag([1.0, 2.0, 4.0]), np.ones(3), np.array([1.0, 2.0, 3.0])

    def solve(right, tol):
        def step(c):
            x, r = c
            return x + 0.2 * r, right - a @ (x + 0.2 * r)

        return jax.lax.while_loop(lambda c: jnp.linalg.norm(c[1]) > tol, step, (0 * right, right))[0]

    def loss(b):
        return v @ (solve(b, of_loss) if of_loss else jnp.linalg.solve(jnp.asarray(a), b))

    report = jc.check_grad(loss, b, lambda b: solve(jnp.asarray(v), of_gradient), where=False)
    true = np.linalg.solve(a, v)
    off = np.linalg.norm(solve(jnp.asarray(v), of_gradient) - true) / np.linalg.norm(true)
    assert report.verdict is jc.Verdict.FAIL or report.floor >= 0.99 * off, report
