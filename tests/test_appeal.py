"""Where float64 has no digits the fourth witness decides: the formula's own derivative in arbitrary precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.check.doubts.appeal import BY_X

pytest.importorskip("flint")


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def saturated(x):
    return jnp.sum(jnp.tanh(x))


def stable(x):
    return 4 * jnp.exp(-2 * x) / (1 + jnp.exp(-2 * x)) ** 2


def entropy(z):
    return -jnp.sum(jax.nn.softmax(z) * jax.nn.log_softmax(z))


def of_entropy(z):
    p, log_p = jax.nn.softmax(z), jax.nn.log_softmax(z)
    return -p * (log_p - jnp.sum(p * log_p))


CASES = [(saturated, stable, np.array([25.0, 20.0, 30.0])), (entropy, of_entropy, np.array([60.0, 0.0, -3.0]))]


@pytest.mark.parametrize(("loss", "grad", "x"), CASES)
def test_a_formula_with_all_its_digits_is_judged_by_them(loss, grad, x):
    right = jc.check_grad(loss, x, grad=grad)
    assert right.verdict == jc.Verdict.PASS and BY_X in right.leaves[0].note
    assert right.leaves[0].floor < 1e-3
    for factor in (1.01, -1.0, 0.0):
        wrong = jc.check_grad(loss, x, grad=lambda x, factor=factor: factor * grad(x))
        assert wrong.verdict == jc.Verdict.FAIL and wrong.reason == jc.Reason.MANUAL_WRONG


def test_what_has_no_digits_itself_is_not_passed():
    for grad in (lambda x: 1 - jnp.tanh(x) ** 2, None):
        report = jc.check_grad(saturated, CASES[0][2], grad=grad)
        assert report.verdict == jc.Verdict.INCONCLUSIVE and report.reason == jc.Reason.VACUOUS


@pytest.mark.slow
def test_the_steps_of_a_staircase_are_no_appeal():
    """By halving, a root moves in steps; their exact derivative, 0, is that of autodiff and of nobody else."""

    def root(c):
        low, high = jnp.zeros(()), jnp.asarray(4.0)
        for _ in range(45):
            middle = (low + high) / 2
            low, high = jnp.where(middle**2 < c, middle, low), jnp.where(middle**2 < c, high, middle)
        return low

    report = jc.check_grad(lambda c: root(c), np.float64(2.0), grad=lambda c: jnp.zeros_like(c))
    assert report.verdict != jc.Verdict.PASS
