"""Looked at closer, a component of a small unit is looked at by its own size; an output that a leaf does not move has
no scale of the leaf's to be judged by."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads

UNITS = np.array([1e6, 1.0, 1e-9, 1e6])


def kinked(wrong=0.0, k=2):
    """A slope that is another one away from the point, within each component's unit; the last lies on a kink."""
    with jax.enable_x64(True):
        p = jnp.asarray(UNITS * [0.7, -0.4, 0.9, 1.0])

    def loss(p):
        h = p / UNITS
        return jnp.sum(3.0 * h + jnp.cos(h)) + jnp.abs(h[3] - 1.0)

    def grad(p):
        g = jax.grad(loss)(p)
        return g.at[k].multiply(1.0 + wrong)

    return loss, p, grad


@pytest.mark.parametrize("mode", [None, "sketch"])
def test_small_units_beside_a_kink(mode):
    with jax.enable_x64(True):
        report = jc.check_grad(*kinked(), mode=mode)
    assert report.ok, report


@pytest.mark.parametrize("mode", [None, "sketch"])
@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("wrong", [-1.0, 1e-2, 1e-4])
def test_a_mistake_in_any_unit_beside_a_kink(wrong, k, mode):
    with jax.enable_x64(True):
        report = jc.check_grad(*kinked(wrong, k), mode=mode)
    assert report.verdict is jc.Verdict.FAIL and report.reason is jc.Reason.MANUAL_WRONG, report


def unmoved(unit, factor=1.0, leak=0.0):
    """A rule of two outputs, of which the second is not moved by the scale `s` but for rounding, in `unit`s of it."""

    def f(p):
        h = p["s"] / unit * p["x"]
        return h.sum(), h / jnp.linalg.norm(h)

    rule = jax.custom_vjp(f)

    def bwd(p, ct):
        g = jax.vjp(f, p)[1](ct)[0]
        return ({"s": factor * g["s"] + leak / unit * jnp.sum(ct[1]), "x": g["x"]},)

    rule.defvjp(lambda p: (f(p), p), bwd)
    return rule, {"s": jnp.asarray(1.7 * unit), "x": jnp.asarray([0.3, -0.8, 1.1])}


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e7])
def test_an_output_that_a_leaf_does_not_move(unit):
    fast = dict(algebra=False, transforms=False)
    with jax.enable_x64(True):
        right = jc.check_rule(*unmoved(unit), **fast)
        assert right.ok and right.leaf("p.s").floor < 1e-7, right
        for factor, leak in ((1.001, 0.0), (1.0, 1e-3), (1.0, -1e-6)):
            off = jc.check_rule(*unmoved(unit, factor, leak), **fast)
            assert off.verdict is jc.Verdict.FAIL, (factor, leak, off)
            assert [leaf.path for leaf in off.leaves if leaf.verdict is jc.Verdict.FAIL] == ["p.s"]


def clipped(wrong=None):
    """Outside of the clip nothing moves; by a part of the leaf's RMS the small one jumps to its other side."""
    units = np.array([1e8, 1.0, 1e-8, 1e-8])
    with jax.enable_x64(True):
        p = jnp.asarray(units * [0.3, -1.5, -1.2, 0.4])

    def loss(p):
        return jnp.sum(jnp.sin(jnp.clip(p / units, -0.7, 0.8)))

    def grad(p):
        g = jax.grad(loss)(p)
        return g if wrong is None else g.at[wrong].add(0.1 / units[wrong])

    return loss, p, grad


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.slow
def test_a_jump_over_the_small_units_is_none_at_the_point(hidden):
    with jax.enable_x64(True):
        for wrong in (None, 0, 1, 2, 3):
            loss, p, grad = clipped(wrong)
            report = jc.check_grad((lambda p, f=loss: float(f(p))) if hidden else loss, p, grad)
            assert report.verdict is (jc.Verdict.PASS if wrong is None else jc.Verdict.FAIL), (wrong, report)
            if wrong is None:
                assert report.leaves[0].kinks == 0 and report.leaves[0].floor < 1e-3, report


@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_a_jump_or_a_kink_at_the_point_stays_one(size):
    """Seen by a part of the RMS and by the component's own size: it is there however close one looks."""
    with jax.enable_x64(True):
        p = jnp.asarray([3e6, size])
        for f, reason in ((jnp.floor, jc.Reason.JUMP), (lambda h: 0.3 * jnp.abs(h - 1.0), jc.Reason.KINK)):

            def loss(p, f=f):
                return jnp.sin(p[0] / 3e6) + f(p[1] / size)

            report = jc.check_grad(loss, p, jax.grad(loss))
            assert report.reason is reason, report


def unseen(factors=(1.0, 1.0), mode="rev"):
    """A zero, beside a large number, that does all that it does far below the steps that the leaf's size suggests."""
    units = jnp.asarray([1e6, 1e-7])

    def f(p):
        return jnp.tanh(p / units) * jnp.asarray([1.0, 3.0])

    def slopes(p):
        return (1 - jnp.tanh(p / units) ** 2) / units * jnp.asarray([1.0, 3.0]) * jnp.asarray(factors)

    if mode == "fwd":
        rule = jax.custom_jvp(f)
        rule.defjvp(lambda p, t: (f(*p), slopes(p[0]) * t[0]))
    else:
        rule = jax.custom_vjp(f)
        rule.defvjp(lambda p: (f(p), p), lambda p, g: (slopes(p) * g,))
    return rule, (jnp.asarray([0.6e6, 0.0]),)


@pytest.mark.parametrize("mode", ["rev", "fwd"])
def test_the_drop_in_convicts_nobody_on_steps_that_are_too_large(mode):
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore", jc.GradientCheckWarning)
        for factors, may in (
            ((1.0, 1.0), (None, jc.GradientInconclusive)),
            ((1.0, -1.0), (jc.GradientMismatch, jc.GradientInconclusive)),
            ((1.0, 0.0), (jc.GradientMismatch, jc.GradientInconclusive)),
        ):
            said = None
            try:
                check_grads(*unseen(factors, mode), 1, mode)
            except AssertionError as error:
                said = type(error)
            assert said in may, (factors, said)
