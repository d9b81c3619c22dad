"""NumPy data that are changed in place between two checks: of float64 data JAX keeps the float32 form, by object, for
as long as anybody holds it. After a check nobody may: not even what Python would collect in time."""

from __future__ import annotations

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads

X = np.random.default_rng(0).normal(size=(6, 3))
DATA = np.random.default_rng(1).normal(size=(6, 3))
PARAMS = {"w": np.ones((6, 2)), "b": np.zeros(2)}


def loss(x):
    return jnp.sum(jnp.sin(x) + 0 * DATA)


def network(p):
    return jnp.sum(jnp.tanh(DATA.T @ p["w"] + p["b"]) ** 2)


def looped(p):
    return jax.lax.scan(lambda c, row: (jnp.tanh(c * p + row.sum()), None), jnp.float32(0.3), DATA)[0]


def rule(factor):
    f = jax.custom_vjp(lambda x: jnp.sin(x) * DATA)
    f.defvjp(lambda x: (jnp.sin(x) * DATA, x), lambda x, g: (factor * g * jnp.cos(x) * DATA,))
    return f


def refused(error, f, *args, **options):
    with pytest.raises(error):
        f(*args, **options)


CHECKS = {
    "a wrong gradient": lambda: jc.check_grad(loss, X, lambda x: jnp.cos(x) + 1e-3 * DATA),
    "a right one": lambda: jc.check_grad(loss, X, lambda x: jnp.cos(x) + 0 * DATA),
    "autodiff": lambda: jc.check_grad(network, PARAMS),
    "jit": lambda: jc.check_grad(jax.jit(network), PARAMS, jax.jit(jax.grad(network))),
    "a loop": lambda: jc.check_grad(looped, 0.4, jax.grad(looped)),
    "args": lambda: jc.check_grad(lambda p, e: network(p) + 0 * jnp.sum(e), PARAMS, args=(DATA,)),
    "a right rule": lambda: jc.check_rule(rule(1.0), X),
    "a wrong rule": lambda: jc.check_rule(rule(1.01), X),
    "the drop-in": lambda: check_grads(rule(1.0), (X,), 2, modes=["rev"]),
    "the drop-in, wrong": lambda: refused(AssertionError, check_grads, rule(1.01), (X,), 1, modes=["rev"]),
    "a batch": lambda: jc.check_batch(network, [PARAMS, PARAMS], jax.grad(network)),
    "no tracing": lambda: jc.check_grad(lambda x: float(np.sum(np.sin(x) * DATA)), X, lambda x: np.cos(x) * DATA),
    "an error": lambda: refused(TypeError, jc.check_grad, lambda x: jnp.sum(x * DATA) + jnp.ones(3) @ X, X),
}


@pytest.mark.where
@pytest.mark.parametrize("name", CHECKS)
def test_jax_holds_none_of_the_data_after_a_check(name):
    gc.collect()
    gc.disable()
    try:
        for number in range(2):
            CHECKS[name]()
            DATA[0, 1] = number + 0.5
            assert float(jax.make_jaxpr(lambda x: x + DATA)(X).consts[0][0, 1]) == number + 0.5
    finally:
        gc.enable()


def test_a_second_check_sees_what_was_changed():
    error = np.zeros((6, 3))
    for factor in (0.0, 1e-3, 0.0):
        error[:] = factor
        report = jc.check_grad(lambda x: jnp.sum(jnp.sin(x)), X, lambda x: jnp.cos(x) + error)
        assert report.ok == (factor == 0.0), report
