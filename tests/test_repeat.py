"""Two runs that differ: by the order of their sums, which is rounding, or because something is random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.problem import repeat

W = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


def loss(w):
    return jnp.sum(jnp.sin(w) ** 2)


def shaken(by=0.0, units=0.0):
    """The gradient on the host, another one at each call, relatively `by` and some rounding units off."""
    calls = iter(np.random.default_rng(1).uniform(-1, 1, 10_000))

    def gradient(w):
        w = np.asarray(w)
        off = (by + units * np.finfo(w.dtype).eps) * next(calls)
        return np.sin(2 * w) * w.dtype.type(1 + off)

    return gradient


@pytest.mark.parametrize("unit", [2.0**-52, 2.0**-23])
def test_the_order_of_sums_is_rounding_and_a_mask_is_not(unit):
    terms = np.random.default_rng(2).normal(size=(50, 4000)).astype(np.float64 if unit < 1e-10 else np.float32)
    one, two = np.add.accumulate(terms, 1)[:, -1], np.add.accumulate(terms[:, ::-1], 1)[:, -1]
    assert (one != two).any()
    assert not repeat.differ(one[None], two[None], unit)
    assert repeat.differ(one[None], one[None] * (np.arange(50) != 7), unit)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_hides_no_random_mask(dtype):
    # A thousand units of bfloat16 are eight times the number itself.
    unit = float(jnp.finfo(dtype).eps)
    one = np.random.default_rng(3).normal(size=(1, 50))
    assert not repeat.differ(one, one * (1 + unit), unit)
    assert repeat.differ(one, one * (np.arange(50) != np.argmax(np.abs(one))), unit)


def test_what_is_not_finite_must_be_so_again():
    one = np.array([[np.nan, np.inf, 1.0]])
    assert not repeat.differ(one, one.copy(), 1e-16)
    assert not repeat.differ(one, one * (1 + 1e-15), 1e-16)
    assert repeat.differ(one, np.array([[np.nan, -np.inf, 1.0]]), 1e-16)
    assert repeat.differ(one, np.array([[1.0, np.inf, 1.0]]), 1e-16)


def test_a_gradient_whose_last_bits_move_is_judged():
    # Threads add the parts of a large product in any order: the compiled program of a network of 400,000 parameters
    # gave other last bits at each run, and was called random.
    assert jc.check_grad(loss, W, shaken(units=4)).verdict is jc.Verdict.PASS


@pytest.mark.parametrize("by", [0.1, 1e-3])
def test_a_random_gradient_is_named(by):
    report = jc.check_grad(loss, W, shaken(by))
    assert report.reason is jc.Reason.NONDETERMINISTIC
    assert "gradient under test at the same point differ; those of the function do not" in str(report)


def test_a_random_loss_is_named():
    calls = iter(np.random.default_rng(3).uniform(-1, 1, 10_000))
    report = jc.check_grad(lambda w: float(loss(w)) * (1 + 0.1 * next(calls)), W, lambda w: jnp.sin(2 * w))
    assert report.reason is jc.Reason.NONDETERMINISTIC
    assert "Two evaluations of the function at the same point differ" in str(report)


def test_a_program_that_is_another_one_when_traced_again_is_named():
    calls = iter(range(1, 1000))
    report = jc.check_grad(loss, W, lambda w: jnp.sin(2 * w) * next(calls))
    assert report.reason is jc.Reason.NONDETERMINISTIC
    assert "Traced twice, the gradient under test" in str(report)
    assert jax.config.jax_enable_x64 is False
