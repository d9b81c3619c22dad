"""Functions made by checkify: its errors are results beside the caller's, numbered anew in each trace; and where a rule
is inside, its derivative lacks them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import jaxcheck as jc
from jaxcheck.result import Reason, Verdict
from jaxcheck.test_util import check_grads

X = np.array([0.5, 1.0, 2.0, 3.0], np.float32)


@jax.custom_vjp
def backward(x):
    return jnp.log(x)


backward.defvjp(lambda x: (jnp.log(x), x), lambda x, g: (g / x,))


@jax.custom_vjp
def off(x):
    return jnp.log(x)


off.defvjp(lambda x: (jnp.log(x), x), lambda x, g: (1.01 * g / x,))


@jax.custom_jvp
def forward(x):
    return jnp.log(x)


forward.defjvps(lambda t, out, x: t / x)


def checked(f):
    return lambda x: checkify.checkify(f, errors=checkify.float_checks)(x)[1]


# In the last, what went wrong before is handed to a rule of JAX's own.
@pytest.mark.parametrize("f", [jnp.log, backward, forward, lambda x: jax.nn.relu(x - 0.7)])
def test_the_numbers_of_the_errors_are_no_randomness(f):
    report = jc.check_grad(lambda x: jnp.sum(checked(f)(x)), X)
    assert report.verdict is Verdict.PASS, report
    check_grads(checked(f), (X,), 1, "rev")


@pytest.mark.slow
def test_a_rule_inside_is_judged():
    assert jc.check_rule(checked(backward), X, level="quick").ok
    report = jc.check_grad(lambda x: jnp.sum(checked(off)(x)), X, where=False)
    assert report.reason is Reason.MANUAL_WRONG, report
    with pytest.raises(jc.GradientMismatch):
        check_grads(checked(off), (X,), 1, "rev")


def test_what_counts_its_calls_is_told_where_it_matters():
    """A number of the call in the result, in the derivative alone, and in neither."""
    calls = [0]

    @jax.custom_vjp
    def scaled(x, by):
        return jnp.log(x)

    scaled.defvjp(lambda x, by: (jnp.log(x), (x, by)), lambda kept, g: (g / kept[0] * kept[1], None))

    def made(use):
        def loss(x):
            calls[0] += 1
            return jnp.sum(use(x, jnp.int32(calls[0])))

        return jc.check_grad(loss, X).reason

    assert made(lambda x, n: jnp.log(x) * n) is Reason.NONDETERMINISTIC
    assert made(scaled) is Reason.NONDETERMINISTIC
    assert made(lambda x, n: (jnp.log(x), jnp.log(x) * n)[0]) is Reason.AGREE
