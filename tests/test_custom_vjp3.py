"""JAX's next implementation of custom rules (`jax_custom_vjp3`): rules are high-level primitives there."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads

X, C = jnp.array([[0.3, -1.2], [0.7, 2.0]]), jnp.float32(1.5)

pytestmark = pytest.mark.skipif(not hasattr(jax.config, "jax_custom_vjp3"), reason="this JAX has no custom_vjp3")


@pytest.fixture(autouse=True)
def _next():
    jax.config.update("jax_custom_vjp3", True)
    yield
    jax.config.update("jax_custom_vjp3", False)


def scaled(factor: float):
    @jax.custom_vjp
    def mul(x, c):
        return jnp.sin(x) * c

    mul.defvjp(
        lambda x, c: (mul(x, c), (x, c)),
        lambda kept, g: (g * jnp.cos(kept[0]) * kept[1], factor * (jnp.sin(kept[0]) * g).sum()),
    )
    return mul


def scanned(factor: float):
    mul = scaled(factor)
    return jax.vmap(lambda x, c: jax.lax.scan(lambda x, _: (mul(x, c), None), x, None, length=3)[0], (0, None))


@pytest.mark.slow
@pytest.mark.parametrize("make", [scaled, scanned])
def test_a_rule_is_judged(make):
    report = jc.check_rule(make(1.0), X, C)
    assert report, report
    assert {row.status for row in report.rows} <= {"OK", "UNSUPPORTED"} and report.rows[0].status == "UNSUPPORTED"
    report = jc.check_rule(make(1.01), X, C, where=False, level="quick")
    assert [leaf.path for leaf in report.failed] == ["c"]


def test_a_loss_and_the_drop_in():
    for factor in 1.0, 1.01:
        mul = scaled(factor)
        report = jc.check_grad(lambda p, mul=mul: jnp.sum(mul(p["x"], p["c"]) ** 2), {"x": X, "c": C}, where=False)
        assert bool(report) is (factor == 1.0)
    check_grads(scaled(1.0), (X, C), 2, modes=["rev"])
    with pytest.raises(jc.GradientMismatch, match="`c`"):
        check_grads(scaled(1.01), (X, C), 1, modes=["rev"])


def test_what_jax_refuses_by_itself_is_said_in_its_words():
    def f(z):
        def row(x):
            g = jax.custom_vjp(lambda y: x * y)
            g.defvjp(lambda y: (x * y, x), lambda x, ct: (x * ct,))
            return g(z)

        return jax.vmap(row)(np.arange(3.0, dtype=np.float32)).sum()

    with pytest.raises(jax.errors.UnexpectedTracerError, match="BatchTracer"):
        check_grads(f, (jnp.float32(3.0),), 1, modes=["rev"])
