"""Functions of Python's that raise outside of their domain."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.problem.guarded import Guarded


def assertion(p):
    if (p < 0).any():
        raise ValueError("negative\nand more")
    return float(np.sum(p**1.5))


def simplex(p):
    if p.sum() > 1 or (p < 0).any():
        raise ValueError("not on the simplex")
    return float(np.sum(p * np.log(p)))


def strict(p):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return float(np.sum(np.log(p)))


def cholesky(a):
    return 2 * float(np.log(np.diag(np.linalg.cholesky(a))).sum())


# Loss, gradient, point, what is said of it.
NEAR = {
    "assertion": (assertion, lambda p: 1.5 * np.sqrt(p), np.array([1e-4, 1.0, 4.0]), "ValueError: negative"),
    "math.log": (lambda p: sum(math.log(x) for x in p), lambda p: 1 / p, np.array([1e-4, 1.0]), "ValueError: "),
    "simplex": (simplex, lambda p: np.log(p) + 1, np.array([0.2, 0.3, 0.49999]), "not on the simplex"),
    "warnings": (strict, lambda p: 1 / p, np.array([1e-4, 1.0]), "RuntimeWarning: "),
    "Cholesky": (cholesky, lambda a: np.diag(1 / np.diag(a)), np.diag([1.0, 2.0, 1e-4]), "LinAlgError: "),
    "gradient too": (assertion, lambda p: 1.5 * assertion(p) / assertion(p) * np.sqrt(p), np.array([1e-4, 1.0]),
                     "ValueError: negative"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NEAR)
@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_loss_that_raises_beside_the_point(kind, factor):
    loss, grad, point, said = NEAR[kind]
    report = jc.check_grad(loss, point, lambda p: factor * grad(p))
    assert report.verdict is (jc.Verdict.PASS if factor == 1 else jc.Verdict.FAIL), str(report)
    assert "beside the one that was checked" in report.notes[0] and said in report.notes[0]
    assert "and more" not in str(report)


def test_one_that_raises_everywhere_else():
    at = np.array([1.0, 2.0])
    report = jc.check_grad(lambda p: float(p.sum()) if (p == at).all() else 1 / 0, at, np.ones_like)
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.DOMAIN)
    assert "ZeroDivisionError: division by zero" in report.notes[0]


def test_what_is_raised_at_the_point_goes_through():
    with pytest.raises(ValueError, match="negative"):
        jc.check_grad(assertion, np.array([-1.0, 1.0]), np.ones_like)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("none left")])
def test_what_is_no_answer_goes_through(error):
    def run(vector):
        raise error

    with pytest.raises(type(error)):
        Guarded(run, np.zeros(1))(np.ones(1))
