"""Loops are searched with two turns each, in programs that are as right as they are with all of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcheck.check import where
from jaxcheck.program.where import shorter, smaller
from tests.where.cases import Case
from tests.where.rates import outcome, report

WRONG = {
    "hmm": ("nA.sum(1, keepdims=True)", "nA.sum(0, keepdims=True)"),
    "kalman": ("dm = dm1 - de * h", "dm = dm1 + de * h"),
}


@pytest.mark.slow
@pytest.mark.where
@pytest.mark.parametrize(("net", "said"), [("hmm", "line right"), ("kalman", "line right")])
def test_the_line_is_named_from_a_short_problem(monkeypatch, net, said):
    made = []

    def recorded(*args):
        made.append(shorter.shortened(*args))
        return made[-1]

    monkeypatch.setattr(where, "shortened", recorded)
    checked, line = report(Case(net, *WRONG[net]), where=60.0)  # on a machine that does much else
    assert outcome(checked, line) == said
    (one,) = made
    assert one.short is not None
    assert len(one.short.tape.ops) < 0.6 * len(one.tape.ops)
    assert len(one.short.sites) == len(one.sites)


def test_fractions_stay_where_only_turns_are_cut():
    def f(x):
        return jax.lax.scan(lambda c, _: (c + 0.2 * x, None), 0.0, None, length=5)[0] / 5.0

    closed = jax.make_jaxpr(f)(1.0)
    short = smaller.resized(closed, {5: 2}, numbers=False)
    np.testing.assert_allclose(jax.core.eval_jaxpr(short.jaxpr, short.consts, jnp.float32(1.0)), [0.08], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.where
def test_what_is_as_well_a_sign_of_an_even_number_of_turns_is_not_named_alone():
    checked, line = report(Case("sinkhorn", "dg = -s.T @ df", "dg = s.T @ df"))
    assert outcome(checked, line) in ("one of right", "line right")
