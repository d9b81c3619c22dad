"""The derivative of a rule's gradient beside its differences: component by component, and on the scale it lives on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import test_util
from jaxcheck.check.transforms.second import astray

stop = jax.lax.stop_gradient


def made(f, slope):
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda x: (f(x), x), lambda x, ct: (ct * slope(x),))
    return rule


TINY = {
    "log": (jnp.log, lambda x: 1 / x, [1e-7, 0.5, 0.5]),
    "log, far smaller": (jnp.log, lambda x: 1 / x, [1e-12, 0.3, 0.7]),
    "one over x": (lambda x: 1 / x, lambda x: -1 / x**2, [1e-9, 1.0]),
    "a fast sine": (lambda x: jnp.sin(x / 1e-10), lambda x: jnp.cos(x / 1e-10) / 1e-10, [0.5e-10, 1e-10]),
}
ZERO = {
    "abs": (jnp.abs, jnp.sign),
    "abs times cos": (lambda x: jnp.abs(x) * jnp.cos(x), lambda x: jnp.sign(x) * jnp.cos(x) - jnp.abs(x) * jnp.sin(x)),
    "half a relu at 0": (jax.nn.relu, lambda x: jnp.heaviside(x, 0.5)),
}


@pytest.mark.parametrize("name", TINY)
def test_what_turns_within_the_step_is_not_accused(name):
    f, slope, x = TINY[name]
    report = jc.check_rule(made(f, slope), np.array(x), order=2)
    assert report, report


@pytest.mark.parametrize("name", ZERO)
def test_a_jump_of_the_gradient_that_is_alike_on_both_sides_is_one(name):
    report = jc.check_rule(made(*ZERO[name]), np.array([0.0, 1.0, -2.0]), order=2)
    assert report.reason is jc.Reason.KINK, report


@pytest.mark.parametrize("first", [0.0, 0.5])
@pytest.mark.parametrize("held", ["by value", "by place", "nowhere"])
def test_a_kink_of_one_component_hides_no_other(first, held):
    def slope(x):
        at = {"by value": x == 1.0, "by place": jnp.arange(4) == 1, "nowhere": jnp.zeros(4, bool)}[held]
        return 2 * jnp.where(at, stop(jax.nn.relu(x)), jax.nn.relu(x))

    rule = made(lambda x: jax.nn.relu(x) ** 2, slope)
    report = jc.check_rule(rule, np.array([first, 1.0, -2.0, 2.0]), order=2)
    assert bool(report) is (held == "nowhere"), report


def _told(tangent, gradient, x):
    x = np.asarray(x, float)
    back = lambda at, g: [gradient(at[0])]  # noqa: E731
    program = (jax.make_jaxpr(lambda v, g: (v,))(x, 1.0), [x, 1.0])
    return astray(
        [tangent], back, [x], [np.array(1.0)], ([np.ones_like(x)], [np.array(0.0)]), back([x], 0), [0.0], program
    )[1]


def test_a_wrong_tangent_of_what_turns_within_the_step_is_seen_where_shorter_steps_know():
    x = np.array([1e-9])
    assert _told(-1 / x**2, lambda v: 1 / v, x) == -1
    assert _told(-2 / x**2, lambda v: 1 / v, x) == 0
    assert _told(np.array([0.0]), np.sign, [0.0]) == -1
    assert _told(np.array([1.0]), lambda v: v**3, [0.0]) == 0


@pytest.mark.slow
def test_the_drop_in_does_not_pass_what_the_differences_contradict_at_second_order():
    rule = made(lambda x: jnp.log(jnp.cosh(x)), lambda x: jnp.where(x == 0, 0.0, jnp.tanh(x)))
    test_util.check_grads(rule, (np.array([0.5, 1.0, -2.0]),), 2, ["rev"])
    with pytest.raises(jc.GradientInconclusive, match="NUMERIC_SUSPECT"):
        test_util.check_grads(rule, (np.array([0.0, 1.0, -2.0]),), 2, ["rev"])


@pytest.mark.parametrize("eps", [1e-12, 1e-8])
def test_a_symmetry_that_rounding_breaks_is_none_that_a_rule_breaks(eps):
    """The second derivative cancels to 1e-5 of itself: 1/s - x^2/s^3."""
    rule = made(lambda x: jnp.sqrt(eps + x * x), lambda x: x / jnp.sqrt(eps + x * x))
    report = jc.check_rule(rule, np.array([0.3, -0.7, 1.1]), order=2, transforms=False, algebra=False)
    assert report, report


@pytest.mark.parametrize("right", [True, False])
def test_a_second_derivative_that_is_infinite_is_not_judged(right):
    """The gradient of |x|^1.5 is a root: at 0 its derivative is no number."""
    rule = made(lambda x: jnp.abs(x) ** 1.5, lambda x: (1.5 if right else 1.4) * jnp.abs(x) ** 0.5 * jnp.sign(x))
    report = jc.check_rule(rule, np.array([0.0, 1.0, -1.0]), order=2, transforms=False, where=False)
    assert report.verdict is (jc.Verdict.INCONCLUSIVE if right else jc.Verdict.FAIL), report
    assert report.reason is (jc.Reason.NONFINITE if right else jc.Reason.MANUAL_WRONG)
    assert report.notes[0].startswith("the second order, which was asked for, could not be judged") is right


@pytest.mark.slow
def test_of_outputs_that_jump_no_symmetry_is_asked():
    def loss(x):
        return jnp.max(x) ** 2

    rule = jax.custom_vjp(loss)
    tied = lambda x, g: (g * 2 * jnp.max(x) * (x == jnp.max(x)) / jnp.sum(x == jnp.max(x)),)  # noqa: E731
    rule.defvjp(lambda x: (loss(x), x), tied)
    report = jc.check_rule(rule, np.ones(3), order=2)
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.JUMP), report
    assert jc.check_rule(rule, np.array([1.0, 0.3, 0.7]), order=2)


@pytest.mark.parametrize("eps", [1e-12, 1e-20])
def test_a_smoothed_norm_at_zero_turns_within_the_step(eps):
    """Its gradient is zero there, which does not tell the scale that it lives on."""

    def norm(x):
        return jnp.sqrt(jnp.sum(x**2) + eps)

    rule = jax.custom_vjp(norm)
    rule.defvjp(lambda x: (norm(x), x), lambda x, g: (g * x / norm(x),))
    report = jc.check_rule(rule, np.zeros(3), order=2, where=False)
    assert report.verdict is not jc.Verdict.FAIL, report
