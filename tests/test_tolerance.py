"""`rtol` means one thing: the caller's bound on formula (2) of a leaf."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.result import Verdict

W = jnp.asarray(np.random.default_rng(2).standard_normal((4, 5)))


def loss(w):
    return jnp.sum(jnp.tanh(w) ** 2) + jnp.sum(w[0] * w[1])


def off_by(difference, seed):
    """The gradient with noise that makes formula (2) exactly `difference`."""
    noise = jnp.asarray(np.random.default_rng(seed).standard_normal(W.shape))

    def grad(w):
        g = jax.grad(loss)(w)
        r = noise * jnp.linalg.norm(g) / jnp.linalg.norm(noise)
        return g + 2 * difference * r

    return grad


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("mode", ["exhaustive", "sketch"])
@pytest.mark.parametrize("seed", range(3))
def test_formula_2_of_a_leaf_is_what_the_bound_bounds(rtol, mode, seed):
    tolerance = jc.Tolerance(rtol=rtol)
    assert jc.check_grad(loss, W, off_by(0.7 * rtol, seed), mode=mode, tolerance=tolerance).verdict is not Verdict.FAIL
    assert jc.check_grad(loss, W, off_by(1.5 * rtol, seed), mode=mode, tolerance=tolerance).verdict is Verdict.FAIL
