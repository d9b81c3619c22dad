"""The step ladder: true errors stay within the bars, and the bars are not absurdly wide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jaxcheck.evidence.differences import Ladder, slopes, two_steps

LADDER = Ladder()


def climb(phi, scale=1.0, unit=2.3e-16):
    """The ladder on phi(t) at t = 0; `scale` is the size of the parameter, as the engine passes it."""
    with np.errstate(all="ignore"):
        samples = np.array([float(phi(np.float64(t * scale))) for t in LADDER.offsets])
    found = slopes(samples[:, None, None], LADDER, unit)
    return found, float(found.value[0, 0]) / scale, float(found.error[0, 0]) / scale


SMOOTH = {
    "sin": (lambda t: np.sin(0.7 + t), math.cos(0.7)),
    "cube": (lambda t: (1 + t) ** 3, 3.0),
    "constant": (lambda t: 5.0, 0.0),
    "linear": (lambda t: 3 - 2 * t, -2.0),
    "exp": (lambda t: np.exp(1 + t), math.e),
    "tanh": (lambda t: np.tanh(0.3 + 4 * t), 4 / math.cosh(0.3) ** 2),
    "logistic far out": (lambda t: 1 / (1 + np.exp(-(20 + t))), math.exp(-20) / (1 + math.exp(-20)) ** 2),
    "large values": (lambda t: 1e6 + 1e-3 * np.sin(0.7 + t), 1e-3 * math.cos(0.7)),
    "huge values": (lambda t: 1e12 + np.sin(0.7 + t), math.cos(0.7)),
    "stiff": (lambda t: np.exp(50 * (0.5 + t)), 50 * math.exp(25)),
    "fast": (lambda t: np.sin(1e4 * t), 1e4),
    "flat": (lambda t: np.exp(-1 / (0.2 + t) ** 2), math.exp(-25) * 2 / 0.2**3),
    "critical point": (lambda t: t * t, 0.0),
    "odd power": (lambda t: np.abs(t) ** 2.5 * np.sign(t), 0.0),
    "tiny values": (lambda t: 1e-200 * np.sin(0.7 + t), 1e-200 * math.cos(0.7)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_error_is_within_the_bar(name):
    phi, truth = SMOOTH[name]
    found, value, error = climb(phi)
    assert abs(value - truth) <= 5 * error + 1e-300, (value, truth, error)
    assert not found.kink.any() and not found.jump.any() and not found.one_sided.any()


@pytest.mark.parametrize("name", ["sin", "cube", "linear", "exp", "tanh", "stiff", "fast", "tiny values"])
def test_the_bar_of_a_plain_function_is_narrow(name):
    phi, truth = SMOOTH[name]
    _, _, error = climb(phi)
    assert error < 1e-6 * abs(truth)


@pytest.mark.parametrize("edge", [1e-9, 1e-4, 0.05])
@pytest.mark.parametrize(
    ("phi", "slope"),
    [
        (lambda x: np.log(x), lambda x: 1 / x),
        (lambda x: np.sqrt(x), lambda x: 0.5 / x**0.5),
        (lambda x: x * np.log(x), lambda x: 1 + np.log(x)),
    ],
    ids=["log", "sqrt", "x log x"],
)
def test_next_to_the_edge_of_a_domain(phi, slope, edge):
    # Moved by the parameter's own size, and by a hundred times that: the engine knows only the leaf's scale.
    for scale in (edge, 100 * edge):
        found, value, error = climb(lambda t: phi(edge + t), scale)
        assert np.isfinite(error)
        assert abs(value - slope(edge)) <= 5 * error
        assert not found.kink.any()


KINKS = {
    "relu": (lambda t: max(t, 0.0), 0.0, 1.0),
    "abs": (lambda t: abs(t), -1.0, 1.0),
    "leaky": (lambda t: t if t > 0 else 0.01 * t, 0.01, 1.0),
    "kink on a slope": (lambda t: math.sin(t + 1) + 1e-3 * abs(t), math.cos(1) - 1e-3, math.cos(1) + 1e-3),
    "max of curves": (lambda t: max(math.exp(t), 1 + 2 * t), 1.0, 2.0),
}


@pytest.mark.parametrize("name", KINKS)
def test_a_kink_is_seen_with_both_slopes(name):
    phi, left, right = KINKS[name]
    found, _, _ = climb(phi)
    assert found.kink.all() and not found.jump.any()
    slopes_found = sorted([found.left[0, 0], found.right[0, 0]])
    np.testing.assert_allclose(slopes_found, sorted([left, right]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("distance", [1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 1e-2])
def test_a_kink_close_by(distance):
    """Within reach of the smallest steps it is a kink with the truth between its slopes; further off it is none."""
    found, value, error = climb(lambda t: max(t - distance, 0.0) + math.sin(t))
    low, high = np.sort([found.left[0, 0], found.right[0, 0]])
    if found.kink.any():
        assert distance < 1e-5 and low - 1e-4 <= 1 <= high + 1e-4
    else:
        assert abs(value - 1) <= 5 * error


def test_a_jump():
    found, _, _ = climb(lambda t: math.floor(1 + t) + t)
    assert found.jump.all() and not found.kink.any()


def test_a_jump_far_off_is_none():
    found, value, error = climb(lambda t: math.floor(1.5 + 10 * t) + t)
    assert not found.jump.any() and abs(value - 1) <= 5 * error


def test_one_side_of_the_domain():
    found, value, error = climb(lambda t: math.exp(2 * t) if t >= 0 else math.nan)
    assert found.one_sided.all()
    assert abs(value - 2) <= 5 * error < 1e-4


def test_nowhere_in_the_domain():
    found, _, error = climb(lambda t: 1.0 if t == 0 else math.nan)
    assert not np.isfinite(error) and not found.one_sided.any()


def test_noise_widens_the_bar(seed):
    rng = np.random.default_rng(seed)
    for level in (1e-12, 1e-8, 1e-5):
        found, value, error = climb(lambda t, e=level: math.sin(0.7 + t) + e * rng.normal())
        assert abs(value - math.cos(0.7)) <= 5 * error
        assert error > level  # at least the noise over a step of 0.1
        assert found.noisy.all()


def test_overflow_at_the_large_steps_only():
    found, value, error = climb(lambda t: np.exp(np.exp(6.5 + 3 * t)))
    truth = 3 * math.exp(math.exp(6.5) + 6.5)
    assert abs(value - truth) <= 5 * error < 1e-6 * truth
    assert not found.kink.any()


def test_many_directions_at_once_equal_each_alone():
    phis = [lambda t: np.sin(t), lambda t: abs(t), lambda t: np.log(1e-3 + t)]
    with np.errstate(all="ignore"):
        samples = np.array([[float(phi(t)) for phi in phis] for t in LADDER.offsets])
    together = slopes(samples[:, :, None], LADDER)
    for k, phi in enumerate(phis):
        alone, _, _ = climb(phi, unit=2.220446049250313e-16)
        np.testing.assert_array_equal(together.value[k], alone.value[0])
        np.testing.assert_array_equal(together.error[k], alone.error[0])


@pytest.mark.parametrize("name", ["sin", "cube", "exp", "tanh", "large values", "stiff"])
def test_two_steps(name):
    phi, truth = SMOOTH[name]
    h, ratio = 2.5e-5, 4.0
    pairs = [tuple(np.array([[float(phi(s * step))]]) for s in (1, -1)) for step in (ratio * h, h)]
    value, error = two_steps(*pairs, h, ratio, np.abs(pairs[1][0]))
    assert abs(value[0, 0] - truth) <= 5 * error[0, 0]
    if name != "large values":
        assert error[0, 0] < 1e-6 * abs(truth)


SINGULAR = {
    "x log x": (lambda x: x * np.log(x), lambda x: np.log(x) + 1),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "x^0.9": (lambda x: x**0.9, lambda x: 0.9 * x**-0.1),
    "x^1.5": (lambda x: x**1.5, lambda x: 1.5 * x**0.5),
    "x^2 log x": (lambda x: x * x * np.log(x), lambda x: 2 * x * np.log(x) + x),
}


@pytest.mark.parametrize("edge", [1e-12, 1e-20, 1e-100, 1e-300])
@pytest.mark.parametrize("name", SINGULAR)
def test_beyond_the_smallest_step_one_side_knows_no_more_than_its_bar_says(name, edge):
    f, slope = SINGULAR[name]
    for smooth in (0.0, 1.0, 1e3):
        found, value, error = climb(lambda t, k=smooth: f(edge + t) + k * np.sin(t))
        assert found.one_sided.all()
        if name.startswith(("x^1.5", "x^2")):  # whose slopes settle
            assert np.isfinite(error)
        assert not np.isfinite(error) or abs(value - slope(edge) - smooth) <= 5 * error
        assert np.isfinite(error) or np.isnan(value)


def test_a_log_below_the_rounding_is_within_the_bar():
    for amount in 10.0 ** np.arange(-16, 1):
        _, value, error = climb(lambda t, k=amount: 1 + np.sin(t) + k * (1e-300 + t) * np.log(1e-300 + t))
        assert not np.isfinite(error) or abs(value - 1 - amount * np.log(1e-300)) <= 5 * error


@pytest.mark.parametrize("exponent", np.arange(1, 11, 0.5))
def test_a_peak_narrower_than_the_steps_has_no_slope_of_nothing(exponent):
    """Both sides of it are one constant: from a distance the point looks like one of slope 0."""
    width, u = 10.0**-exponent, 0.2
    found, value, error = climb(lambda t: 1 / (1 + (t / width + u) ** 2))
    truth = -2 * u / (1 + u**2) ** 2 / width
    assert found.jump.any() or not abs(value - truth) > 5 * error, (value, truth, error)


@pytest.mark.parametrize("exponent", np.arange(1, 11, 0.5))
def test_a_row_of_almost_equal_numbers_that_is_normalised(exponent):
    width = 10.0**-exponent
    found, value, error = climb(lambda t: math.sin((0.6 + t / width) / math.hypot(1.0, 0.6 + t / width) * math.pi))
    x = 0.6 / math.hypot(1.0, 0.6)
    truth = math.pi * math.cos(x * math.pi) / math.hypot(1.0, 0.6) ** 3 / width
    assert found.jump.any() or not abs(value - truth) > 5 * error, (value, truth, error)
