"""Dead ReLU units in NumPy: zeros of a right backprop, where no autodiff says that they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.evidence.differences import Ladder, slopes

Y = np.array([[1, 1, 0]])


def forward(p, X):
    Z1 = p["W1"] @ X + p["b1"]
    A1 = np.maximum(0, Z1)
    Z2 = p["W2"] @ A1 + p["b2"]
    A2 = np.maximum(0, Z2)
    return 1 / (1 + np.exp(-(p["W3"] @ A2 + p["b3"]))), (A1, A2)


def loss(p, X, Y):
    A, _ = forward(p, X)
    return -np.sum(Y * np.log(A) + (1 - Y) * np.log(1 - A)) / Y.shape[1]


def backprop(p, X, Y, alive=0.0):
    A3, (A1, A2) = forward(p, X)
    m, d3 = X.shape[1], A3 - Y
    d2 = (p["W3"].T @ d3) * (A2 > 0)
    d1 = (p["W2"].T @ d2) * np.where(A1 > 0, 1, alive)
    return {
        "W3": d3 @ A2.T / m,
        "b3": d3.sum(1, keepdims=True) / m,
        "W2": d2 @ A1.T / m,
        "b2": d2.sum(1, keepdims=True) / m,
        "W1": d1 @ X.T / m,
        "b1": d1.sum(1, keepdims=True) / m,
    }


def network(seed, scale=1.0, zero_bias=False):
    rng = np.random.RandomState(seed)
    X = rng.randn(4, 3)
    p = {
        "W1": rng.randn(5, 4),
        "b1": rng.randn(5, 1),
        "W2": rng.randn(3, 5),
        "b2": rng.randn(3, 1),
        "W3": rng.randn(1, 3),
        "b3": rng.randn(1, 1),
    }
    return {k: v * (0 if zero_bias and k[0] == "b" else scale) for k, v in p.items()}, X


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("scale", "zero_bias"), [(1.0, False), (0.1, True)])
def test_a_right_numpy_backprop_passes_whatever_units_are_dead(seed, scale, zero_bias):
    # One unit wakes at the largest step, and its zeros were said to be lost in rounding: 34 of 100 networks.
    p, X = network(seed, scale, zero_bias)
    report = jc.check_grad(loss, p, backprop, args=(X, Y))
    assert report.verdict is jc.Verdict.PASS, str(report)


def test_a_dead_unit_that_is_taken_for_alive_fails():
    p, X = network(1)
    assert (forward(p, X)[1][0] == 0).any()
    report = jc.check_grad(loss, p, lambda *given: backprop(*given, alive=0.01), args=(X, Y))
    assert report.verdict is jc.Verdict.FAIL


def test_a_loop_without_reverse_mode_and_a_component_that_counts_turns():
    def fall(p):
        return jax.lax.while_loop(
            lambda c: c[1] > 0, lambda c: (c[0] + p[0] * 0.1, c[1] + 0.1 * p[1] - 0.2), (0.0 * p[0], p[1])
        )[0]

    report = jc.check_grad(fall, jnp.array([2.0, 1.1]), lambda p: jax.jacfwd(fall)(p))
    assert report.verdict is jc.Verdict.PASS, str(report)


def test_what_wakes_beyond_a_step_is_told_from_a_slope_that_rounding_hides():
    ladder = Ladder()
    t = ladder.offsets[:, None]
    phi = np.concatenate([1 + np.maximum(np.abs(t) - 0.03, 0), 1 + 1e-14 * t, 1 + t**2, 1 + t**3, 1 + 0 * t], axis=1)
    found = slopes(phi[:, None], ladder)
    assert found.wakes[0].tolist()[:2] == [True, False] and not found.wakes[0][-1]
    assert (np.abs(found.value) <= np.fmax(found.error, 1e-13)).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_network_that_starts_at_zero_is_on_every_kink_at_once(seed):
    # Convex and concave kinks at once: relu'(0) = 0 lies outside the one-sided slopes of a component, and yet it is the
    # gradient of a piece that meets there.
    rng = np.random.RandomState(seed)
    X, T = rng.randn(4, 8), rng.randn(2, 8)
    p = {"W1": np.zeros((3, 4)), "b1": np.zeros((3, 1)), "W2": rng.randn(2, 3), "b2": np.zeros((2, 1))}

    def of_zeros(p):
        return 0.5 * np.sum((p["W2"] @ np.maximum(p["W1"] @ X + p["b1"], 0) + p["b2"] - T) ** 2) / 8

    def back(p, slope=1.0, at_zero=0.0):
        z = p["W1"] @ X + p["b1"]
        a = np.maximum(z, 0)
        d = (p["W2"] @ a + p["b2"] - T) / 8
        d1 = (p["W2"].T @ d) * np.where(z > 0, slope, np.where(z == 0, at_zero, 0))
        return {"W1": d1 @ X.T, "b1": d1.sum(1, keepdims=True), "W2": d @ a.T, "b2": d.sum(1, keepdims=True)}

    report = jc.check_grad(of_zeros, p, back)
    assert (report.verdict, report["W1"].reason) == (jc.Verdict.PASS, jc.Reason.KINK), str(report)
    for wrong in ({"slope": 1.01}, {"at_zero": 3.0}):
        assert jc.check_grad(of_zeros, p, lambda p, w=wrong: back(p, **w)).verdict is jc.Verdict.FAIL


@pytest.mark.parametrize("at", [5.0, -3.0])
def test_a_gradient_that_is_the_same_everywhere_says_nothing_of_the_pieces(at):
    # Its own range was a single number, and lay within it.
    for grad in (
        lambda p: np.array([at, 1.0]),
        lambda p: np.array([at, np.sign(p[1])]),
        lambda p: np.where(p == 0, at, np.sign(p)),
    ):
        report = jc.check_grad(lambda p: float(np.abs(p).sum()), np.array([0.0, 1.0]), grad)
        assert report.verdict is jc.Verdict.FAIL
    assert jc.check_grad(lambda p: float(np.abs(p).sum()), np.array([0.0, 1.0]), np.sign).verdict is jc.Verdict.PASS


@pytest.mark.parametrize("seed", range(6))
def test_a_bias_before_batch_norm_whose_gradient_is_rounding(seed):
    # One of its entries came out as 0 and the others as 1e-17: rounding that moves the loss is no slope.
    rng = np.random.RandomState(seed)
    X, T = rng.randn(4, 8), (rng.rand(1, 8) < 0.5).astype(float)
    p = {"W": rng.randn(6, 4), "b": 0.1 * rng.randn(6, 1), "V": rng.randn(1, 6)}

    def ahead(p):
        z = p["W"] @ X + p["b"]
        s = np.sqrt(z.var(1, keepdims=True) + 1e-5)
        n = (z - z.mean(1, keepdims=True)) / s
        return s, n, np.tanh(n), 1 / (1 + np.exp(-(p["V"] @ np.tanh(n))))

    def entropy(p):
        h = ahead(p)[-1]
        return -np.mean(T * np.log(h) + (1 - T) * np.log(1 - h))

    def back(p):
        s, n, a, h = ahead(p)
        d = (h - T) / 8
        dn = (p["V"].T @ d) * (1 - a * a)
        dz = (dn - dn.mean(1, keepdims=True) - n * (dn * n).mean(1, keepdims=True)) / s
        return {"W": dz @ X.T, "b": dz.sum(1, keepdims=True), "V": d @ a.T}

    assert jc.check_grad(entropy, p, back).verdict is jc.Verdict.PASS
