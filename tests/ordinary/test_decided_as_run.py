"""What float32 decides, where float64 would decide otherwise: the branch that runs is judged, or nothing is said."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads

TIMES = np.array([0.1, 0.5, 0.9, 0.3], np.float32)
WEIGHTS = np.array([0.5, -1.2, 0.8, 0.3], np.float32)

MASKS = {
    "ge": lambda t: t >= 0.9,
    "le": lambda t: ~(t <= 0.3),
    "eq": lambda t: t == 0.3,
    "of an array": lambda t: t >= jnp.full(4, 0.9),
    "jitted": lambda t: jax.jit(lambda x, bound: x >= bound)(t, 0.9),
    "scanned": lambda t: jax.lax.map(lambda x: x >= 0.9, t),
}


def _masked(mask, factor):
    """(loss, gradient): the cube where the mask says so, times `factor` in the gradient."""

    def loss(w, t):
        return jnp.sum(jnp.where(mask(t), w**3, w**2))

    def grad(w, t):
        return jnp.where(mask(t), 3 * factor * w**2, 2 * w)

    return loss, grad


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_mask_at_a_decimal(mask, factor):
    loss, grad = _masked(mask, factor)
    wanted = jc.Verdict.PASS if factor == 1 else jc.Verdict.FAIL
    report = jc.check_grad(loss, WEIGHTS, grad, args=(TIMES,))
    assert report.verdict is wanted, str(report)
    numbers = jc.check_grad(loss, WEIGHTS, grad(WEIGHTS, TIMES), args=(TIMES,))
    assert numbers.verdict is wanted, str(numbers)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_same_by_the_other_doors(factor):
    loss, grad = _masked(MASKS["ge"], factor)
    wanted = jc.Verdict.PASS if factor == 1 else jc.Verdict.FAIL
    points = [WEIGHTS, 1.5 * WEIGHTS, -WEIGHTS]
    assert jc.check_batch(loss, points, grad, args=(TIMES,)).verdict is wanted
    assert jc.check_grad(loss, WEIGHTS, grad, args=(TIMES,), mode="sketch").verdict is wanted

    @jax.custom_vjp
    def rule(w):
        return jnp.where(TIMES >= 0.9, w**3, w**2)

    rule.defvjp(lambda w: (rule(w), w), lambda w, g: (g * grad(w, TIMES),))
    assert jc.check_rule(rule, WEIGHTS).verdict is wanted
    if factor == 1:
        check_grads(rule, (WEIGHTS,), order=1, modes=["rev"])
    else:
        with pytest.raises(AssertionError):
            check_grads(rule, (WEIGHTS,), order=1, modes=["rev"])


@pytest.mark.parametrize("bound", [0.1, 0.9])
@pytest.mark.parametrize("how", ["maximum", "clip", "where"])
def test_a_parameter_at_the_bound(bound, how):
    """It lies on the kink, as it does where it runs: what lies between the slopes of both sides is right there."""
    cut = {
        "maximum": lambda x: jnp.maximum(x, bound),
        "clip": lambda x: jnp.clip(x, bound, 7.7),
        "where": lambda x: jnp.where(x > bound, x, bound),
    }[how]
    x = np.array([bound, 2.5, -1.0], np.float32)

    def at(slope):
        return lambda x: jnp.where(x > bound, 2 * x, jnp.where(x < bound, 0.0, slope))

    def loss(x):
        return jnp.sum(cut(x) ** 2)

    for slope in (0.0, 2 * bound):
        report = jc.check_grad(loss, x, at(slope))
        assert (report.verdict, report.reason) == (jc.Verdict.PASS, jc.Reason.KINK), str(report)
    assert jc.check_grad(loss, x, at(7.0)).verdict is jc.Verdict.FAIL


def test_numbers_that_decide_nothing_keep_their_digits():
    """A slope of 0.1 is 0.1, whatever else is compared with."""
    x = np.array([0.5, -2.0, 3.0])

    def loss(x):
        return jnp.sum(jnp.where(x > 0.3, x, 0.1 * x))

    report = jc.check_grad(loss, x, np.array([1.0, 0.1, 1.0]))
    assert report.ok and report.difference < 1e-10, str(report)


BINS = np.arange(10, dtype=np.float32) * np.float32(0.1)
LOOKED_UP = {
    "floor": lambda x: jnp.floor(x * 10).astype(int),
    "searchsorted": lambda x: jnp.searchsorted(jnp.linspace(0, 1, 11), x),
}


@pytest.mark.parametrize("index", LOOKED_UP.values(), ids=LOOKED_UP)
def test_a_bin_that_float64_does_not_reach(index):
    """0.7 falls into bin 7 where it runs, and into bin 6 in float64: a wrong gradient of bin 7 is not passed."""
    w, missed = np.arange(1, 12, dtype=np.float32), _only_as_run(index)

    def loss(w, x):
        return jnp.sum(w[index(x)] ** 2)

    def grad(w, x, factor=1.0):
        i = index(x)
        once = jnp.zeros_like(w).at[i].add(2 * w[i])
        return once.at[missed].multiply(factor)

    assert jc.check_grad(loss, w, grad, args=(BINS,)).ok
    wrong = jc.check_grad(loss, w, lambda w, x: grad(w, x, 3.0), args=(BINS,))
    assert (wrong.verdict, wrong.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.PRECISION), str(wrong)
    assert "decides otherwise" in wrong.leaves[0].note


def _only_as_run(index):
    with jax.enable_x64(True):
        wide = set(np.asarray(index(jnp.asarray(BINS, jnp.float64))).tolist())
    missed = set(np.asarray(index(BINS)).tolist()) - wide
    return min(missed)


def test_a_constant_by_the_dtype():
    """finfo(p.dtype).eps is another number in float64: the function that runs is judged."""
    p = np.array([1e-6, 0.5, 0.2], np.float32)

    def loss(p):
        return -jnp.sum(jnp.log(p + jnp.finfo(p.dtype).eps))

    for factor in (1.0, 1.01):
        for grad in (lambda p: -factor / (p + np.finfo(np.float32).eps), factor * jax.grad(loss)(p)):  # noqa: B023
            report = jc.check_grad(loss, p, grad)
            assert report.ok == (factor == 1), str(report)
    assert "as run in float32" in jc.check_grad(loss, p, jax.grad(loss)(p)).leaves[0].note


def test_a_number_that_decides_in_one_program_alone_is_one_number():
    """The loss clips by what the gradient multiplies with: both see the number that runs."""
    x = np.array([0.5, -2.0, 3.0])

    def loss(x):
        return jnp.sum(0.7 * jnp.minimum(x, 0.7) + jnp.maximum(x, 0.7) ** 2)

    report = jc.check_grad(loss, x, lambda x: 0.7 * (x < jnp.full(3, 0.7)) + jnp.where(x > 7 / 10, 2 * x, 0))
    assert report.ok and report.difference_autodiff < 1e-14, str(report)


@pytest.mark.parametrize("count", [40, 800, 1500])
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_another_formula_where_the_leaf_is_seen_along_directions(count, factor):
    """A loop without reverse mode; at 800 autodiff speaks by forward mode, at 1,500 not at all."""

    def steps(b):
        slopes, x = [], b
        for _ in range(5):
            slopes.append(0.9 + 0.1 * jnp.cos(x))
            x = 0.9 * x + 0.1 * jnp.sin(x)
        return x, slopes

    def loss(b):
        state = jax.lax.while_loop(lambda c: c[1] < 5, lambda c: (0.9 * c[0] + 0.1 * jnp.sin(c[0]), c[1] + 1), (b, 0))
        return jnp.sum(jnp.sin(state[0]))

    def grad(b):
        x, slopes = steps(b)
        found = jnp.cos(x)
        for slope in slopes[::-1]:
            found = found * slope
        return found * (factor if found.dtype == jnp.float32 else 1.0)

    b = np.random.default_rng(0).normal(size=count).astype(np.float32)
    report = jc.check_grad(loss, b, grad)
    wanted = jc.Verdict.PASS if factor == 1 else jc.Verdict.FAIL
    assert report.verdict is wanted, str(report)
