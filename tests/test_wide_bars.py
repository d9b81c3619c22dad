"""Where differences are poor and nobody else speaks, what they cannot tell is no PASS; and what they can, is told."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.result import Reason, Verdict


def arctanh(factor):
    """The rule of arctanh, times `factor(x)`; JAX cannot differentiate its primal."""

    def by_numpy(x):
        with np.errstate(all="ignore"):
            return np.arctanh(x).astype(x.dtype)

    def primal(x):
        return jax.pure_callback(by_numpy, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")

    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda x: (primal(x), x), lambda x, g: (g * factor(x) / (1 - x * x),))
    return rule


# Of the first component the steps leave the domain, or nearly so: a bar of about its own size.
EDGE = np.array([0.9999999, 0.5])


@pytest.mark.parametrize("factor", [1.0, 0.9, 0.7])
def test_an_output_that_is_known_does_not_speak_for_another(factor):
    rule = arctanh(lambda x: jnp.where(jnp.abs(x) > 0.9, factor, 1.0))
    report = jc.check_rule(rule, EDGE, level="quick", where=False)
    assert report.verdict is Verdict.INCONCLUSIVE and report.reason is Reason.VACUOUS
    assert report.leaves[0].note.startswith("no error of the leaf would have been caught")


def test_a_floor_is_not_below_the_bar_of_differences_that_are_alone():
    report = jc.check_rule(arctanh(lambda x: 1.0), np.array([0.99999, 0.5]), level="quick", where=False)
    (leaf,) = report.leaves
    assert report.verdict is Verdict.PASS and leaf.error_bar > 1e-6
    assert min(leaf.floor, leaf.floor_component) >= leaf.difference + leaf.error_bar
