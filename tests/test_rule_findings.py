"""What wrong rules once got away with: each beside its right twin."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads

X = jnp.array([0.3, 0.7, 1.1], jnp.float32)


def vjp(f0, bwd, **options):
    f = jax.custom_vjp(f0)
    f.defvjp(lambda *x: (f0(*x), x), lambda x, g: _tuple(bwd(*x, g)), **options)
    return f


def _tuple(x):
    return x if isinstance(x, tuple) else (x,)


def jvp(f0, push):
    f = jax.custom_jvp(f0)
    f.defjvp(lambda x, t: (f0(*x), push(*x, *t)))
    return f


def masked(value, k):
    """The sine where the mask lets it through, with a rule that is off by a factor."""
    mask = jnp.array([True, True, False])
    return lambda x: jnp.where(mask, jnp.sin(x), value), lambda x, d: jnp.where(mask, k * jnp.cos(x) * d, 0.0)


@pytest.mark.parametrize("value", [-jnp.inf, jnp.inf, jnp.nan])
@pytest.mark.parametrize(("make", "modes"), [(vjp, "rev"), (jvp, "fwd"), (jvp, "rev"), (jvp, "lin")])
def test_an_infinite_output_hides_no_other(value, make, modes):
    with pytest.warns(jc.GradientCheckWarning, match="1 of 3 outputs are infinite or NaN at this point") as told:
        check_grads(make(*masked(value, 1.0)), (X,), 1, modes)
    assert len(told) == 1
    for k in (-5.0, 1.00001):
        with pytest.raises(jc.GradientMismatch):
            check_grads(make(*masked(value, k)), (X,), 1, modes)


def test_nor_at_second_order():
    f0, _ = masked(-jnp.inf, 1.0)

    def rule(hold):
        return vjp(f0, lambda x, g: (jnp.where(jnp.isfinite(f0(x)), jnp.cos(hold(x)) * g, 0.0),))

    with pytest.warns(jc.GradientCheckWarning, match="left out"):
        check_grads(rule(lambda x: x), (X,), 2, "rev")
    with pytest.raises(jc.GradientMismatch, match="SECOND_ORDER_WRONG"):
        check_grads(rule(jax.lax.stop_gradient), (X,), 2, "rev")


@pytest.mark.parametrize("modes", ["fwd", "rev"])
def test_nothing_finite_is_not_judged(modes):
    with pytest.raises(jc.GradientInconclusive, match="every output is infinite or NaN"):
        check_grads(lambda x: x - jnp.inf, (X,), 1, modes)


def test_a_nan_that_no_rule_can_help_is_not_held_against_it():
    """The logarithm at 0: its slope is infinite and its cotangent, left out, zero."""
    with pytest.warns(jc.GradientCheckWarning):
        check_grads(jnp.log, (jnp.array([0.0, 1.0, 2.0]),), 1, ("fwd", "rev"))
    with pytest.raises(jc.GradientMismatch):
        check_grads(jvp(jnp.log, lambda x, t: 1.01 * t / x), (jnp.array([0.0, 1.0, 2.0]),), 1, ("fwd", "rev"))


def test_the_forward_row_of_a_rule_looks_at_what_is_finite():
    for k, status in ((1.0, "OK"), (1.01, "WRONG")):
        report = jc.check_rule(jvp(*masked(-jnp.inf, k)), X, algebra=False, transforms=False)
        (row,) = [r for r in report.rows if r.name == "JVP"]
        assert row.status == status and (k != 1.0 or "1 of 3 outputs" in row.detail)


def test_what_is_finite_is_told_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_grads(vjp(jnp.sin, lambda x, g: (g * jnp.cos(x),)), (np.asarray(X),), 2, "rev")


def product(k):
    """g c, with a rule of its own that is off in g."""
    return vjp(lambda g, c: g * c, lambda g, c, h: (k * h * c, h * g))


HOLD = jax.lax.stop_gradient
# In the cotangent (or tangent) alone: what varies only x sees nothing.
SECOND = {
    "right": (True, lambda: vjp(jnp.sin, lambda x, g: (g * jnp.cos(x),))),
    "g held": (False, lambda: vjp(jnp.sin, lambda x, g: (HOLD(g) * jnp.cos(x),))),
    "right by a product of its own": (True, lambda: vjp(jnp.sin, lambda x, g: (product(1.0)(g, jnp.cos(x)),))),
    "the product off in g": (False, lambda: vjp(jnp.sin, lambda x, g: (product(1.01)(g, jnp.cos(x)),))),
    "the product negative in g": (False, lambda: vjp(jnp.sin, lambda x, g: (product(-1.0)(g, jnp.cos(x)),))),
    "right forward": (True, lambda: jvp(jnp.sin, lambda x, t: t * jnp.cos(x))),
    "t held": (False, lambda: jvp(jnp.sin, lambda x, t: HOLD(t) * jnp.cos(x))),
    "x held": (False, lambda: jvp(jnp.sin, lambda x, t: t * jnp.cos(HOLD(x)))),
}


@pytest.mark.parametrize("name", SECOND)
def test_the_second_order_varies_what_comes_in(name):
    right, make = SECOND[name]
    report = jc.check_rule(make(), X, order=2, algebra=False, transforms=False)
    assert report.reason is (jc.Reason.AGREE if right else jc.Reason.SECOND_ORDER_WRONG), report


TWICE = {
    "two leaves, two results": (vjp(lambda x, w: (x * w, jnp.sum(x)), lambda x, w, g: (g[0] * w + g[1], g[0] * x)),
                                (X, X + 1)),
    "complex": (vjp(lambda z: z * z, lambda z, g: (2 * z * g,)), (X * (1 + 2j),)),
    "complex result": (vjp(lambda x: jnp.exp(1j * x), lambda x, g: ((1j * jnp.exp(1j * x) * g).real,)), (X,)),
    "bfloat16": (vjp(jnp.sin, lambda x, g: (g * jnp.cos(x),)), (X.astype(jnp.bfloat16),)),
    "a mask": (vjp(*masked(-jnp.inf, 1.0)), (X,)),
    "forward, two leaves": (jvp(lambda x, w: x * w, lambda x, w, t, s: t * w + x * s), (X, X + 1)),
    "complex forward": (jvp(lambda z: z * z, lambda z, t: 2 * z * t), (X * (1 + 2j),)),
}


@pytest.mark.parametrize("name", TWICE)
def test_and_accuses_no_right_rule(name):
    f, args = TWICE[name]
    report = jc.check_rule(f, *args, order=2, algebra=False)
    assert report.ok and not any(r.status == "WRONG" for r in report.rows), report
    assert {r.status for r in report.rows if "over" in r.name} == {"OK"}


def test_at_first_order_it_is_told():
    report = jc.check_rule(SECOND["g held"][1](), X, algebra=False)
    (row,) = [r for r in report.rows if r.name == "jvp of vjp"]
    assert report.ok and "wrong at second order" in row.detail
