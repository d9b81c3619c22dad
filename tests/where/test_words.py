"""What is said of a line says which part of it is meant; and a part of the whole answer is no value of one turn."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from tests.where import build

pytestmark = pytest.mark.where

# The gradient in `A` of the first call in each turn is left out.
ADJOINT = """import jax.numpy as jnp
from jax import lax


def f(y, th):
    return jnp.tanh(th["A"] @ y + th["b"])


def rk_loss(th, y0, ytar):
    def step(y, _):
        k1 = f(y, th)
        k2 = f(y + 0.1 * k1, th)
        return y + 0.1 * 0.5 * (k1 + k2), None
    yT, _ = lax.scan(step, y0, None, length=8)
    return 0.5 * jnp.sum((yT - ytar) ** 2)


def vjp_f(y, th, g):
    s = jnp.tanh(th["A"] @ y + th["b"])
    ds = g * (1 - s**2)
    return th["A"].T @ ds, jnp.outer(ds, y), ds


def adjoint(th, y0, ytar):
    h = 0.1
    def fwd(y, _):
        k1 = f(y, th)
        k2 = f(y + h * k1, th)
        return y + h / 2 * (k1 + k2), (y, k1)
    yT, (ys, k1s) = lax.scan(fwd, y0, None, length=8)
    lam = yT - ytar
    def bwd(state, saved):
        lam, gA, gb = state
        y, k1 = saved
        dk2 = h / 2 * lam
        dy2, dA2, db2 = vjp_f(y + h * k1, th, dk2)
        dk1 = h / 2 * lam + h * dy2
        dy1, dA1, db1 = vjp_f(y, th, dk1)
        lam = lam + dy1 + dy2
        return (lam, gA + dA1, gb + db1 + db2), None
    (lam, gA, gb), _ = lax.scan(bwd, (lam, jnp.zeros_like(th["A"]), jnp.zeros_like(th["b"])), (ys, k1s), reverse=True)
    return {"A": gA, "b": gb}
"""


def draw(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).normal(size=shape), np.float32)


def test_the_value_of_a_part_of_a_line_is_that_part_s():
    def loss(p, x, y):
        r = x @ p["w"] - y
        return jnp.mean(jnp.where(jnp.abs(r) < 1.0, 0.5 * r**2, jnp.abs(r) - 0.5))

    def grad(p, x, y):
        r = x @ p["w"] - y
        dr = jnp.sign(r) / r.size
        return {"w": x.T @ dr}

    report = jc.check_grad(loss, {"w": draw(4, 3)}, grad=grad, args=(draw(10, 4, seed=1), draw(10, 3, seed=2)))
    (culprit,) = report.culprits
    assert culprit.source.startswith("dr =")
    assert culprit.what.endswith("for `jnp.sign(r)` (30: a size here)")


def test_a_change_of_a_part_of_a_line_is_that_part_s():
    def loss(p, x, y):
        return jnp.sum((jnp.tanh(x @ p["W"]) - y) ** 2 * 1.5)

    def grad(p, x, y):
        u = jnp.tanh(x @ p["W"])
        e = u - y
        for j in range(3):
            e = e.at[:, j].multiply(1 - u[:, j])
        return {"W": x.T @ (3 * e)}

    report = jc.check_grad(loss, {"W": draw(4, 3) / 2}, grad=grad, args=(draw(6, 4), draw(6, 3)))
    assert [culprit.what for culprit in report.culprits] == ["square of `u[:, j]`"]


def test_the_result_of_a_whole_line_is_called_so():
    def grad(x):
        y = jnp.sin(x)
        return y

    report = jc.check_grad(lambda x: -2 * jnp.sum(jnp.cos(x)), draw(3), grad)
    assert {culprit.what for culprit in report.culprits} == {"the result times 2"}


@pytest.mark.slow
def test_a_part_of_the_answer_is_no_value_of_one_call_of_a_helper():
    found = build.module("adjoint", ADJOINT)
    draw = np.random.default_rng(0).normal
    A, b, y0, aim = (np.asarray(draw(size=size), np.float32) for size in ((3, 3), 3, 3, 3))
    report = jc.check_grad(found.rk_loss, {"A": A, "b": b}, grad=found.adjoint, args=(y0, aim))
    assert report.verdict is jc.Verdict.FAIL
    assert not [culprit for culprit in report.culprits if "outer" in culprit.source]
