"""Parameters of samplers by rejection: JAX's implicit derivative is not that of the sampler at a fixed key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program import draws
from jaxcheck.program.converge import iterates
from jaxcheck.test_util import check_grads

KEY = jax.random.key(0)
THREE = jnp.array([2.0, 3.0, 1.5])
SAMPLERS = {
    "gamma": lambda a: jnp.sum(jax.random.gamma(KEY, a)),
    "dirichlet in a scan": lambda a: jax.lax.scan(
        lambda c, k: (c + jax.random.dirichlet(k, a)[0], None), 0.0, jax.random.split(KEY, 2))[0],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
def test_nobody_is_blamed(name):
    report = jc.check_grad(SAMPLERS[name], THREE)
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.IMPLICIT), str(report)
    assert np.isnan(report.leaves[0].difference) and "implicit reparameterisation" in str(report)
    assert report.compiled < 6  # no second look, which could not tell more


@pytest.mark.slow
def test_other_leaves_are_judged():
    def loss(p):
        return p["scale"] ** 2 * jax.random.gamma(KEY, p["shape"])

    params = {"scale": jnp.float32(1.3), "shape": jnp.float32(2.0)}
    for factor, verdict in ((1.0, jc.Verdict.PASS), (1.001, jc.Verdict.FAIL)):
        report = jc.check_grad(
            loss,
            params,
            lambda p, factor=factor: {
                "scale": factor * 2 * p["scale"] * jax.random.gamma(KEY, p["shape"]),
                "shape": p["shape"],
            },
        )
        assert report["scale"].verdict is verdict, str(report)
        assert report["shape"].reason is jc.Reason.IMPLICIT


def rejection(until_accepted: bool):
    """Exponential draws of rate 1 / a, by rejection from a wide uniform one, with the implicit derivative x / a."""

    def accepted(key, a):
        at, height = jax.random.uniform(key, (2,))
        return 20 * at, height < jnp.exp(-20 * at / a)

    def turn(state):
        key, _, done, a = state
        key, mine = jax.random.split(key)
        x, done = accepted(mine, a)
        return key, x, done, a

    @jax.custom_jvp
    def sample(a):
        start = (KEY, jnp.zeros_like(a), False, a)
        if until_accepted:
            return jax.lax.while_loop(lambda s: ~s[2], turn, start)[1]
        return jax.lax.fori_loop(0, 200, lambda _, s: jax.lax.cond(s[2], lambda s: s, turn, s), start)[1]

    sample.defjvp(lambda p, t: (sample(*p), sample(*p) / p[0] * t[0]))
    return sample


@pytest.mark.parametrize("until_accepted", [True, False])
def test_a_rule_around_a_sampler_of_ones_own(until_accepted):
    report = jc.check_grad(lambda p: p["scale"] * rejection(until_accepted)(p["a"]), {"a": 2.0, "scale": 3.0})
    assert report["a"].reason is jc.Reason.IMPLICIT, str(report)
    assert report["scale"].verdict is jc.Verdict.PASS


def test_a_draw_with_a_fixed_parameter_is_a_number():
    assert jc.check_grad(lambda x: x * jax.random.gamma(KEY, 2.0), jnp.float32(1.0)).ok


@pytest.mark.slow
def test_the_drop_in():
    with pytest.raises(jc.GradientInconclusive, match="IMPLICIT"):
        check_grads(SAMPLERS["gamma"], (THREE,), 1)


@pytest.mark.slow
def test_check_rule():
    report = jc.check_rule(SAMPLERS["gamma"], THREE, level="quick")
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.IMPLICIT), str(report)


def rejecting(x):
    """A half-normal draw above x, by rejection."""

    def again(c):
        key, use = jax.random.split(c[0])
        return key, jax.random.normal(use) * x

    return jax.lax.while_loop(lambda c: c[1] < x, again, (KEY, x - 1))[1]


def test_a_loop_that_draws_has_no_limit():
    program = jax.make_jaxpr(rejecting)(0.5)
    assert draws.draws(program) and not iterates(program)
    assert not draws.implicit(program, [True])
