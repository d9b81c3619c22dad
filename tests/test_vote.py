"""Every reason, reached by a check as a user makes it; and the table of the vote on evidence made by hand."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict

X = jnp.asarray([0.3, -0.7, 1.1], jnp.float32)
COUNT = itertools.count()


def stop(x):
    return jnp.sum(x * jax.lax.stop_gradient(x))


def trap(x):
    # The classic: the derivative of the branch that is not taken is NaN, and 0 * NaN is NaN.
    return jnp.sum(jnp.where(x > 0, jnp.sqrt(x), x))


def trap_slope(x):
    return jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.abs(x)), 1.0)


def relu(x):
    return jnp.sum(jax.nn.relu(x) * jnp.arange(1.0, 4.0))


KINK = jnp.asarray([0.0, 1.0, -1.0])
RELU_SLOPE = jnp.asarray([0.0, 2.0, 0.0])


def hole(x):
    # Finite at the point alone.
    return jnp.sum(jnp.where(x == 0.5, x, jnp.nan))


def moody(x):
    return jnp.sum(x**2) * (1 + 0.01 * next(COUNT))


def iterated(a):
    """A square root by Newton's method, as sloppy as people stop it."""
    step = lambda s: s - (s * s - a) / (2 * s)  # noqa: E731
    return jax.lax.while_loop(lambda s: jnp.abs(s * s - a) > 3e-2, step, a)


# name: (loss, params, grad, options, verdict, reason)
TABLE = {
    "right": (lambda x: jnp.sum(jnp.sin(x)), X, jnp.cos, {}, "PASS", "AGREE"),
    "wrong by 1e-6": (lambda x: jnp.sum(jnp.sin(x)), X, lambda x: jnp.cos(x) * (1 + 1e-6), {}, "FAIL", "MANUAL_WRONG"),
    "stop_gradient, the true slope": (stop, X, lambda x: 2 * x, {}, "PASS", "AUTODIFF_DIFFERS"),
    "stop_gradient, neither": (stop, X, lambda x: 1.5 * x, {}, "FAIL", "MANUAL_WRONG"),
    "stop_gradient, autodiff's": (stop, X, lambda x: x, {}, "FAIL", "NUMERIC_SUSPECT"),
    "where trap, right": (trap, KINK + 0.5, trap_slope, {}, "PASS", "AUTODIFF_DIFFERS"),
    "where trap, wrong": (trap, KINK + 0.5, lambda x: trap_slope(x) * 1.001, {}, "FAIL", "MANUAL_WRONG"),
    "where trap, no grad": (trap, KINK + 0.5, None, {}, "FAIL", "NONFINITE"),
    "a subgradient": (relu, KINK, lambda x: RELU_SLOPE, {}, "PASS", "KINK"),
    "another subgradient": (relu, KINK, lambda x: RELU_SLOPE.at[0].set(0.5), {}, "PASS", "KINK"),
    "no subgradient": (relu, KINK, lambda x: RELU_SLOPE.at[0].set(1.1), {}, "FAIL", "MANUAL_WRONG"),
    "wrong beside the kink": (relu, KINK, lambda x: RELU_SLOPE.at[2].set(0.1), {}, "FAIL", "MANUAL_WRONG"),
    "surrogate": (lambda x: jnp.sum(jnp.round(x) * x), X, lambda x: 2 * x, {"surrogate": True}, "PASS", "SURROGATE"),
    "surrogate with NaN": (stop, X, lambda x: x * jnp.nan, {"surrogate": True}, "FAIL", "NONFINITE"),
    "structure": (stop, X, lambda x: x[:2], {}, "FAIL", "STRUCTURE"),
    "surrogate of another shape": (stop, X, lambda x: x[:2], {"surrogate": True}, "FAIL", "STRUCTURE"),
    "jump": (lambda x: jnp.sum(jnp.floor(x) + x), KINK, jnp.ones_like, {}, "INCONCLUSIVE", "JUMP"),
    "nowhere but here": (hole, jnp.asarray([0.5]), jnp.ones_like, {}, "INCONCLUSIVE", "DOMAIN"),
    "loss is NaN": (lambda x: jnp.sum(jnp.log(x)), X, lambda x: 1 / x, {}, "INCONCLUSIVE", "NONFINITE"),
    "loss is inf": (lambda x: jnp.sum(1 / (0 * x)), X, lambda x: x, {}, "INCONCLUSIVE", "NONFINITE"),
    "gradient is NaN": (lambda x: jnp.sum(x**2), X, lambda x: (2 * x).at[1].set(jnp.nan), {}, "FAIL", "NONFINITE"),
    "gradient is inf": (lambda x: jnp.sum(x**2), X, lambda x: (2 * x).at[1].set(jnp.inf), {}, "FAIL", "NONFINITE"),
    "random": (moody, X, lambda x: 2 * x, {}, "INCONCLUSIVE", "NONDETERMINISTIC"),
    "constant": (lambda x: jnp.sum(0 * x) + 1, X, jnp.zeros_like, {}, "INCONCLUSIVE", "VACUOUS"),
    "not of the parameters": (lambda x: 3.0, X, jnp.zeros_like, {}, "INCONCLUSIVE", "VACUOUS"),
    "staircase": (lambda x: jnp.sum(jnp.sign(x)), X, jnp.zeros_like, {}, "INCONCLUSIVE", "VACUOUS"),
}


def test_autodiff_under_test_is_not_called_hand_written():
    report = jc.check_grad(stop, X)
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.NUMERIC_SUSPECT)


@pytest.mark.parametrize(
    "factor", [lambda x: jnp.where(x > 1, 1, 1.5), lambda x: jnp.where(x == 1, 1.5, 1)], ids=["> for >=", "at 1 only"]
)
def test_a_gradient_that_is_wrong_exactly_at_a_threshold(factor):
    """Parameters sit on thresholds: a scale that starts at 1, a bias at 0."""
    report = jc.check_grad(lambda x: jnp.sum(jnp.sin(x)), jnp.asarray([1.0, 2.0]), lambda x: factor(x) * jnp.cos(x))
    assert report.verdict is Verdict.FAIL


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name):
    loss, params, grad, options, verdict, reason = TABLE[name]
    report = jc.check_grad(loss, params, grad, **options)
    assert (report.verdict.value, report.reason.name) == (verdict, reason), str(report)
    assert report.ok == (verdict == "PASS")
    if reason != "AGREE":
        assert report.reason.advice[:40] in str(report).replace("\n", " ")


def test_noise_of_a_sloppy_solver_is_not_blamed_on_the_gradient(seed):
    table = np.random.default_rng(seed).normal(size=4096)

    def loss(x):  # deterministic, rough at every scale
        return float(np.sum(x**2) + 1e-4 * table[int(abs(np.sum(x)) * 1e9) % 4096])

    report = jc.check_grad(loss, np.array([0.3, -0.7]), grad=lambda x: 2 * x)
    assert report.verdict is not Verdict.FAIL
    wrong = jc.check_grad(loss, np.array([0.3, -0.7]), grad=lambda x: 3 * x)
    assert wrong.verdict is not Verdict.PASS


def test_the_random_loss_gets_advice():
    rng = np.random.default_rng(0)
    report = jc.check_grad(lambda x: jnp.sum(x**2) * rng.normal(), X, lambda x: 2 * x)
    assert report.reason is Reason.NONDETERMINISTIC and "Fix the PRNG key" in str(report)


def test_leaves_are_judged_one_by_one():
    params = {"big": jnp.asarray([1e4, -2e4]), "small": jnp.asarray([1e-4])}

    def loss(p):
        return jnp.sum(p["big"] ** 2) + jnp.sum(p["small"] ** 2)

    report = jc.check_grad(loss, params, lambda p: {"big": 2 * p["big"], "small": 2.02 * p["small"]})
    assert report.difference < 1e-7  # the textbook's one number for all of theta hides it
    assert report.leaf("big").verdict is Verdict.PASS and report.leaf("small").verdict is Verdict.FAIL


def test_surrogate_for_one_leaf_only():
    params = {"a": X, "b": X}

    def loss(p):
        return jnp.sum(jnp.sin(p["a"])) + jnp.sum(jnp.round(p["b"]) * p["b"])

    def grad(p):
        return {"a": 2 * jnp.cos(p["a"]), "b": p["b"]}

    report = jc.check_grad(loss, params, grad, surrogate=lambda path: path == "b")
    assert report.leaf("a").reason is Reason.MANUAL_WRONG and report.leaf("b").reason is Reason.SURROGATE


@pytest.mark.parametrize("error", [1e-2, 5e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("kind", ["numpy", "while_loop", "custom_vjp"])
def test_the_differences_alone_catch_what_they_can_see(kind, error):
    """Without autodiff there is no second opinion; a clean function must still be judged by its narrow bars."""
    if kind == "numpy":
        report = jc.check_grad(lambda x: float(np.sum(np.sin(x))), np.asarray(X), lambda x: np.cos(x) * (1 + error))
    elif kind == "while_loop":

        def loss(x):
            body = lambda s: (jnp.sin(s[0]), s[1] + 1)  # noqa: E731
            return jnp.sum(jax.lax.while_loop(lambda s: s[1] < 2, body, (x, 0))[0])

        report = jc.check_grad(loss, X, lambda x: jnp.cos(jnp.sin(x)) * jnp.cos(x) * (1 + error))
    else:

        @jax.custom_vjp
        def f(x):
            return jnp.sin(x)

        f.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x) * (1 + error),))
        report = jc.check_grad(lambda x: jnp.sum(f(x)), X)
    assert report.verdict is Verdict.FAIL, str(report)


def test_a_dead_relu_unit_is_no_mistake():
    """A zero column of W1 puts a whole unit on the kink; the gradient that JAX itself gives is not accused."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(8, 3)))
    params = {"W": jnp.asarray(rng.normal(size=(3, 4))).at[:, 2].set(0), "V": jnp.asarray(rng.normal(size=4))}

    def loss(p):
        return jnp.mean((jax.nn.relu(x @ p["W"]) @ p["V"]) ** 2)

    assert jc.check_grad(loss, params, jax.grad(loss)).verdict is not Verdict.FAIL
