"""NumPy code that writes its results into arrays of its own, as loops that shall not allocate do."""

import jax
import numpy as np
import pytest

import jaxcheck as jc


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("held", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_buffers_of_its_own_dtype(wide, held, factor):
    rng = np.random.default_rng(0)
    data, params = rng.normal(size=(5, 4)).astype(held), {"w": rng.normal(size=(4, 3)).astype(held)}
    hidden, back = np.zeros((5, 3), held), np.zeros((4, 3), held)

    def loss(p):
        np.dot(data, p["w"], out=hidden)
        return float((np.tanh(hidden, out=hidden) ** 2).sum())

    def gradient(p):
        loss(p)
        return {"w": np.dot(data.T, (factor * 2 * hidden * (1 - hidden**2)).astype(held), out=back)}

    with jax.enable_x64(wide):
        report = jc.check_grad(loss, params, gradient)
    assert report.verdict is (jc.Verdict.PASS if factor == 1.0 else jc.Verdict.FAIL), str(report)
    assert report.verdict is jc.Verdict.FAIL or report.leaves[0].floor < 0.01


def test_what_a_function_raises_of_itself_is_raised():
    with pytest.raises(ValueError, match="not today"):
        jc.check_grad(lambda p: np.add(p, "x") if p.dtype == np.float64 else _refuse(), np.ones(2, np.float32))


def _refuse():
    raise ValueError("not today")
