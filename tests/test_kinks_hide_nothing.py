"""A kink excuses the component that it is of, within what it decides: not the smooth ones beside it, nor a derivative
that is held back from it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import test_util

stop = jax.lax.stop_gradient


def _quotient(t):
    safe = jnp.where(t == 0, 1.0, t)
    return jnp.where(t == 0, 1.0, jnp.expm1(safe) / safe)


# Smooth functions of which autodiff makes nothing at 0, and what their derivative is.
FILLED = {
    "a tanh": (lambda t: jnp.where(t == 0, 0.0, jnp.tanh(t)), lambda t: 1 - jnp.tanh(t) ** 2),
    "two relus": (lambda t: jax.nn.relu(t) - jax.nn.relu(-t), jnp.ones_like),
    "a quotient": (
        _quotient,
        lambda t: jnp.where(t == 0, 0.5, (t * jnp.exp(t) - jnp.expm1(t)) / jnp.where(t == 0, 1.0, t) ** 2),
    ),
}


def _with_a_kink(name):
    of_one, slope = FILLED[name]
    loss = lambda x: jnp.abs(x[0]) + jnp.sum(of_one(x[1:]))  # noqa: E731
    right = lambda x: jnp.concatenate([jnp.sign(x[:1]), slope(x[1:])])  # noqa: E731
    return loss, right


@pytest.mark.parametrize("mode", [None, "sketch"])
@pytest.mark.parametrize("name", FILLED)
def test_a_smooth_component_beside_a_kink_is_judged(name, mode):
    loss, right = _with_a_kink(name)
    x = np.array([0.0, 0.7, 0.0, -1.1, 0.4])
    assert jc.check_grad(loss, x, grad=right, mode=mode)
    for wrong in (jax.grad(loss), None):
        report = jc.check_grad(loss, x, grad=wrong, mode=mode)
        assert not report, report


@pytest.mark.parametrize(("size", "zeros"), [(40, 20), (200, 100)])
@pytest.mark.parametrize("name", FILLED)
def test_many_of_them_are_seen_as_one_is(name, size, zeros):
    of_one, slope = FILLED[name]
    loss = lambda x: jnp.sum(of_one(x))  # noqa: E731
    x = np.random.default_rng(0).normal(size=size)
    x[:zeros] = 0
    assert jc.check_grad(loss, x, grad=slope)
    assert not jc.check_grad(loss, x, grad=jax.grad(loss))
    with pytest.raises(AssertionError):
        test_util.check_grads(loss, (x,), 1, ["rev"])


# One component is seen by the directions where the leaf is not too large; 300 of 20,000 are 12 % of it.
@pytest.mark.slow
@pytest.mark.parametrize(("name", "zeros"), [("a tanh", 1), ("a quotient", 300), ("two relus", 10_000)])
def test_of_a_large_leaf_no_smaller_steps_of_other_components_vouch_for_them(name, zeros):
    of_one, slope = FILLED[name]
    loss = lambda x: jnp.sum(of_one(x))  # noqa: E731
    x = np.random.default_rng(0).normal(size=20_000)
    x += 0.1 * np.sign(x)  # next to 0 the quotient has no digits in float32
    x[:zeros] = 0
    assert jc.check_grad(loss, x, grad=slope, mode="sketch")
    report = jc.check_grad(loss, x, grad=jax.grad(loss), mode="sketch")
    assert not report, report


@pytest.mark.slow
@pytest.mark.parametrize("held", [0.0, 3.0, 1000.0])
@pytest.mark.parametrize("bend", [jnp.abs, jax.nn.relu, lambda t: jnp.maximum(t, -t)])
def test_what_is_held_back_on_a_kink_is_no_choice_of_it(bend, held):
    x = np.array([0.0, 0.7, -1.1, 0.3])
    loss = lambda x: jnp.sum(bend(x)) + held * stop(x[0])  # noqa: E731
    rule = jax.custom_vjp(loss)
    rule.defvjp(lambda x: (loss(x), x), lambda x, ct: (ct * jax.grad(loss)(x),))
    for report in (
        jc.check_grad(loss, x, grad=jax.grad(loss)),
        jc.check_grad(loss, x, grad=jax.grad(loss), mode="sketch"),
        jc.check_rule(rule, x),
    ):
        assert bool(report) is (held == 0), report


OF_TWO = {
    "a leaky relu": (lambda t: jax.nn.relu(t) - 0.01 * jax.nn.relu(-t), True),
    "a parametric one": (lambda t: jax.nn.relu(t) - 0.4 * jax.nn.relu(-t), True),
    "nearly a line": (lambda t: 100 * jax.nn.relu(t) - 99 * jax.nn.relu(-t), False),
    "a kink on a slope": (lambda t: 0.1 * jnp.abs(t) + jnp.where(t == 0, 0.0, 3 * jnp.sin(t)), False),
}


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("name", OF_TWO)
def test_what_decisions_give_at_the_point_alone_is_a_choice_where_it_is_near_the_slopes(name, by_hand):
    """Autodiff gives 0 there in all four; the slopes are 0.01 and 1, 0.4 and 1, 99 and 100, 2.9 and 3.1."""
    bend, near = OF_TWO[name]
    loss = lambda x: jnp.sum(bend(x))  # noqa: E731
    for mode in (None, "sketch"):
        report = jc.check_grad(loss, np.array([0.0, 0.7, -1.1, 0.3]), jax.grad(loss) if by_hand else None, mode=mode)
        assert (report.reason is jc.Reason.KINK) is near, report


def _among_zeros(zeros):
    rng = np.random.default_rng(1)
    weights, x = jnp.asarray(rng.normal(size=3000)), rng.normal(size=3000)
    x[:zeros], x[-2:] = 0, (0.7, 0.7)
    smooth = lambda x: jnp.sum(weights * jax.nn.relu(x) + jnp.sin(x) * weights[::-1])  # noqa: E731
    return smooth, x


HIDDEN = {
    "nothing": lambda x: 0.5 * x[-1] * x[-2],
    "a factor held": lambda x: stop(x[-1]) * x[-2],
    "a sum held": lambda x: stop(jnp.sum(x[-100:])) * x[-2],
    "a difference where it is zero": lambda x: 50 * jnp.where(x[-1] == x[-2], 0.0, x[-1] - x[-2]),
}


@pytest.mark.parametrize("zeros", [1, 30])
@pytest.mark.parametrize("name", HIDDEN)
def test_kinks_that_every_direction_crosses_hide_nothing_that_autodiff_does_not_say(name, zeros):
    smooth, x = _among_zeros(zeros)
    loss = lambda x: smooth(x) + HIDDEN[name](x)  # noqa: E731
    report = jc.check_grad(loss, x, grad=jax.grad(loss), mode="sketch")
    assert bool(report) is (name == "nothing"), report
