"""What a hint says where the loss's own backward pass, with one slip in it, gives the gradient under test."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program.where import slips
from jaxcheck.program.where.problem import of_loss
from tests.where import build
from tests.where.cases import CASES, Case

pytestmark = pytest.mark.where


def explained(found) -> list[str]:
    """What is said of the wrong pass of a module."""
    params, args = build.point(found)
    leaves, tree = jax.tree.flatten(params)
    data, rest = jax.tree.flatten(args)

    def flat(f):
        return lambda *xs: f(jax.tree.unflatten(tree, xs[: len(leaves)]), *jax.tree.unflatten(rest, xs[len(leaves) :]))

    values = [*leaves, *data]
    with jax.enable_x64(True):
        loss = jax.make_jaxpr(lambda *xs: [flat(found.loss)(*xs)[None]])(*values)
        grad = jax.make_jaxpr(lambda *xs: jax.tree.leaves(flat(found.grad)(*xs)))(*values)
    deadline = time.perf_counter() + 60
    one = of_loss(loss, grad, values, len(leaves), [np.ones(1)], deadline)
    assert one is not None
    tape, runs, seeds = one.loss
    given = [[run[o] for o in one.tape.outputs] for run in one.runs]
    return slips.explain(tape, runs, seeds, len(leaves), given, deadline)


SAID = {
    ("dense", "dz1 = dh1"): "derivative of `tanh`",
    ("dense", "dz1 = dh1 * (1 - z1**2)"): "its argument and its value exchanged",
    ("loop", "dz = jnp.where(after > 0, dh, 0)"): "passes only where `x`",
    ("layernorm", 'dt = do @ p["V"]'): "`p['V']` at ",
    ("layernorm", "da = da"): "`a` at ",
    ("embedding", 'dE = jnp.zeros_like(p["E"]).at[tokens].set(dtok)'): "takes several times",
    ("rnn_scan", "dV = dV + h0.T @ err"): "`h` were that of the step before",
    ("rnn_scan", "dz = dh * (1 - h0**2)"): "its value were that of the step before",
    ("rnn_scan", "dW = dW + h1.T @ dz"): "`h` were that of the step after",
    ("rnn_scan", "dU = x.T @ dz"): "not accumulated: as if `p['U']`",
    ("rnn_scan", 'dh = err @ p["V"].T'): "`h` at ",
}


@pytest.fixture(scope="module")
def wrong_axis():
    """A report of a bias whose gradient is summed over the wrong axis."""
    x = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)

    def loss(p):
        return jnp.sum(jnp.tanh(x + p["b"]) ** 3)

    def grad(p):
        t = jnp.tanh(x + p["b"])
        return {"b": jnp.sum(3 * t**2 * (1 - t**2), axis=1)}

    return jc.check_grad(loss, {"b": np.arange(5, dtype=np.float32) / 5}, grad)


@pytest.mark.parametrize(("net", "wrong"), SAID)
def test_a_slip_is_named(net, wrong):
    (case,) = [c for c in CASES if (c.net, c.wrong) == (net, wrong)]
    said = explained(build.planted(case)[0])
    assert len(said) == 1
    assert SAID[net, wrong] in said[0]


def test_what_no_slip_explains_gets_no_hint():
    case = Case("dense", "dz1 = dh1 * (1 - h1**2)", "dz1 = dh1 * (1 - 0.7 * h1**2)")
    assert explained(build.planted(case)[0]) == []


def test_a_bias_over_the_wrong_axis(wrong_axis):
    assert wrong_axis["b"].hint.startswith("summed over axis 1, not over axis 0 where test_slips.py:")
    assert "spreads `p['b']` over it" in wrong_axis["b"].hint
