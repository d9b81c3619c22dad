"""NumPy losses that compute in less than float64 inside, and give a float64."""

import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.evidence.host import _rounded_inside

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
