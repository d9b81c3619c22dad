"""Rules that treat some cotangents as nothing linear does, in the drop-in: it looks at unusual ones, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads

X = jnp.asarray(np.random.default_rng(0).normal(size=5), jnp.float32)


def rule_that(changes):
    @jax.custom_vjp
    def f(x):
        return x * jnp.sin(x)

    f.defvjp(lambda x: (f(x), x), lambda x, ct: (changes(ct) * (jnp.sin(x) + x * jnp.cos(x)),))
    return f


WRONG = {
    "clipped": lambda ct: jnp.clip(ct, -100, 100),
    "small ones lost": lambda ct: jnp.where(jnp.abs(ct) < 1e-8, 0, ct),
    "all positive": lambda ct: jnp.where((ct > 0).all(), 1.1, 1.0) * ct,
    "all negative": lambda ct: jnp.where((ct < 0).all(), 1.1, 1.0) * ct,
    "all alike": lambda ct: jnp.where((ct == ct[0]).all() & (ct[0] != 0), 1.1, 1.0) * ct,
    "all zero": lambda ct: jnp.where((ct == 0).all(), 1.0, ct),
    "one alone": lambda ct: jnp.where((ct != 0).sum() == 1, 1.1, 1.0) * ct,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_rule_that_is_not_linear(name):
    with pytest.raises(jc.GradientMismatch):
        check_grads(rule_that(WRONG[name]), (X,), 1, ["rev"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_right_rule(dtype):
    for order in (1, 2):
        check_grads(rule_that(lambda ct: ct), (X.astype(dtype),), order, ["rev"])
    check_grads(rule_that(lambda ct: ct), (100 * X[:1].astype(dtype),), 1, ["rev"])
