"""The drop-in's errors: which leaf, which component, and how, in all modes and orders."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_check_grads import V, detached, sine_forward

import jaxcheck as jc
from jaxcheck.test_util import check_grads, check_jvp, check_vjp


def weighed(spoil_w=1.0, spoil_b=1.0):
    """sum(sin(W) b) of a dict, with a rule of its own."""
    f = jax.custom_vjp(lambda p, n: jnp.sum(jnp.sin(p["W"]) * p["b"]))
    f.defvjp(
        lambda p, n: (f(p, n), p),
        lambda p, g: ({"W": spoil_w * jnp.cos(p["W"]) * p["b"] * g, "b": spoil_b * jnp.sin(p["W"]) * g}, None),
    )
    return f


def blamed(door, *args, **options):
    with pytest.raises(jc.GradientMismatch) as caught:
        door(*args, **options)
    return caught.value.report


def test_an_error_names_the_leaf_and_its_components():
    report = blamed(check_grads, weighed(spoil_b=2.0), ({"W": V, "b": V}, 3), 1, ["rev"])
    assert report.kind == "check_grads" and [one.path for one in report.failed] == ["p.b"]
    assert report["p.b"].hint == "ratio 2.000 on all 5 entries" and report["p.W"].ok
    worst = report["p.b"].worst[0]
    assert worst.manual == pytest.approx(2 * worst.numeric) and worst.autodiff == pytest.approx(worst.numeric)
    said = str(report)
    assert said.startswith("FAIL check_grads") and "p.b[" in said and "VJP cotangent projection" in said
    assert repr(report) == f"<FAIL check_grads({report.name}): `p.b` ratio 2.000 on all 5 entries>"


def test_only_what_is_off_is_listed_as_the_worst():
    rows = np.random.default_rng(0).normal(size=(7, 5))

    def mixed(w):
        return jnp.sum(jnp.tanh(rows @ w))

    def wrong(w):
        return (1 - jnp.tanh(rows @ w) ** 2) @ rows * jnp.array([1, 1, 1.5, 1, 2])

    leaf = jc.check_grad(mixed, V, wrong)["params"]
    assert {one.index for one in leaf.worst} == {(2,), (4,)}


@pytest.mark.parametrize("mode", ["fwd", "lin", "rev"])
def test_a_component_is_named_in_every_mode(mode):
    report = blamed(check_grads, sine_forward(lambda t: t.at[2].mul(1.01)), (V,), 1, (mode,))
    assert "1 of 5 entries is wrong" in report["x"].hint and report["x"].worst[0].index == (2,)
    assert report["x"].norm_autodiff == pytest.approx(report["x"].norm_numeric, rel=1e-3)


def test_what_is_hidden_from_jaxs_own_derivative_is_said_to_be():
    report = blamed(check_grads, lambda x: x * lax.stop_gradient(x), (V,), 1, ["fwd"])
    assert report.reason is jc.Reason.NUMERIC_SUSPECT and "ratio 0.5 on all 5 entries" in repr(report)
    assert str(report).count("blamed:") == 1


@pytest.mark.slow
def test_a_derivative_of_the_callers_is_looked_into_as_well():
    report = blamed(
        check_jvp,
        weighed(),
        lambda x, t: (
            None,
            jnp.sum(jnp.cos(x[0]["W"]) * x[0]["b"] * t[0]["W"]) + 3.0 * jnp.sum(jnp.sin(x[0]["W"]) * t[0]["b"]),
        ),
        ({"W": V, "b": V}, jnp.arange(2)),
    )
    assert report["p.b"].hint == "ratio 3.000 on all 5 entries" and report["p.W"].ok
    report = blamed(
        check_vjp,
        jnp.sin,
        lambda z: (jnp.sin(z), lambda g: (jnp.conj(jnp.cos(z)) * g,)),
        (jnp.array([1 + 2j, 0.5 - 0.3j], jnp.complex64),),
    )
    assert report.failed[0].shape == (2,) and report.failed[0].norm_manual == pytest.approx(
        report.failed[0].norm_numeric
    )  # a conjugate is as long


@pytest.mark.slow
def test_what_is_wrong_at_second_order_only_is_named_there():
    report = blamed(check_grads, detached(), (V,), 2, ["fwd"])
    assert report.reason is jc.Reason.SECOND_ORDER_WRONG
    assert [(one.path, one.ok) for one in report] == [("x", False), ("tangent of x", True)]
    # The components shown are of the output that is wrong, not of one where M and N agree.
    assert all(abs(c.manual - c.numeric) > 1e3 * c.numeric_error > 0 for c in report["x"].worst)
    assert str(report).count("blamed:") == 1 and "blamed: the derivative of the rule, at `x`" in str(report)
    report = blamed(check_grads, detached(), (V,), 2, ["rev"])
    assert [(one.path, one.ok) for one in report] == [("x", False)]
    assert str(report).count("blamed:") == 1


def test_what_only_the_run_gets_wrong_has_no_leaf_to_show():
    f = jax.custom_jvp(jnp.sin)
    f.defjvp(lambda x, t: (f(x[0]), (1.1 if x[0].dtype == jnp.float32 else 1.0) * jnp.cos(x[0]) * t[0]))
    report = blamed(check_grads, f, (V,), 1, ["fwd"])
    assert report.reason is jc.Reason.PRECISION_WRONG and report.leaves == ()
