"""Derivatives that JAX makes of functions it was handed: whoever wrote these is judged, and not the differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck.check import rule_rows
from jaxcheck.test_util import check_grads

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(4, 4)) + 4 * np.eye(4), RNG.normal(size=4)


def solved(transposed):
    def f(a, b):
        return lax.custom_linear_solve(
            lambda v: a @ v,
            b,
            lambda _, b: jnp.linalg.solve(a, b),
            lambda _, b: jnp.linalg.solve(a.T if transposed else a, b),
        )

    return f


def root(factor):
    def solve(f, y):
        return lax.fori_loop(0, 60, lambda _, y: y - f(y) / (2 * y), y)

    return lambda a: lax.custom_root(
        lambda y: y**2 - a, 1.3 * jnp.ones_like(a), solve, lambda g, y: factor * y / g(1.0)
    )


CASES = {"linear solve": (solved(True), solved(False), (A, B)), "root": (root(1.0), root(1.1), (2.0,))}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_one_is_blamed_itself(name):
    right, wrong, args = CASES[name]
    assert jc.check_rule(right, *args, level="quick")
    report = jc.check_rule(wrong, *args, level="quick")
    assert report.reason is jc.Reason.MANUAL_WRONG, report
    assert f"{'custom_root' if name == 'root' else 'custom_linear_solve'} (" in str(report).replace("\n", " ")
    assert "JAX's own derivative is under test" not in str(report)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("given", [False, True])
def test_beneath_a_loss(name, given):
    right, wrong, args = CASES[name]
    for f, reason in ((right, jc.Reason.AGREE), (wrong, jc.Reason.MANUAL_WRONG)):
        loss = lambda p, f=f: jnp.sum(jnp.sin(f(*p)))  # noqa: E731
        report = jc.check_grad(loss, args, jax.grad(loss) if given else None, where=False)
        assert report.reason in (reason, jc.Reason.CONVERGED if reason is jc.Reason.AGREE else reason), report


@pytest.mark.parametrize("name", CASES)
def test_in_the_drop_in(name):
    right, wrong, args = CASES[name]
    check_grads(right, args, order=1, modes=["rev"])
    with pytest.raises(jc.GradientMismatch) as told:
        check_grads(wrong, args, order=1, modes=["rev"])
    assert told.value.report.reason is jc.Reason.MANUAL_WRONG


def test_jaxs_own_solvers_are_jaxs():
    report = jc.check_rule(jnp.linalg.solve, A, B, level="quick")
    assert report and "JAX's own derivative is under test" in str(report).replace("\n", " ")


def test_what_is_raised_as_a_row_is_run_is_said_in_it(monkeypatch):
    """A solver that refuses one of our directions, in a callback: XLA hands on a traceback as text."""

    def refused(*args, **kwargs):
        raise jax.errors.JaxRuntimeError("INTERNAL: CpuCallback error\n  File x.py\nlib.SolverError: not finite")

    monkeypatch.setattr(rule_rows, "_findings", refused)
    report = jc.check_rule(jnp.sin, B, level="quick", where=False)
    said = [row for row in report.rows if "raised as it was run: lib.SolverError: not finite" in row.detail]
    assert report and said and all(row.status == "UNSUPPORTED" for row in said), report
