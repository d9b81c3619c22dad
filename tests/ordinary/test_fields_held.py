"""Python numbers in modules, which a gradient by arrays leaves out (`equinox.filter_grad`)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    weight: jax.Array
    rate: float

    def __call__(self, x):
        return jnp.tanh(self.weight @ x) * (1 - self.rate)


def _loss(layer, x):
    return jnp.sum(layer(x) ** 2)


def _by_arrays(layer, x, factor=1.0):
    return Layer(factor * jax.grad(lambda w: _loss(Layer(w, layer.rate), x))(layer.weight), None)


LAYER = Layer(np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32), 0.25)
X = np.array([0.5, -1.0, 2.0], np.float32)


def _asks(layer, x):
    """As a dropout layer does: with a rate that is no Python number it wants a key."""
    if not isinstance(layer.rate, float):
        raise RuntimeError("needs a key")
    return _loss(layer, x)


@pytest.mark.parametrize("loss", [_loss, _asks])
@pytest.mark.parametrize("factor", [1.0, 1.01])
@pytest.mark.parametrize("how", ["function", "numbers", "value and gradient"])
def test_it_is_carried(loss, factor, how):
    grad = {
        "function": lambda p, x: _by_arrays(p, x, factor),
        "numbers": _by_arrays(LAYER, X, factor),
        "value and gradient": lambda p, x: (loss(p, x), _by_arrays(p, x, factor)),
    }[how]
    report = jc.check_grad(loss, LAYER, grad, args=(X,))
    assert report.ok == (factor == 1) and report.reason is not jc.Reason.STRUCTURE, str(report)
    assert [leaf.path for leaf in report.leaves] == ["weight"]
    assert report.carried == (("rate", "Python float, whose gradient is None"),)


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_in_a_batch(factor):
    points = [LAYER, Layer(2 * LAYER.weight, 0.25), Layer(-LAYER.weight, 0.5)]
    report = jc.check_batch(_loss, points, lambda p, x: _by_arrays(p, x, factor), args=(X,))
    assert report.ok == (factor == 1) and report.reason is not jc.Reason.STRUCTURE, str(report)


def test_elsewhere_none_is_no_gradient():
    """In a dict, and of an array, None is a gradient that is missing."""
    point = {"w": X, "s": 2.0}
    report = jc.check_grad(
        lambda p: jnp.sum(p["w"] ** 2) * p["s"], point, lambda p: {"w": 2 * p["w"] * p["s"], "s": None}
    )
    assert report.reason is jc.Reason.STRUCTURE and "`s` is None" in str(report)
    none = jc.check_grad(_loss, LAYER, lambda p, x: Layer(None, 0.0), args=(X,))
    assert none.reason is jc.Reason.STRUCTURE
