"""A line is named where its own change is what is wanted: not one that the function shares, nor one that has not got
what is to be brought in, nor one of a rule that is right."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.report import culprits
from tests.where import rates
from tests.where.cases import CASES

pytestmark = pytest.mark.where

X = np.random.default_rng(0).normal(size=(3, 4))
QUICK = dict(level="quick", algebra=False)


def act(x, s):
    return jnp.tanh(x * s)


def test_a_helper_of_the_function_is_not_to_blame_but_its_call():
    f = jax.custom_vjp(act)

    def backward(kept, g):
        x, s = kept
        y = act(x, 1.0)
        d = g * (1 - y**2)
        return d * s, jnp.sum(d * x)

    f.defvjp(lambda x, s: (act(x, s), (x, s)), backward)
    (named,) = jc.check_rule(f, X, 0.7, **QUICK).culprits
    assert named.source == "y = act(x, 1.0)"


def test_nor_in_a_backprop():
    def loss(p):
        return jnp.sum(act(X @ p["w"], p["s"]))

    def grad(p):
        y = act(X @ p["w"], 1.0)
        d = 1 - y**2
        return {"w": X.T @ d * p["s"], "s": jnp.sum(d * (X @ p["w"]))}

    named = jc.check_grad(loss, {"w": X.T.copy(), "s": np.array(0.7)}, grad).culprits
    assert all(c.source != "return jnp.tanh(x * s)" for c in named)
    assert any(c.source == 'y = act(X @ p["w"], 1.0)' for c in named)


def test_the_forward_pass_of_a_rule_knows_no_cotangent():
    f = jax.custom_vjp(lambda x: jnp.sum(jnp.sin(x) ** 2))

    def forward(x):
        s = jnp.sin(x)
        d = 2 * s * jnp.cos(x)
        return jnp.sum(s**2), d

    f.defvjp(forward, lambda d, g: (d,))
    report = jc.check_rule(f, X, **QUICK)
    assert report.verdict is jc.Verdict.FAIL and not report.culprits
    report = jc.check_grad(lambda x: 3 * f(x), X)
    assert report.verdict is jc.Verdict.FAIL and not report.culprits


def test_of_two_rules_the_inner_one_that_is_wrong():
    inner = jax.custom_vjp(jnp.sin)

    def inner_backward(x, g):
        c = jnp.cos(x) * 1.01
        return (g * c,)

    inner.defvjp(lambda x: (jnp.sin(x), x), inner_backward)
    outer = jax.custom_vjp(lambda x: inner(x) * x)

    def outer_backward(x, g):
        y, pull = jax.vjp(inner, x)
        a = pull(g * x)[0]
        return (g * y + a,)

    outer.defvjp(lambda x: (outer(x), x), outer_backward)
    named = jc.check_rule(outer, X, **QUICK).culprits
    assert any(c.source == "c = jnp.cos(x) * 1.01" and c.edit == "c = jnp.cos(x)" for c in named)
    assert all("vjp" not in c.source and "pull" not in c.source for c in named)


def test_two_gradients_given_back_in_another_order_are_no_two_mistakes():
    f = jax.custom_vjp(lambda x, y: jnp.mean((jnp.tanh(x) - y) ** 2))

    def forward(x, y):
        h = jnp.tanh(x)
        e = h - y
        d = 2 * e / e.size
        dx = d * (1 - h**2)
        return jnp.mean(e**2), (dx, -d)

    def backward(kept, g):
        dx, dy = kept
        return g * dy, g * dx

    f.defvjp(forward, backward)
    report = jc.check_rule(f, X, X[::-1] / 2, **QUICK)
    assert not report.culprits and all("swapped" in leaf.hint for leaf in report.leaves)


def test_two_mistakes_are_told_as_two():
    named = [
        jc.Culprit("a.py", 3, "x", "", "", "line", ("w",)),
        jc.Culprit("a.py", 5, "y", "", "", "line", ("b",)),
    ]
    report = jc.Report("check_grad", "f", jc.Verdict.FAIL, jc.Reason.MANUAL_WRONG, culprits=tuple(named))
    assert culprits.short(report) == " at a.py:3 and a.py:5"
    either = [jc.Culprit("a.py", n, "x", "", "", "one of", ("w",)) for n in (3, 5)]
    report = jc.Report("check_grad", "f", jc.Verdict.FAIL, jc.Reason.MANUAL_WRONG, culprits=tuple(either))
    assert culprits.short(report) == " at a.py:3 or a.py:5"


@pytest.mark.slow
def test_an_edit_does_not_read_what_its_own_line_makes():
    case = next(case for case in CASES if case.net == "rule_pool" and case.wrong == "ds = a * da")
    checked, _ = rates.report(case)
    (named,) = checked.culprits
    assert named.edit == "ds = (a * da) - a * (a * da).sum(-1, keepdims=True)"
    assert rates.as_edited(case, checked)
