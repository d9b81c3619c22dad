"""Every witness sees the draws of the caller's own program, wherever JAX moves their parts when it differentiates."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck.program import draws
from jaxcheck.program.float64 import shadow

KEYS = jax.random.split(jax.random.key(3), 4)
ruled = jax.custom_vjp(lambda k, scale: scale * jax.random.normal(k))
ruled.defvjp(lambda k, scale: (ruled(k, scale), ()), lambda _, g: (None, 0.0 * g))
SAMPLERS = {
    "normal": jax.random.normal,
    "uniform": lambda k: jax.random.uniform(k, minval=0.1, maxval=0.7),
    "truncated": lambda k: jax.random.truncated_normal(k, -0.3, 1.7),
    "gamma": lambda k: jax.random.gamma(k, 2.5),
    "laplace": jax.random.laplace,
    "jitted": jax.jit(lambda k: 0.3 * jax.random.normal(k)),
    "rule": lambda k: 0.3 * ruled(k, 1.0),
}


def by_cond(body, x, ks):
    return sum(
        lax.cond(k_even, lambda x, k: body(x, k), lambda x, k: 3 * body(x, k), x, k)
        for k_even, k in zip(np.arange(len(ks)) % 2 == 0, ks, strict=True)
    )


NESTS = {
    "scan": lambda body, x, ks: lax.scan(lambda c, k: (c + body(x, k), None), 0 * x, ks)[0],
    "map": lambda body, x, ks: jnp.sum(lax.map(lambda k: body(x, k), ks)),
    "vmap": lambda body, x, ks: jnp.sum(jax.vmap(lambda k: body(x, k))(ks)),
    "fori": lambda body, x, ks: lax.fori_loop(0, len(ks), lambda i, c: c + body(x, ks[i]), 0 * x),
    "cond": by_cond,
}
WRAPPED = {"": lambda f: f, "jit": jax.jit, "checkpoint": jax.checkpoint}


def cases():
    rng = np.random.default_rng(8)
    for sampler in SAMPLERS:
        for nest in rng.choice(list(NESTS), 2, replace=False):
            inner, outer = rng.choice(list(WRAPPED), 2)
            yield pytest.param(sampler, nest, inner, outer, id=f"{sampler} {outer}({nest}({inner}))")


@pytest.mark.parametrize(("sampler", "nest", "inner", "outer"), cases())
def test_a_derivative_has_the_draws_of_the_program(sampler, nest, inner, outer):
    draw = SAMPLERS[sampler]
    body = WRAPPED[inner](lambda x, k: x * draw(k))
    f = WRAPPED[outer](functools.partial(NESTS[nest], body))
    value = shadow.in_float64(f)(np.float32(1.0), KEYS)
    assert value == pytest.approx(float(f(np.float32(1.0), KEYS)), rel=3e-6)
    for derivative in (jax.grad, jax.jacfwd):
        slope = shadow.in_float64(derivative(f))(np.float32(1.0), KEYS)
        np.testing.assert_allclose(slope, value, rtol=1e-13)


def noisy(p, keys):
    """An equation with noise, as it is drawn at every step."""
    step = lambda x, k: (x - 0.1 * p[0] * x + 0.3 * p[1] * jax.random.normal(k), x)  # noqa: E731
    return lax.scan(step, 1.0, keys)[0] ** 2


@pytest.mark.slow
@pytest.mark.parametrize("check", [
    lambda p: jc.check_grad(noisy, p, args=(KEYS,)),
    lambda p: jc.check_rule(noisy, p, KEYS, level="quick"),
    lambda p: jc.check_batch(noisy, jnp.stack([p, 2 * p]), args=(KEYS,)),
    lambda p: jc.check_grad(noisy, p, lambda p, ks: 1.000001 * jax.grad(noisy)(p, ks), args=(KEYS,)),
], ids=["check_grad", "check_rule", "check_batch", "off by 1e-6"])  # fmt: skip
def test_noise_at_every_step(check, request):
    report = check(jnp.array([0.5, 1.0]))
    wrong = "off by" in request.node.callspec.id
    assert report.verdict is (jc.Verdict.FAIL if wrong else jc.Verdict.PASS), str(report)


def test_what_is_made_for_draws_alone_is_known_through_loops():
    def f(x, low, keys):
        both, other = low * 3, low * 5

        def step(c, k):
            return c + x * both * jax.random.uniform(k, minval=both, maxval=other), None

        return lax.scan(step, 0.0, keys)[0]

    program = jax.make_jaxpr(f)(1.0, 0.1, KEYS)
    only = draws.for_draws(program, [True, False, False])
    names = [
        eqn.params["name"] if eqn.primitive.name == "jit" else eqn.primitive.name
        for eqn in program.jaxpr.eqns
        if any(v in only for v in eqn.outvars)
    ]
    assert names == ["mul"]  # `other`, not `both`
    assert program.jaxpr.eqns[1].outvars[0] in only
