"""Signed blocks name the wrong components where there is no autodiff."""

from __future__ import annotations

import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.budget import running
from jaxcheck.evidence import bisect
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.problem.problem import Problem
from jaxcheck.theta import take_apart

RNG = np.random.default_rng(0)
SMALL = 20_000


def found(n, errors, noise=0.0, seed=0):
    """What is found in a function of n components whose gradient is off by so much at some."""
    w, a = RNG.normal(size=n), RNG.normal(size=n)
    rng = np.random.default_rng(1)

    def f(x):
        return np.array([a @ (x * x) / n**0.5 * (1 + noise * rng.normal())])

    theta = take_apart({"w": w})
    m = 2 * a * w / n**0.5
    for i, error in errors.items():
        m[i] += error
    none = np.zeros((1, n))
    ev = LeafEvidence(theta.leaves[0], w, m[None], none, None, None, (), none)
    with running(None, False):
        return bisect.wrong_components(Problem(theta, (), None, None, None, host_primal=f), w, 0, ev, seed)


def test_one_of_a_million():
    it = found(1_000_000, {123_456: 1e-3})
    assert it.indices.tolist() == [123_456]
    assert it.evaluations <= 200


@pytest.mark.parametrize(
    "errors",
    [{5: 1e-2, 6: -1e-2}, {0: 1.0, SMALL - 1: 1e-4}, {k * 999: (-1) ** k * 0.01 for k in range(10)}, {}],
    ids=["next to each other, cancelling", "of several sizes", "ten", "none"],
)
def test_several(errors):
    it = found(SMALL, errors)
    assert it.indices.tolist() == sorted(errors)
    assert not it.spread


def test_many_are_known_as_such_at_once():
    it = found(SMALL, {k: 0.1 for k in range(SMALL)})
    assert it.spread
    assert it.evaluations < 150
    block = found(SMALL, {k: 0.1 for k in range(700, 900)})
    assert block.spread
    # A block at the edge may hold right ones.
    assert sum(700 <= i < 900 for i in block.indices) >= len(block.indices) - 2


@pytest.mark.parametrize("seed", range(3))
def test_noise_names_nobody_and_hides_nobody_above_it(seed):
    assert found(SMALL, {}, noise=1e-10, seed=seed).indices.size == 0
    assert 777 in found(SMALL, {777: 1.0}, noise=1e-12, seed=seed).indices


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ({777: 2.0}, "of 2000 components only [777] is wrong, as far as directions see: ratio 2.000"),
        ({3: 0.0, 1_999: 0.0}, "of 2000 components only [3], [1999] are wrong, as far as directions see: zero there"),
        (dict.fromkeys(range(2_000), 3.0), "components that were looked at"),
    ],
    ids=["one", "two", "all"],
)
def test_a_check_of_host_code_names_them(factors, said):
    w, a = np.random.default_rng(2).normal(size=(2, 2_000))

    def grad(x):
        g = a * np.cos(x)
        g[list(factors)] *= list(factors.values())
        return g

    report = jc.check_grad(lambda x: float(a @ np.sin(x)), w, grad)
    assert report.verdict is jc.Verdict.FAIL
    assert said in report.leaves[0].hint
    assert report.leaves[0].worst[0].index[0] in factors


def test_only_is_not_said_where_others_are_hidden_by_noise():
    """A loss with a buffer in float32 shows no more than the largest of what is wrong."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(10, 4)), rng.normal(size=(4, 4)) * 0.5

    def loss(w):
        h = np.zeros((10, 4), np.float32)
        h[:] = np.tanh(x @ w)
        return float(((h - 0.3) ** 2).sum())

    def grad(w):
        h = np.tanh(x @ w)
        return 0.95 * x.T @ (2 * (h - 0.3) * (1 - h**2))

    (leaf,) = jc.check_grad(loss, w, grad).leaves
    assert leaf.verdict is jc.Verdict.FAIL and "of 16 components at least " in leaf.hint, leaf.hint
