"""What is said where one entry of a leaf is wrong: that, and no pattern that fits one number by chance."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.result import Reason

RNG = np.random.default_rng(2)
W, X = RNG.normal(size=(4, 3)), RNG.normal(size=(8, 4))


def loss(w, x):
    return jnp.mean(jnp.tanh(x @ w) ** 2)


def failed(*args, **kwargs) -> tuple[jc.Report, str]:
    report = jc.check_grad(*args, where=False, **kwargs)
    assert report.verdict is jc.Verdict.FAIL, report
    return report, report.leaves[0].hint


def test_among_many_values_one_that_is_wrong_is_no_permutation():
    n = 100_000
    w = RNG.normal(size=n) * 0.3

    def grad(w):
        return ((1 - jnp.tanh(w) ** 2) / n).at[n // 4].multiply(0.9)

    _, hint = failed(lambda w: jnp.mean(jnp.tanh(w)), w, grad)
    assert hint == f"1 of {n} entries is wrong, the others are right; ratio 0.9 there"


def test_a_permutation_of_many_is_one():
    n = 20_000
    w = RNG.normal(size=n) * 0.3
    order = np.random.default_rng(0).permutation(n)
    _, hint = failed(lambda w: jnp.mean(jnp.tanh(w)), w, lambda w: ((1 - jnp.tanh(w) ** 2) / n)[order])
    assert hint == "the right values in another order (a permutation)"
    rows = np.array([0, 2, 1, 3])  # two rows of four, and the others as they are
    _, hint = failed(loss, W, lambda w, x: jax.grad(loss)(w, x)[rows], args=(X,))
    assert hint == "the right rows, in another order (a permutation)"


@pytest.mark.parametrize(("dtype", "factor", "said"), [(np.float32, -1, "-1.000"), (np.float64, 1.01, "1.01")])
def test_the_rounding_of_numbers_is_no_mistake(dtype, factor, said):
    w, x = W.astype(dtype), X.astype(dtype)
    g = np.array(jax.grad(loss)(w, x))  # float32
    g[1, 1] *= factor
    _, hint = failed(loss, w, g, args=(x,))
    assert hint == f"1 of 12 entries is wrong, the others are right; ratio {said} there"


def test_on_a_kink_of_python_s_function_any_slope_of_the_range_is_right():
    b, x = np.array([0.0, 0.3, -0.2, 0.5, 1.0]), np.random.default_rng(5).normal(size=(8, 5))
    weights = np.arange(1.0, 6)

    def of_numpy(b, x):
        return np.sum(weights * np.maximum(b, 0)) + np.sum(np.tanh(x @ b))

    def grad(b, x):
        return weights * (b > 0) + x.T @ (1 - np.tanh(x @ b) ** 2)

    assert jc.check_grad(of_numpy, b, grad, args=(x,), where=False).ok
    off = np.array([1, 1, 1, 1.003, 1])
    report, hint = failed(of_numpy, b, lambda b, x: grad(b, x) * off, args=(x,))
    assert hint == "1 of 5 entries is wrong, the others are right; ratio 1.003 there"
    assert report.leaves[0].worst[0].index == (3,)


def test_one_number_is_no_regularisation():
    _, hint = failed(
        lambda w: jnp.sum(jnp.clip(w, 0, 1e-8) * 1e8), np.array([0.5e-8, 2.0]), lambda w: jnp.array([1e8, 1e8])
    )
    assert "regularisation" not in hint
    _, hint = failed(lambda w: jnp.sum(jnp.sin(w)), np.array([0.3, 0.5, -0.7]), lambda w: jnp.cos(w) + 0.01 * w)
    assert hint == "extra term 0.01 x parameter on all 3 entries (regularisation)"


def test_a_coarse_gradient_that_both_others_are_against_is_blamed():
    """Its own rounding covers what it is off by from autodiff, and not from the differences."""
    rng = np.random.default_rng(2)
    w, x = (jnp.asarray(rng.normal(size=s).astype(np.float32), jnp.bfloat16) for s in ((4, 3), (8, 4)))
    g = jax.grad(loss)(w, x)
    assert jc.check_grad(loss, w, g, args=(x,), where=False).verdict is not jc.Verdict.FAIL
    report, _ = failed(loss, w, g.at[1, 1].multiply(-1), args=(x,))
    assert report.reason is Reason.MANUAL_WRONG


def hint_of(error: np.ndarray) -> str:
    x = np.random.default_rng(0).normal(size=(6, 3))
    return failed(lambda x: jnp.sum(jnp.sin(x)), x, lambda x: jnp.cos(x) + error)[1]


@pytest.mark.parametrize("size", [1e-4, 1e-5, 1e-6])
def test_entries_are_counted_as_wrong_by_their_bars_and_a_ratio_by_its_distance_from_one(size):
    x = np.random.default_rng(0).normal(size=(6, 3))
    error = np.random.default_rng(1).normal(size=(6, 3)) * size
    assert "ratio" not in hint_of(error) and "others are right" not in hint_of(error)
    error[0, 0] = 0
    assert hint_of(error) == "17 of 18 entries are wrong, the others are right"
    error[[0, 1, 3, 4, 5]] = 0
    assert hint_of(error) == "only row 2 is wrong (3 of 18 entries)"
    error[2] = size * np.cos(x[2])
    assert re.fullmatch(rf"only row 2 is wrong \(3 of 18 entries\); ratio 1(\+{size:.2g}|\.0001) there", hint_of(error))


def test_a_small_offset_is_written_in_full():
    assert hint_of(np.full((6, 3), 5e-7)) == "5e-07 is added to every entry"


@pytest.mark.parametrize("loss_of", [jnp.abs, lambda p: jnp.maximum(p, 0), jax.nn.relu])
def test_a_right_choice_on_a_kink_is_not_counted_among_the_wrong(loss_of):
    x, g = np.array([0.0, 1.0, 2.0]), jnp.array([0.0, 2.0, 3.003])
    _, hint = failed(lambda p: jnp.sum(loss_of(p) * jnp.arange(1.0, 4)), x, lambda p: g)
    assert hint == "1 of 3 entries is wrong, the others are right; ratio 1.001 there"


def test_on_kinks_no_ratio_is_made_up():
    """Of a tie's NumPy maximum each entry may be 1, not both; of |x| nothing beyond 1."""
    _, hint = failed(lambda p: float(np.max(np.asarray(p))), np.array([1.0, 1, 0]), lambda p: np.array([1.0, 1, 0]))
    assert hint == "each entry is right by itself, but not all together: they share a kink (a tie)"
    _, hint = failed(lambda p: float(np.abs(np.asarray(p)).sum()), np.zeros(3), lambda p: np.full(3, 3.0))
    assert hint == "on a kink: not between the slopes of its two sides"


def test_a_ratio_is_told_of_those_that_have_one():
    """The truth is zero above the diagonal, the claim is not."""
    a = np.tril(np.random.default_rng(3).normal(size=(3, 3)))
    _, hint = failed(lambda p: jnp.sum(jnp.tril(p) ** 2), a, lambda p: 2 * p - jnp.tril(p, -1) + jnp.triu(p + 1, 1))
    assert hint == "6 of 9 entries are wrong, the others are right; ratio 0.5 at 3 of them"
