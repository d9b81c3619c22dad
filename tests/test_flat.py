"""Large problems: all leaves share their directions, and what is wrong is still told leaf by leaf."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.evidence import flat
from jaxcheck.result import Verdict

WIDTH, LAYERS = 48, 6
RNG = np.random.default_rng(0)
P = [{"W": jnp.asarray(RNG.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5), "b": jnp.zeros(WIDTH)} for _ in range(LAYERS)]
X = jnp.asarray(RNG.normal(size=(8, WIDTH)))


def loss(p):
    h = X
    for q in p:
        h = jnp.tanh(h @ q["W"] + q["b"])
    return jnp.mean(h**2)


def spoiled(change):
    def grad(p):
        g = jax.grad(loss)(p)
        return change(g)

    return grad


def at(layer, name, change):
    return spoiled(lambda g: [{**q, name: change(q[name])} if k == layer else q for k, q in enumerate(g)])


WRONG = {
    "whole leaf": (at(2, "W", lambda g: 1.001 * g), "[2].W"),
    "bias": (at(4, "b", lambda g: -g), "[4].b"),
    "one component": (at(3, "W", lambda g: g.at[5, 7].multiply(1.5)), "[3].W"),
    "forgotten": (at(0, "b", lambda g: 0 * g), "[0].b"),
}


@pytest.fixture(autouse=True)
def _always(monkeypatch):
    monkeypatch.setattr(flat, "WORK", 0.0)
    monkeypatch.setattr("jaxcheck.judgement.power.MANY", 1000)
    monkeypatch.setattr("jaxcheck.judgement.power.SAMPLE", 500)


def test_a_right_gradient_costs_a_few_losses_however_many_leaves():
    report = jc.check_grad(loss, P, spoiled(lambda g: g))
    assert report.verdict is Verdict.PASS
    assert report.evaluations <= 64 + 8
    assert all(leaf.floor < 1e-6 and leaf.floor_component < 1e-5 for leaf in report.leaves)


@pytest.mark.parametrize("name", WRONG)
def test_the_wrong_leaf_is_blamed_and_no_other(name):
    grad, path = WRONG[name]
    report = jc.check_grad(loss, P, grad)
    assert [leaf.path for leaf in report.leaves if leaf.verdict is Verdict.FAIL] == [path]
    if name == "one component":
        assert report.leaves[[leaf.path for leaf in report.leaves].index(path)].worst[0].index == (5, 7)


@pytest.mark.slow
def test_where_the_differences_contradict_autodiff_every_leaf_has_its_own():
    """With a stop_gradient inside, M = A in a leaf where both are wrong."""

    def stopped(p):
        return loss([{**q, "b": jax.lax.stop_gradient(q["b"])} if k == 1 else q for k, q in enumerate(p)])

    report = jc.check_grad(stopped, P, jax.grad(stopped))
    assert [leaf.path for leaf in report.leaves if leaf.verdict is not Verdict.PASS] == ["[1].b"]


@pytest.mark.slow
def test_a_leaf_that_moves_little_takes_part():
    """What one leaf does is 1e-6 of what another does; both are wrong in M and A alike, and N alone could tell."""

    def two(p):
        return jnp.sum(jnp.sin(p["a"])) + 1e-6 * jnp.sum(jnp.cos(jax.lax.stop_gradient(p["b"])))

    p = {"a": jnp.linspace(0.1, 2.0, 2000), "b": jnp.linspace(0.1, 2.0, 2000)}
    report = jc.check_grad(two, p, jax.grad(two))
    assert report.verdict is not Verdict.PASS


def test_a_sample_has_the_floors_of_the_whole(monkeypatch):
    sampled = jc.check_grad(loss, P, spoiled(lambda g: g))
    monkeypatch.setattr("jaxcheck.judgement.power.MANY", 10**9)
    whole = jc.check_grad(loss, P, spoiled(lambda g: g))
    for a, b in zip(sampled.leaves, whole.leaves, strict=True):
        assert 0.1 < a.floor / b.floor < 10 and 0.1 < a.floor_component / b.floor_component < 40


@pytest.mark.slow
def test_a_leaf_that_was_forgotten_counts_in_the_whole():
    rng = np.random.default_rng(0)
    p = {k: rng.normal(size=s).astype(np.float32) for k, s in (("W", (64, 64)), ("g", (64,)))}
    x = rng.normal(size=(8, 64)).astype(np.float32)

    def loss(p):
        return jnp.sum(jnp.tanh(x @ p["W"] / 8) * 10 * p["g"])

    def forgot(p):
        return {"W": jax.grad(loss)(p)["W"], "g": jnp.zeros_like(p["g"])}

    each = [jc.check_grad(loss, p, forgot, mode=mode).difference for mode in ("sketch", "exhaustive")]
    assert each[0] == pytest.approx(each[1], rel=0.5) and each[1] > 0.1  # of a sketch it is an estimate
