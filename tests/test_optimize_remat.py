"""Rules with `optimize_remat`: eagerly their forward pass runs, compiled JAX may put the function itself there."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program.custom.strip import count_rules, strip
from jaxcheck.test_util import check_grads

X = np.linspace(0.3, 1.7, 4).astype(np.float32)


def sine(factor=1.0, optimize=True):
    f = jax.custom_vjp(lambda x: jnp.sin(x))
    f.defvjp(lambda x: (factor * jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),), optimize_remat=optimize)
    return f


def test_a_right_loss():
    def loss(x):
        return (sine()(x) ** 2).sum()

    assert jc.check_grad(loss, X).verdict is jc.Verdict.PASS
    assert jc.check_batch(loss, np.stack([X, X + 1])).verdict is jc.Verdict.PASS


def test_another_value_forward():
    report = jc.check_rule(sine(1.5), X, where=False, transforms=False)
    assert report.reason is jc.Reason.LAW_BROKEN
    assert [r.name for r in report.rows if r.status == "WRONG"] == ["primal"]
    with pytest.raises(jc.GradientMismatch, match="forward pass"):
        check_grads(sine(1.5), (X,), 1, ["rev"])


def test_what_is_in_the_forward_pass_is_found():
    inner, outer = sine(optimize=False), jax.custom_vjp(lambda x: jnp.sin(x))
    outer.defvjp(lambda x: (inner(x), x), lambda x, g: (g * jnp.cos(x),), optimize_remat=True)
    closed = jax.make_jaxpr(lambda x: jax.vjp(outer, x)[0])(X)
    assert count_rules(closed) == 1 and count_rules(strip(closed)) == 0
    assert "remat_opt" not in str(strip(closed))


@pytest.mark.parametrize(("dtype", "factor"), [(jnp.bfloat16, 1.3), (np.float32, 1 + 2e-6)])
def test_a_value_within_many_ulps_is_looked_at_in_float64(dtype, factor):
    report = jc.check_rule(sine(factor, optimize=False), X.astype(dtype), where=False, transforms=False)
    assert [r.name for r in report.rows if r.status == "WRONG"] == ["primal"]
