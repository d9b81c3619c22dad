"""A NumPy gradient that is another one on the call that the caller makes than on those that follow."""

import numpy as np
import pytest

import jaxcheck as jc

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(16, 6)), RNG.normal(size=(16, 3))
PARAMS = {"W": RNG.normal(size=(6, 3)), "b": RNG.normal(size=3)}


def loss(p):
    return float(np.mean((np.tanh(X @ p["W"] + p["b"]) - Y) ** 2))


def backprop(p):
    h = np.tanh(X @ p["W"] + p["b"])
    dz = 2 * (h - Y) / Y.size * (1 - h**2)
    return {"W": X.T @ dz, "b": dz.sum(0)}


class Warm:
    """Scaled in its first calls, as where a buffer is made when it is first needed."""

    def __init__(self, calls, factor):
        self.left, self.factor = calls, factor

    def __call__(self, p):
        self.left -= 1
        return {k: (self.factor if self.left >= 0 else 1.0) * g for k, g in backprop(p).items()}


class Stale:
    """The gradient at the parameters of the call before."""

    def __init__(self):
        self.last = {k: x + 1 for k, x in PARAMS.items()}

    def __call__(self, p):
        found, self.last = backprop(self.last), {k: x.copy() for k, x in p.items()}
        return found


@pytest.mark.parametrize("gradient", [Warm(1, 1.01), Warm(1, -1.0), Warm(1, np.nan), Warm(4, 2.0), Stale()])
def test_the_first_call_counts(gradient):
    report = jc.check_grad(loss, PARAMS, grad=gradient)
    assert report.verdict is jc.Verdict.INCONCLUSIVE and report.reason is jc.Reason.NONDETERMINISTIC, report
    assert jc.check_grad(loss, PARAMS, grad=Warm(0, 2.0)).ok


def test_a_gradient_of_more_digits():
    def gradient(p):
        return {k: g.astype(np.longdouble) for k, g in backprop(p).items()}

    assert jc.check_grad(loss, PARAMS, grad=gradient).ok
    wrong = jc.check_grad(loss, PARAMS, grad=lambda p: gradient(p) | {"b": 2 * gradient(p)["b"]})
    assert [leaf.path for leaf in wrong.failed] == ["b"]
