"""A gradient that asks whether it was given NumPy arrays has two branches: the wrong one is judged, whichever it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.problem import by_type as asked
from jaxcheck.result import Reason

RNG = np.random.default_rng(3)
W, X = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 4))


def loss(w, x):
    return jnp.sum(jnp.tanh(x @ w) ** 2)


def by_type(of_numpy: float, of_jax: float, computes=np):
    def grad(w, x):
        xp, c = (computes, of_numpy) if isinstance(w, np.ndarray) else (jnp, of_jax)
        h = xp.tanh(x @ w)
        return x.T @ (2 * h * (1 - c * h**2))

    return grad


@pytest.mark.parametrize("given", [np.float64, np.float32, lambda w: jnp.asarray(w, jnp.float32)])
@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("computes", [np, jnp], ids=["NumPy", "JAX"])
def test_the_wrong_branch_is_judged(given, factors, computes):
    w = given(W)
    report = jc.check_grad(loss, w, by_type(*factors, computes), args=(X,), where=False)
    if isinstance(w, np.ndarray):
        assert (report.reason is Reason.MANUAL_WRONG) == (factors != (1, 1)), report
        differ = [note for note in report.notes if note.startswith("On the arrays")]
        assert len(differ) == (factors != (1, 1))
        judged = {(2, 1): "The former were judged", (1, 2): "The latter were judged"}
        assert all(judged.get(factors, "") in note for note in differ)
    else:
        assert (report.reason is Reason.MANUAL_WRONG) == (factors[1] != 1), report


def test_what_is_handed_out_or_written_into_stays_as_it_was():
    """The branch is asked with copies; a gradient in NumPy alone is what it was before."""
    w, calls = W.copy(), [0]

    def grad(w, x):
        calls[0] += 1
        h = np.tanh(x @ w)
        g = x.T @ (2 * h * (1 - h**2))
        w[:] = 0
        return g

    assert jc.check_grad(loss, w, grad, args=(X,), where=False).ok
    assert np.array_equal(w, W)

    def clobbers(w, x):
        if isinstance(w, np.ndarray):
            g = jax.grad(loss)(jnp.asarray(w), x)
            w[:] = 0
            return np.asarray(g)
        return jax.grad(loss)(w, x)

    assert jc.check_grad(loss, w, clobbers, args=(X,), where=False).ok
    assert np.array_equal(w, W)


def test_half_precision_of_numpys_is_no_other_branch():
    """NumPy rounds every product of bfloat16, where JAX traces the same lines: 2e-3 apart, and nobody is wrong."""
    half = jnp.bfloat16
    y = RNG.normal(size=(5, 3)).astype(np.float32)

    def mixed(w, x):
        return jnp.mean(((x.astype(half) @ w.astype(half)).astype(jnp.float32) - y) ** 2)

    def grad(w, x, wrong=1.0):
        d = 2 * ((x.astype(half) @ w.astype(half)).astype(jnp.float32) - y) / y.size
        return wrong * (x.astype(half).T @ d.astype(half)).astype(jnp.float32)

    w, x = W.astype(np.float32), X.astype(np.float32)
    assert jc.check_grad(mixed, w, grad, args=(x,), where=False).ok
    assert jc.check_grad(mixed, w, lambda w, x: grad(w, x, 1.02), args=(x,), where=False).verdict is jc.Verdict.FAIL


@pytest.mark.parametrize("wrong", ["little", "another unit"])
def test_in_float64_little_is_enough(wrong):
    """The branch for NumPy off by 2e-3 of the leaf, and by 200 % in components of another unit."""
    units, off = (1.0, 1.0019) if wrong == "little" else (np.array([1e-6, 1, 1, 1]), np.array([1, -1, 3, 0]))
    w = np.array([0.3, 0.5, 0.7, 0.2]) * units

    def grad(w):
        return np.cos(w / units) / units * off if isinstance(w, np.ndarray) else jnp.cos(w / units) / units

    with jax.enable_x64(True):
        report = jc.check_grad(lambda w: jnp.sum(jnp.sin(w / units)), w, grad, where=False)
    assert report.reason is Reason.MANUAL_WRONG, report


def square(w, x):
    """Another function on NumPy's arrays, unless `square.factor` is 1."""
    if isinstance(w, np.ndarray):
        return float(np.sum(square.factor * np.tanh(x @ w) ** 2))
    return loss(w, x)


@pytest.mark.parametrize("factor", [1, 1.01])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, jnp.bfloat16, "jax"])
@pytest.mark.parametrize("given", [jax.grad(loss), None], ids=["given", "of JAX"])
def test_a_loss_that_is_another_on_numpy_arrays_is_not_judged(factor, dtype, given):
    square.factor = factor if dtype not in (np.float16, jnp.bfloat16) else 1 + 100 * (factor - 1)
    w = jnp.asarray(W, jnp.float32) if dtype == "jax" else W.astype(dtype)
    report = jc.check_grad(square, w, given, args=(X.astype(w.dtype),))
    if factor == 1 or dtype == "jax":
        assert report.ok, report
    else:
        assert report.reason is Reason.NONDETERMINISTIC, report
        assert "On the NumPy arrays that it was given the function is" in str(report)


def test_a_value_that_is_rounding_alone_is_no_other_function():
    a = RNG.normal(size=(6, 3))
    at = RNG.normal(size=3)

    def residual(w):
        xp = np if isinstance(w, np.ndarray) else jnp
        return xp.sum((a @ w - a @ at) ** 2)

    def cancels(w):
        xp = np if isinstance(w, np.ndarray) else jnp
        return xp.sum((w + 1e6) ** 2) - 3e12

    assert "On the NumPy" not in str(jc.check_grad(cancels, at, lambda w: 2 * (w + 1e6)))
    assert jc.check_grad(residual, at, jax.grad(residual)).verdict is not jc.Verdict.FAIL
    assert "On the NumPy" not in str(jc.check_grad(residual, at + 1e-7, jax.grad(residual)))


@pytest.mark.parametrize("given", [np.float64, lambda w: jnp.asarray(w, jnp.float32)], ids=["NumPy", "JAX"])
@pytest.mark.parametrize("factors", [(1, 1), (1.05, 1), (1, 1.05)])
@pytest.mark.parametrize("by", [np, jnp], ids=["by NumPy", "by JAX"])
@pytest.mark.parametrize("door", ["one", "batch"])
def test_a_gradient_that_asks_for_tracers_is_judged_on_both_ways(given, factors, by, door):
    """As a script without jit runs it: a fast path for arrays that are known."""
    known, traced = factors

    def grad(w, x):
        xp, c = (jnp, traced) if isinstance(w, jax.core.Tracer) else (by, known)
        w = xp.asarray(w)
        h = xp.tanh(x @ w)
        return jnp.asarray(x.T @ (2 * h * (1 - c * h**2)))

    w = given(W)
    if door == "one":
        report = jc.check_grad(loss, w, grad, args=(X,), where=False)
    else:
        points = (np if given is np.float64 else jnp).stack([w, w + 0.1])
        report = jc.check_batch(loss, points, grad, args=(X,))
    assert report.ok == (factors == (1, 1)), report


def test_the_same_gradient_is_neither_traced_thrice_nor_run(monkeypatch):
    calls = []

    def grad(w, x):
        calls.append(w)
        h = jnp.tanh(x @ w)
        return x.T @ (2 * h * (1 - h**2))

    monkeypatch.setattr(asked, "run_eagerly", None)
    assert jc.check_grad(loss, jnp.asarray(W, jnp.float32), grad, args=(jnp.asarray(X, jnp.float32),)).ok
    assert len(calls) == 3  # natively, in the 64-bit mode, and with the arrays known
