"""The reasons that need a special occasion: coarse numbers, a dead step, Ctrl-C, no derivative at all."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import session
from jaxcheck.evidence import exhaustive

X = jnp.asarray([0.3, -0.7, 1.1])


def loss(x):
    return jnp.sum(jnp.sin(x))


def test_numbers_too_coarse_to_confirm_anything():
    numbers = jnp.cos(X).astype(jnp.bfloat16)
    report = jc.check_grad(loss, X, numbers)
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.PRECISION)
    assert jc.check_grad(loss, X, jnp.cos(X)).ok  # float32 numbers are fine enough
    assert jc.check_grad(loss, X, 1.01 * jnp.cos(X)).verdict is jc.Verdict.FAIL


def test_a_step_that_moves_nothing():
    far = jnp.asarray([1e9])
    report = jc.check_grad(jnp.sum, far, jax.grad(jnp.sum), mode=jc.Exhaustive(step=1e-9))
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.DEAD_STEP)
    assert jc.check_grad(jnp.sum, far, jax.grad(jnp.sum), mode=jc.Exhaustive(step=1.0)).ok


@pytest.mark.parametrize(
    ("factor", "verdict", "reason"),
    [(1.0, jc.Verdict.INCONCLUSIVE, jc.Reason.INTERRUPTED), (1.5, jc.Verdict.FAIL, jc.Reason.MANUAL_WRONG)],
)
def test_interrupted(monkeypatch, factor, verdict, reason):
    """Ctrl-C keeps what the random directions know: a mistake is still told, a PASS is not claimed."""

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(exhaustive, "textbook", stop)
    monkeypatch.setattr(session, "_listeners", [])  # this run of pytest would take Ctrl-C for its own
    report = jc.check_grad(loss, X, lambda x: factor * jnp.cos(x), mode=jc.Exhaustive(step=1e-6))
    assert (report.verdict, report.reason) == (verdict, reason)


def test_not_differentiable_in_any_mode():
    def f(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")

    report = jc.check_rule(f, X)
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.UNDIFFERENTIABLE)


@pytest.mark.parametrize("act", [jnp.tanh, jax.nn.relu], ids=["tanh", "relu"])
def test_what_float32_loses_is_within_the_bar_of_given_numbers(act):
    """`gradient_bars.given_error` allows 40 units of the leaf's RMS, five times over in the vote."""
    rng = np.random.default_rng(0)
    weights = [(rng.normal(size=(16, 16)) / 4).astype(np.float32) for _ in range(12)]
    x = rng.normal(size=(32, 16)).astype(np.float32)

    def deep(weights, x):
        for w in weights:
            x = act(x @ w)
        return jnp.mean(x**2)

    coarse = jax.grad(deep)(weights, x)
    with jax.enable_x64(True):
        exact = jax.grad(deep)([w.astype(np.float64) for w in weights], x.astype(np.float64))
    for a, b in zip(coarse, exact, strict=True):
        lost = np.abs(np.asarray(a, np.float64) - np.asarray(b)).max() / np.sqrt(np.mean(np.asarray(b) ** 2))
        assert 0.1 < lost / np.finfo(np.float32).eps < 40
