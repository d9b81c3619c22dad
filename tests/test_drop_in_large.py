"""A wrong rule of many inputs, leaf by leaf: autodiff without the rule speaks there, too, and nobody need look long."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.evidence import differences
from jaxcheck.test_util import check_grads

MANY = 1200


def normed(x):
    return x / jnp.sqrt(jnp.sum(jnp.abs(x) ** 2) / x.size + 1e-5)


def without_projection(x, g):
    return (g / jnp.sqrt(jnp.sum(jnp.abs(x) ** 2) / x.size + 1e-5),)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_autodiff_speaks_leaf_by_leaf(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=MANY) + (1j * rng.normal(size=MANY) if dtype == "complex128" else 0.0)
    rule = jax.custom_vjp(normed)
    rule.defvjp(lambda x: (normed(x), x), without_projection)
    with jax.enable_x64(True), pytest.raises(jc.GradientMismatch) as caught:
        check_grads(rule, (x,), 1, modes=["rev"])
    report = caught.value.report
    (leaf,) = report.leaves
    assert report.reason is jc.Reason.MANUAL_WRONG
    for one in leaf.worst:
        known = [(getattr(one.autodiff, part), getattr(one.numeric, part)) for part in ("real", "imag")]
        assert all(a == pytest.approx(n, abs=1e-6) for a, n in known if np.isfinite(n))
    assert leaf.difference_autodiff > 1e-3


def a_loop(x):
    """Of a loop without a fixed count there is a tangent, and no transpose."""
    return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x))[1]


def test_where_it_cannot_the_differences_do():
    rule = jax.custom_vjp(a_loop)
    rule.defvjp(lambda x: (a_loop(x), x), lambda x, g: (1.1 * g,))
    with pytest.raises(jc.GradientMismatch) as caught:
        check_grads(rule, (np.random.default_rng(0).normal(size=MANY),), 1, modes=["rev"])
    assert len(caught.value.report.leaves) == 1


def test_slopes_in_blocks_are_the_same(monkeypatch):
    ladder, rng = differences.Ladder(), np.random.default_rng(0)
    t = ladder.offsets[:, None, None]
    samples = np.sin(t * rng.normal(size=(3, 50)) + 1) + np.abs(t) * (np.arange(50) % 7 == 0)
    noise = 1e-15 * rng.uniform(1, 2, size=50)
    whole = differences.slopes(samples, ladder, noise=noise)
    monkeypatch.setattr(differences, "AT_ONCE", samples.size // 7)
    for name, parts in vars(differences.slopes(samples, ladder, noise=noise)).items():
        np.testing.assert_array_equal(parts, getattr(whole, name), err_msg=name)
