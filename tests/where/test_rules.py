"""The line of a custom rule that is wrong: forward rules, rules of a second derivative, rules under transformations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc

pytestmark = pytest.mark.where

A, B = (np.random.default_rng(k).normal(size=5).astype(np.float32) for k in (0, 1))
QUICK = dict(level="quick", algebra=False)


@jax.custom_jvp
def forward(a, b):
    return jnp.exp(-(a**2)) * b + jnp.sin(b)


@forward.defjvp
def forward_rule(primals, tangents):
    (a, b), (da, db) = primals, tangents
    e = jnp.exp(-(a**2))
    dot_a = -2 * a * e * da
    dot_b = (e + jnp.cos(b)) * db
    return e * b + jnp.sin(b), dot_a + dot_b


@jax.custom_vjp
def gated(x):
    return jnp.tanh(x) * x


def gated_bwd(x, ct):
    t = jnp.tanh(x)
    return (ct * (t + x * (1 - t)),)


gated.defvjp(lambda x: (gated(x), x), gated_bwd)


def network(x):
    def body(c, _):
        return jax.vmap(jax.jit(gated))(0.5 * c), None

    return jax.lax.scan(body, x, None, length=3)[0]


@jax.custom_vjp
def cubed(x):
    return x**3


@jax.custom_vjp
def slope(x, ct):
    return 3 * x**2 * ct


def slope_bwd(kept, g):
    x, ct = kept
    dx = 3 * x * ct * g
    return dx, 3 * x**2 * g


slope.defvjp(lambda x, ct: (slope(x, ct), (x, ct)), slope_bwd)
cubed.defvjp(lambda x: (cubed(x), x), lambda x, ct: (slope(x, ct),))


def named(report) -> list[tuple[str, str]]:
    return [(c.kind, c.source) for c in report.culprits]


def test_a_forward_rule():
    report = jc.check_rule(forward, A, B, **QUICK)
    assert named(report) == [("line", "dot_a = -2 * a * e * da")]


@pytest.mark.parametrize(
    "check",
    [
        lambda: jc.check_rule(network, A.reshape(5, 1), **QUICK),
        lambda: jc.check_grad(lambda x: jnp.sum(network(x) ** 2), A.reshape(5, 1)),
    ],
    ids=["check_rule", "check_grad"],
)
def test_a_rule_under_jit_vmap_and_scan(check):
    report = check()
    assert named(report) == [("line", "return (ct * (t + x * (1 - t)),)")]
    assert report.culprits[0].edit == "return (ct * (t + x * (1 - t**2)),)"


def test_the_rule_of_a_second_derivative():
    report = jc.check_rule(cubed, A, order=2, algebra=False, transforms=False)
    assert report.reason is jc.Reason.SECOND_ORDER_WRONG
    assert [c.source for c in report.culprits] == ["dx = 3 * x * ct * g"]
    assert report.culprits[0].leaves == ("second order",)
