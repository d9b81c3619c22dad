"""The value that comes with a derivative is held to the function's own, as jax.test_util does, by measure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads, check_jvp, check_vjp

X = np.linspace(0.1, 1, 5).astype(np.float32)


def by_vjp(factor):
    return lambda x: (factor * jnp.sin(x), lambda ct: (ct * jnp.cos(x),))


def by_jvp(factor):
    return lambda x, t: (factor * jnp.sin(x[0]), jnp.cos(x[0]) * t[0])


def ruled(factor):
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (factor * jnp.sin(x), x), lambda x, ct: (ct * jnp.cos(x),))
    return f


@pytest.mark.parametrize("factor", [1.5, 1.001, float("nan")])
def test_another_value_is_a_mistake(factor):
    for call in (
        lambda: check_vjp(jnp.sin, by_vjp(factor), (X,)),
        lambda: check_jvp(jnp.sin, by_jvp(factor), (X,)),
        lambda: check_grads(ruled(factor), (X,), 1, ["rev"]),
    ):
        with pytest.raises(jc.GradientMismatch, match="forward pass"):
            call()


def test_the_same_value_by_another_formula_is_none():
    def f(x):
        return jnp.sum((x - x.mean()) ** 2)

    def other(x):
        return jnp.sum(x**2) - x.size * x.mean() ** 2, lambda ct: (ct * 2 * (x - x.mean()),)

    check_vjp(f, other, (X + 10,))
    check_grads(ruled(1.0), (X,), 1, ["rev"])


def test_integers_beside_the_results_and_a_bound_of_the_callers():
    check_vjp(
        lambda x: (jnp.sin(x), jnp.arange(3)),
        lambda x: ((jnp.sin(x), jnp.arange(3)), lambda ct: (ct[0] * jnp.cos(x),)),
        (X,),
    )
    check_vjp(jnp.sin, by_vjp(1.001), (X,), rtol=1e-2)
