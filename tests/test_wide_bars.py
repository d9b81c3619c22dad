"""Where differences are poor and nobody else speaks, what they cannot tell is no PASS; and what they can, is told."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.result import Reason, Verdict
from jaxcheck.test_util import check_grads


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
# And here the finer ones do, too; and here there are but some fifty floats to the edge.
NEARER = np.array([1 - 1e-10, 0.5])
NEAREST = np.array([1 - 5e-15, 0.5])


@pytest.mark.parametrize("factor", [1.0, 0.9, 0.7])
def test_an_output_that_is_known_does_not_speak_for_another(factor):
    rule = arctanh(lambda x: jnp.where(jnp.abs(x) > 0.9, factor, 1.0))
    with jax.enable_x64(True):
        report = jc.check_rule(rule, NEAREST, level="quick", where=False)
    assert report.verdict is Verdict.INCONCLUSIVE and report.reason is Reason.VACUOUS
    assert not report.leaves[0].floor < 0.9  # NaN where none would have been caught


@pytest.mark.parametrize("factor", [1.0, 0.9])
def test_finer_steps_have_room_on_both_sides_of_a_point_near_the_edge(factor):
    rule = arctanh(lambda x: jnp.where(jnp.abs(x) > 0.9, factor, 1.0))
    report = jc.check_rule(rule, EDGE, level="quick", where=False)
    assert report.verdict is (Verdict.PASS if factor == 1.0 else Verdict.FAIL), str(report)


def test_a_floor_is_not_below_the_bar_of_differences_that_are_alone():
    report = jc.check_rule(arctanh(lambda x: 1.0), EDGE, level="quick", where=False)
    (leaf,) = report.leaves
    assert report.verdict is Verdict.PASS and leaf.error_bar > 1e-7
    assert min(leaf.floor, leaf.floor_component) >= leaf.difference + leaf.error_bar


def told(rule, x, **how):
    """What the drop-in does: "silent", or the name of what it warns with or raises."""
    with warnings.catch_warnings(), jax.enable_x64(True):
        warnings.simplefilter("error", jc.GradientCheckWarning)
        try:
            check_grads(rule, (x,), 1, **how)
        except (AssertionError, jc.GradientCheckWarning) as said:
            return type(said).__name__
    return "silent"


FOUR = np.array([1 - 1e-9, 1e-10 - 1, 1e-8, 0.5])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "x", "said"),
    [
        (lambda x: 0.7, FOUR, "GradientMismatch"),
        (lambda x: jnp.where(jnp.abs(x) < 0.9, 0.5, 1.0), FOUR, "GradientMismatch"),
        (lambda x: jnp.where(jnp.abs(x) > 0.9, 0.9, 1.0), NEAREST, "GradientCheckWarning"),
        (lambda x: 0.9, NEAREST[:1], "GradientInconclusive"),
        (lambda x: 1.0, NEAREST[1:], "silent"),
        (lambda x: 1.0, np.array([0.9999, 0.5]), "silent"),
    ],
    ids=[
        "wrong everywhere",
        "wrong where it is known",
        "wrong where it is not",
        "nothing known",
        "right",
        "narrow bar",
    ],
)
def test_the_drop_in_says_what_it_could_not_judge(factor, x, said):
    assert told(arctanh(factor), x, modes=["rev"]) == said


def stopped(x):
    """Half of its derivative is hidden from JAX at the edge alone."""
    hidden = 0.5 * (jnp.arctanh(x) + jax.lax.stop_gradient(jnp.arctanh(x)))
    return jnp.where(jnp.abs(x) > 0.9, hidden, jnp.arctanh(x))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fwd", "rev", "lin"])
def test_nor_does_jax_vouch_for_itself(mode):
    """Where the differences are too coarse, the function with nothing held back says what they would."""
    assert told(stopped, NEARER, modes=[mode]) == "GradientMismatch"
    assert told(stopped, NEARER[:1], modes=[mode]) in ("GradientMismatch", "GradientInconclusive")
    assert told(stopped, NEARER[1:], modes=[mode]) == "silent"
