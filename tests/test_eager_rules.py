"""Rules that run on numbers alone: JAX differentiates eagerly through them, and cannot trace them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads

X = jnp.array([0.1, 0.2, 0.7], jnp.float32)


def in_numpy(x, g, factor):
    return jnp.asarray(np.asarray(g) * np.cos(np.asarray(x)) * factor, x.dtype)


def by_value(x, g, factor):
    return g * jnp.cos(x) * factor if float(x.sum()) > 0 else g


def by_cotangent(x, g, factor):
    return jnp.zeros_like(x) if bool((g == 0).all()) else g * jnp.cos(x) * factor


def rule(bwd, factor):
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (bwd(x, g, factor),))
    return f


@pytest.mark.slow
@pytest.mark.parametrize("bwd", [in_numpy, by_value, by_cotangent])
def test_they_are_judged_at_every_door(bwd):
    right, wrong = rule(bwd, 1.0), rule(bwd, 1.01)
    report = jc.check_rule(right, X, level="quick")
    assert report and any("cannot be traced" in note for note in report.notes), report
    report = jc.check_rule(wrong, X, level="quick")
    assert report.reason is jc.Reason.MANUAL_WRONG and "1.01" in report.leaves[0].hint
    for f in right, wrong:
        report = jc.check_grad(lambda w, f=f: jnp.sum(f(w) ** 2), X, where=False)
        assert bool(report) is (f is right), report
    check_grads(right, (X,), 1, modes=["rev"])
    with pytest.raises(jc.GradientMismatch, match=r"1\.01"):
        check_grads(wrong, (X,), 1, modes=["rev"])


def test_what_has_no_forward_mode_still_says_so():
    with pytest.raises(TypeError, match="forward-mode"):
        check_grads(rule(in_numpy, 1.0), (X,), 1, modes=["fwd"])


def test_a_loss_that_cannot_be_traced_is_no_eager_rule():
    with pytest.raises(jax.errors.TracerArrayConversionError):
        check_grads(lambda x: jnp.sin(np.asarray(x)), (X,), 1, modes=["rev"])
