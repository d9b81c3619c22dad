"""Parameters that are all but zero: their size says nothing of the scale on which the loss changes, or it says all."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.result import Reason, Verdict


def small(size, count=4):
    return np.full(count, size, np.float32)


def host(x):
    return float(np.sum(np.exp(np.asarray(x))))


# The values of the second are zeros as far as they are seen, and of the third there are too many for one by one.
@pytest.mark.parametrize(
    ("loss", "x"),
    [
        (jax.nn.logsumexp, small(1e-12)),
        (jax.nn.logmeanexp, small(1e-20)),
        (jax.nn.logsumexp, small(1e-30, 2000)),
    ],
)
def test_steps_do_not_drown_in_rounding(loss, x):
    report = jc.check_grad(loss, x)
    assert report.verdict is Verdict.PASS and report.difference < 1e-3, report
    assert report.leaves[0].floor <= 1e-3 and report.leaves[0].floor_component <= 1e-3


@pytest.mark.parametrize("size", [1e-12, 1e-20])
def test_nor_do_those_of_a_loss_in_numpy(size):
    assert jc.check_grad(host, small(size), np.exp).verdict is Verdict.PASS
    # What is seen farther away alone says nothing against a gradient here.
    wrong = jc.check_grad(host, small(size), lambda x: 1.1 * np.exp(x))
    assert wrong.verdict is Verdict.INCONCLUSIVE and wrong.reason is Reason.VACUOUS, wrong


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_a_loss_on_the_scale_of_its_parameters(offset):
    x = small(1e-20)

    def loss(x):
        return offset + float(np.sum(np.sin(np.asarray(x, np.float64) / 1e-20)))

    def grad(x, off=1.0):
        return off * np.cos(np.asarray(x, np.float64) / 1e-20) / 1e-20

    assert jc.check_grad(loss, x, grad).verdict is Verdict.PASS
    assert jc.check_grad(loss, x, lambda x: grad(x, 1.01)).reason is Reason.MANUAL_WRONG


def test_one_leaf_of_two():
    def loss(p):
        return jax.nn.logsumexp(p["a"]) * jnp.sum(p["b"])

    assert jc.check_grad(loss, {"a": small(1e-20), "b": np.ones(3, np.float32)}).verdict is Verdict.PASS
