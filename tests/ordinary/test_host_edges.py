"""NumPy losses near the edge of their domain, where no step is as small as the distance to it: what differences on the
one side there is cannot tell accuses nobody, and lets nobody pass."""

from __future__ import annotations

import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.result import Reason, Verdict

UNSURE = (Verdict.INCONCLUSIVE, Reason.DOMAIN)


def entropy(w):
    with np.errstate(all="ignore"):
        return -np.sum(w * np.log(w))


def entropy_slope(w, least=0.0):
    return -np.log(np.maximum(w, least)) - 1


def arccos(w):
    with np.errstate(all="ignore"):
        return np.sum(np.arccos(w))


def arccos_slope(w):
    return -1 / np.sqrt((1 - w) * (1 + w))


def roots(w):
    with np.errstate(all="ignore"):
        return np.sum(np.sqrt(w))


def roots_slope(w):
    return 0.5 / np.sqrt(w)


def offset(w):
    return 1e12 + roots(w)


def by_a_trace(w):
    """Of the singular term so little that no step shows it, and at the point as much as of the others."""
    return np.sum(w) + 1e-14 * roots(w)


def by_a_trace_slope(w):
    return 1 + 1e-14 * roots_slope(w)


def check(loss, w, grad, **how):
    report = jc.check_grad(loss, w, grad, where=False, **how)
    return report.verdict, report.reason


RIGHT = {
    "entropy 1e-14": (entropy, entropy_slope, 1e-14),
    "entropy 1e-20": (entropy, entropy_slope, 1e-20),
    "entropy 1e-300": (entropy, entropy_slope, 1e-300),
    "arccos 1e-15": (arccos, arccos_slope, 1 - 1e-15),
    "by a trace next to 1": (
        lambda w: np.sum(w) + 1e-10 * roots(1 - w),
        lambda w: 1 - 1e-10 * roots_slope(1 - w),
        1 - 1e-15,
    ),
    "sqrt 1e-30": (roots, roots_slope, 1e-30),
    "sqrt beside a large value": (offset, roots_slope, 1e-20),
    "sqrt by a trace": (by_a_trace, by_a_trace_slope, 1e-28),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_is_not_accused(name):
    loss, grad, edge = RIGHT[name]
    assert check(loss, np.array([edge, 0.5, 0.4]), grad) == UNSURE


@pytest.mark.parametrize("name", ["entropy 1e-20", "arccos 1e-15", "sqrt 1e-30"])
def test_nor_along_random_directions_nor_among_many_points(name):
    loss, grad, edge = RIGHT[name]
    w = np.array([edge, 0.5, 0.4])
    assert check(loss, w, grad, mode="sketch")[0] is Verdict.INCONCLUSIVE
    batch = jc.check_batch(loss, np.stack([w, w[[1, 0, 2]]]), grad)
    assert batch.verdict is Verdict.INCONCLUSIVE, str(batch)


@pytest.mark.parametrize("edge", [1e-17, 1e-20, 1e-300])
@pytest.mark.parametrize("size", [3, 50])
def test_a_wrong_one_does_not_pass(edge, size):
    """The backward pass clamps what the loss does not: off by 2e-3 to 6e-2 of the leaf, where 3e-4 was printed."""
    cost = np.r_[0.0, np.linspace(1, 2, size - 1)] * 1e3
    w = np.r_[edge, np.linspace(0.3, 0.6, size - 1)]
    assert check(lambda w: entropy(w) + cost @ w, w, lambda w: entropy_slope(w, 1e-8) + cost) == UNSURE


def test_a_trace_that_no_step_shows_does_not_pass_either():
    assert check(by_a_trace, np.array([1e-28, 0.5, 0.4]), np.ones_like) == UNSURE


@pytest.mark.parametrize("edge", [1 - 1e-6, 1 - 1e-9, 1 - 1e-11])
def test_where_finer_steps_have_room_they_tell(edge):
    w = np.array([edge, 0.5, 0.4])
    assert check(arccos, w, arccos_slope) == (Verdict.PASS, Reason.AGREE)
    assert check(arccos, w, lambda w: arccos_slope(w) * np.where(w > 0.9, 1.01, 1.0))[0] is Verdict.FAIL


@pytest.mark.parametrize("edge", [1e-12, 1e-10])
def test_and_so_do_steps_in_proportion(edge):
    w = np.array([edge, 0.5, 0.4])
    wrong = lambda w: entropy_slope(w) * np.where(w < 0.1, 1.1, 1.0)  # noqa: E731
    assert check(entropy, w, entropy_slope)[0] is not Verdict.FAIL
    assert check(entropy, w, wrong)[0] is Verdict.FAIL


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_on_an_edge_where_the_differences_settle_they_tell(factor):
    def loss(w):
        return float(np.sum(np.exp(3 * w))) if (w >= 0).all() else float("nan")

    found = check(loss, np.array([0.0, 0.5, 0.7]), lambda w: 3 * np.exp(3 * w) * np.array([factor, 1.0, 1.0]))
    assert found[0] is (Verdict.PASS if factor == 1.0 else Verdict.FAIL)
