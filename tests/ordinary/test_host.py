"""Losses and gradients that JAX cannot trace: NumPy's, `float()`'s, over data of any dtype, as run and in float64."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.result import Reason, Verdict

X = np.random.default_rng(0).standard_normal((20, 5))
Y = np.random.default_rng(1).standard_normal(20)


def slope(w, k=1.0):
    return k * 2 * X.T @ (np.asarray(X @ w) - Y) / 20


LOSSES = {
    "np.mean": lambda w: float(np.mean((X @ w - Y) ** 2)),
    "jnp.mean": lambda w: float(jnp.mean((X @ w - Y) ** 2)),
}


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, lambda w: np.asarray(w, np.float32)])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_ends_in_a_float_over_float64_data(name, kind):
    """What JAX made of the data in an attempt to trace it that failed is let go of."""
    w = kind(np.linspace(-1.0, 1.0, 5))
    assert jc.check_grad(LOSSES[name], w, slope).verdict is Verdict.PASS
    assert jc.check_grad(LOSSES[name], w, lambda w: slope(w, 1.01)).verdict is Verdict.FAIL


def test_and_says_nothing_on_stderr():
    script = """
        import jax.numpy as jnp, numpy as np, jaxcheck as jc
        X = np.random.default_rng(0).standard_normal((20, 5))
        r = jc.check_grad(lambda w: float(jnp.mean((X @ w) ** 2)), jnp.ones(5), lambda w: 2 * X.T @ (X @ w) / 20)
        assert r.ok
        r = jc.check_grad(lambda w: jnp.mean((jnp.tanh(X @ w) - X[:, 0]) ** 2), jnp.ones(5),
            lambda w: X.T @ ((np.tanh(X @ w) - X[:, 0]) / 10 / np.cosh(X @ np.asarray(w)) ** 2))
        assert r.ok
        assert (X @ jnp.ones(5)).dtype == jnp.float32
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "RuntimeProgramInputMismatch" not in done.stderr


def test_a_loss_that_rounds_inside_is_said_to():
    w = np.random.default_rng(2).standard_normal(5)

    def loss(w):
        return np.float32(np.mean((X @ w - Y) ** 2))

    report = jc.check_grad(loss, w, slope, must_catch=1e-7)
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.PRECISION), str(report)
    assert "rounded to 1e-07" in report.leaves[0].note
    assert jc.check_grad(loss, w, lambda w: slope(w, 1.1)).verdict is Verdict.FAIL


def residuals(w):
    return jnp.tanh(jnp.dot(X, w)) - Y


class Keeping:
    """A loss that keeps its activations for the backprop."""

    def loss(self, w):
        self.r = residuals(w)
        return jnp.mean(self.r**2)

    def grad(self, w):
        return backprop(np.asarray(self.r))


def backprop(r, k=2.0):
    return X.T @ (k * r * (1 - (r + Y) ** 2)) / 20


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, lambda w: np.asarray(w, np.float32)])
def test_a_numpy_backprop_that_shares_its_forward_pass_with_the_loss(kind):
    """The forward pass is JAX's, over NumPy data that JAX remembers from the caller's mode."""
    w, keeping = kind(np.linspace(-1.0, 1.0, 5)), Keeping()

    def loss(w):
        return jnp.mean(residuals(w) ** 2)

    right = jc.check_grad(loss, w, lambda w: backprop(np.asarray(residuals(w))))
    assert right.verdict is Verdict.PASS, str(right)
    assert jc.check_grad(loss, w, lambda w: backprop(np.asarray(residuals(w)), 1.0)).verdict is Verdict.FAIL
    assert jc.check_grad(keeping.loss, w, keeping.grad).verdict is Verdict.PASS


@pytest.mark.parametrize("distance", [1e-2, 1e-6])
def test_near_an_optimum_the_rounding_of_data_accuses_nobody(distance):
    """There the gradient of the data as they are is another than that of the rounded ones."""
    w = np.linalg.lstsq(X, Y, rcond=None)[0] + distance * np.ones(5)

    def loss(w):
        return jnp.mean((X @ w - Y) ** 2)

    report = jc.check_grad(loss, w, lambda w: slope(np.asarray(w)))
    if distance == 1e-2:
        assert report.verdict is Verdict.PASS, str(report)
        assert jc.check_grad(loss, w, lambda w: slope(np.asarray(w), 1.01)).verdict is Verdict.FAIL
    else:
        assert report.reason is Reason.PRECISION and "hand the data over in args=" in report.leaves[0].note, str(report)
    given = jc.check_grad(
        lambda w, x, y: jnp.mean((x @ w - y) ** 2), w, lambda w, x, y: 2 * x.T @ np.asarray(x @ w - y) / 20, args=(X, Y)
    )
    assert given.verdict is Verdict.PASS, str(given)


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_many_entries_over_data_that_the_loss_sees_rounded(factor):
    """Of thousands of entries some cancel: what is left of them is off by the rounding of the data, measured."""
    rng = np.random.default_rng(2)
    u, v = rng.normal(size=(300, 16)) * 0.3, rng.normal(size=(300, 16)) * 0.3
    i, j = np.nonzero(rng.random((300, 300)) < 0.02)
    ratings = rng.normal(size=(300, 300))[i, j]

    def loss(p):
        off = (p["U"][i] * p["V"][j]).sum(1) - ratings
        return 0.5 * (off**2).sum()

    def grad(p):
        off, gu, gv = (p["U"][i] * p["V"][j]).sum(1) - ratings, 0 * p["U"], 0 * p["V"]
        np.add.at(gu, i, off[:, None] * p["V"][j])
        np.add.at(gv, j, off[:, None] * p["U"][i])
        gv[7] *= factor
        return {"U": gu, "V": gv}

    report = jc.check_grad(loss, {"U": u, "V": v}, grad)
    assert (report.verdict is Verdict.PASS) == (factor == 1.0), str(report)


@pytest.mark.parametrize("factor", [1.01, 2.0, -1.0, 0.0])
def test_a_numpy_gradient_that_is_wrong_in_float32_only(factor):
    report = jc.check_grad(
        lambda p: float(np.sum(np.sin(p))),
        np.ones(3, np.float32),
        lambda p: np.cos(p) * np.asarray(factor if p.dtype == np.float32 else 1.0, p.dtype),
    )
    assert report.verdict is Verdict.FAIL and report.reason is Reason.PRECISION_WRONG


def test_what_rounding_does_to_a_numpy_gradient_is_no_mistake():
    rng = np.random.default_rng(2)
    w, x = rng.standard_normal((30, 10)).astype(np.float32), rng.standard_normal((40, 30)).astype(np.float32)

    def grad(w):
        t = np.tanh(x.astype(w.dtype) @ w)
        return x.T.astype(w.dtype) @ (1 - t**2)

    assert jc.check_grad(lambda w: float(np.sum(np.tanh(x.astype(w.dtype) @ w))), w, grad).verdict is Verdict.PASS


def test_nothing_left_of_a_numpy_gradient_is_said():
    """E x^2 - (E x)^2 is 0 in float32, where the variance is 1: explained by rounding, and yet no gradient."""
    x = (1e4 + np.random.RandomState(2).randn(100)).astype(np.float32)
    report = jc.check_grad(
        lambda p, x: float(p[0] * np.var(x)),
        np.ones(1, np.float32),
        lambda p, x: np.array([np.mean(x**2) - np.mean(x) ** 2], x.dtype),
        args=(x,),
    )
    assert report.verdict is Verdict.INCONCLUSIVE and report.reason is Reason.PRECISION


@pytest.mark.parametrize("error", [1e-2, 5.0])
@pytest.mark.parametrize("size", [200, 2000])
def test_one_wrong_component_of_many(size, error):
    p = np.abs(np.random.RandomState(1).randn(size)) + 0.2

    def grad(p, error=error):
        g = np.cos(p)
        g[size - 3] += error
        return g

    assert jc.check_grad(lambda p: float(np.sum(np.sin(p))), p, grad).verdict is Verdict.FAIL
    assert jc.check_grad(lambda p: float(np.sum(np.sin(p))), p, lambda p: grad(p, 0.0)).verdict is Verdict.PASS


@pytest.mark.parametrize("error", [0.0, 1e-3, 5e-3])
def test_float64_numbers_are_held_to_the_floor_that_is_printed(error):
    big = np.random.RandomState(0).randn(40, 40)
    p = 0.1 * big
    g = (1 - np.tanh(p) ** 2) * big
    g[7, 9] += error
    report = jc.check_grad(lambda p: float(np.sum(np.tanh(p) * big)), p, g)
    assert report.verdict is (Verdict.FAIL if error else Verdict.PASS)


@pytest.mark.parametrize("speed", [1e8, 1e10, 1e12])
def test_autodiff_is_not_blamed_for_a_scale_below_the_steps(speed):
    """Nothing in the program could deceive autodiff: what it sees is there."""
    report = jc.check_grad(
        lambda p: jnp.sum(p**2) + jnp.sum(jnp.sin(speed * p)) / speed, np.array([0.3, 0.7]), lambda p: 2 * p
    )
    assert report.verdict is not Verdict.PASS


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("where", ["inside", "result"])
def test_a_numpy_loss_that_rounds_inside_moves_in_steps(where, dtype):
    """Steps below its own resolution see a plateau: that is no derivative of 0."""
    w = np.linspace(0.3, 1.0, 4)

    def loss(w):
        return float(np.sum(np.sin(w.astype(dtype)))) if where == "inside" else dtype(np.sum(np.sin(w)))

    assert jc.check_grad(loss, w, np.cos).verdict is not Verdict.FAIL
    assert jc.check_grad(loss, w, lambda w: 2 * np.cos(w)).verdict is not Verdict.PASS
