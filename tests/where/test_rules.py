"""The line of a custom rule that is wrong: forward rules, rules of a second derivative, rules under transformations."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.check import where
from jaxcheck.program.objective import trace
from jaxcheck.program.where import of_rules

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


def test_a_loop_to_a_tolerance():
    def solve(W, x):
        def far(z):
            return jnp.max(jnp.abs(z - jnp.tanh(W @ z + x))) > 1e-4

        return jax.lax.while_loop(far, lambda z: jnp.tanh(W @ z + x), jnp.zeros_like(x))

    def backward(saved, g):
        W, z = saved
        slope = 1 - z
        u = slope * jnp.linalg.solve(jnp.eye(len(z)) - W.T * (1 - z**2), g)
        return jnp.outer(u, z), u

    f = jax.custom_vjp(solve)
    f.defvjp(lambda W, x: (z := f(W, x), (W, z)), backward)
    rng = np.random.default_rng(0)
    args = [rng.normal(size=(4, 4)) / 6, rng.normal(size=4)]
    traced = trace(lambda leaves, _: [f(*leaves)], args, [])
    (one,) = of_rules.problems(traced, args, time.perf_counter() + 60)
    assert [(c.kind, c.edit) for c in where.culprits(one, ("W", "x"))] == [("line", "slope = 1 - z**2")]


@jax.custom_vjp
def leaky(x):
    return jnp.where(x > 0, x * x, 0.1 * x)


def leaky_bwd(x, g):
    slope = jnp.where(x > 0, 2 * x, 0.2)
    return (slope * g,)


@jax.custom_vjp
def bent(x):
    return jnp.where(x > 3, 3 * x, 0.5 * x)


def bent_bwd(x, g):
    slope = jnp.where(x > 3.0, 3.0, 3.0)
    return (slope * g,)


leaky.defvjp(lambda x: (leaky(x), x), leaky_bwd)
bent.defvjp(lambda x: (bent(x), x), bent_bwd)


def test_a_number_of_the_source_is_called_by_its_value():
    (found,) = jc.check_rule(leaky, np.array([0.3, -0.7, 1.1]), **QUICK).culprits
    assert found.what == "the number 0.2 times 1/2" and found.edit == "slope = jnp.where(x > 0, 2 * x, 0.1)"
    (found,) = jc.check_rule(bent, np.array([0.3, -0.7, 3.1]), **QUICK).culprits
    assert found.what == "the number 3 times 1/6" and not found.edit  # one of three alike, and it is not said which


WEIGHTS = {
    kind: make(np.random.default_rng(1).normal(size=(5, 5)))
    for kind, make in (("JAX", jnp.asarray), ("NumPy", np.asarray))
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_rule_that_closes_over_data(kind):
    """What is handed on from the inputs is counted with the constants: nothing was found in any such rule."""
    weights = WEIGHTS[kind]
    f = jax.custom_vjp(lambda x: jnp.tanh(x @ weights))

    def fwd(x):
        y = jnp.tanh(x @ weights)
        return y, (x, y)

    def bwd(kept, g):
        _, y = kept
        d = g * (1 - y)
        return (d @ weights.T,)

    f.defvjp(fwd, bwd)
    (culprit,) = jc.check_rule(f, np.tile(A, (2, 1)), **QUICK).culprits
    assert (culprit.source, culprit.edit) == ("d = g * (1 - y)", "d = g * (1 - y**2)")
