"""NumPy losses that compute in less than float64 inside, and give a float64."""

import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.problem.host import _pinned, _rounded_inside

N = np.arange(1, 21)


def layer(p, dtype):
    return float(np.sum(np.tanh(p.astype(dtype) * N.astype(dtype)).astype(float)))


def slope(p, dtype):
    return N * (1 - np.tanh(p * N) ** 2)


def squares(p, dtype):
    return float(np.sum(np.sin(p).astype(dtype).astype(float) ** 2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("loss", "grad"), [(layer, slope), (squares, lambda p, _: np.sin(2 * p))])
def test_what_is_rounded_inside_accuses_nobody(loss, grad, dtype, seed):
    # At the finest steps nothing moved, and those zeros were believed over the larger ones.
    p = 0.5 * np.random.RandomState(seed).randn(20)
    report = jc.check_grad(loss, p, grad, args=(dtype,), where=False)
    assert report.verdict is not jc.Verdict.FAIL, str(report)
    if dtype == "float32":
        assert jc.check_grad(loss, p, lambda *x: 1.1 * grad(*x), args=(dtype,), where=False).verdict is jc.Verdict.FAIL


@pytest.mark.parametrize(
    ("f", "unit"),
    [
        (lambda p: layer(p, "float32"), 2.0**-23),
        (lambda p: layer(p, "float16"), 2.0**-10),
        (lambda p: float(np.sum(np.tanh(p * N))), 0.0),
        (lambda p: float(np.sum((p - p.round(1)) ** 2)), 0.0),  # flat to first order, or nearly
        (lambda p: 1e6 + 1e-9 * float(np.sum(p)), 0.0),  # below the rounding of its value
        (lambda p: 3.0, 0.0),
    ],
)
def test_the_unit_inside_is_told(f, unit):
    assert _rounded_inside(f, 0.5 * np.random.RandomState(0).randn(20)) == unit


def beside(offset, dtype="float32"):
    """A loss so small beside an offset that in `dtype` it does not move at all."""
    return lambda p: float(np.dtype(dtype).type(offset + np.sum(np.sin(p))))


@pytest.mark.parametrize("n", [1, 5, 2000])
@pytest.mark.parametrize(
    ("offset", "dtype"), [(1e9, "float32"), (3e8 + 32, "float32"), (-1e8, "float32"), (2e4, "float16")]
)
def test_nor_does_one_that_swallows_every_move(n, offset, dtype):
    # It looked like a constant, whose slope of zero is known to float64.
    p = np.random.RandomState(n).randn(n) / n
    report = jc.check_grad(beside(offset, dtype), p, np.cos, where=False)
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.PRECISION), str(report)
    assert "are rounded to" in report.leaves[0].note


@pytest.mark.parametrize(
    ("constant", "gradient"),
    [
        (lambda p: 3.0 + 0 * float(np.sum(p)), 1.0),
        (lambda p: 0.1 + 0 * float(np.sum(p)), 1e-6),  # a float64 that no other dtype has
        (lambda p: float(np.sum(np.floor(p))), 1.0),
        (lambda p: float(np.maximum(0.0, np.sum(p) - 50)), 1.0),
        (lambda p: float(np.clip(6.3 - np.sum(p**2), 5.0, 6.0)), 1e-3),  # which moves farther away
    ],
    ids=["constant", "of float64", "counted", "dead", "clipped"],
)
def test_but_one_that_does_not_move_has_no_gradient(constant, gradient):
    p = np.array([0.3, -0.2, 0.25])
    report = jc.check_grad(constant, p, lambda p: np.full(3, gradient), where=False)
    assert (report.verdict, report.reason) == (jc.Verdict.FAIL, jc.Reason.MANUAL_WRONG), str(report)


def test_zeros_move_where_it_is_seen_how_values_are_rounded():
    # A network at its zero initialisation.
    loss = lambda p: float(np.float32(1e6 + np.sum((p - 1.5) ** 2)))  # noqa: E731
    report = jc.check_grad(loss, np.zeros(3), lambda p: 2 * (p - 1.5), where=False)
    assert report.verdict is not jc.Verdict.FAIL, str(report)
    assert _pinned(loss, np.zeros(3)) == 2.0**-23
