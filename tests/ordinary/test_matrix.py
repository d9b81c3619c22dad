"""A sample of the ordinary matrix, by a fixed seed; `python -m tests.ordinary.matrix` runs all of it.

Every choice is in it, and every pair of two of `check_grad` and `check_grads`.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.ordinary import matrix

SEED, TOGETHER = 3, {"check_grad": 2, "check_grads": 2, "check_rule": 1, "check_batch": 1}


def choices(cell, together):
    """Which choices, so many at a time, a cell is of."""
    return set(itertools.combinations(enumerate(cell[:-1]), together))


def sample(door):
    """Cells with every choice in them, those first that bring most."""
    cells = [matrix.cells(door)[i] for i in np.random.default_rng(SEED).permutation(len(matrix.cells(door)))]
    missing = set().union(*(choices(c, TOGETHER[door]) for c in cells))
    chosen = []
    while missing:
        chosen.append(max(cells, key=lambda c: len(choices(c, TOGETHER[door]) & missing)))
        missing -= choices(chosen[-1], TOGETHER[door])
    return chosen


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
@pytest.mark.parametrize("cell", [c for d in matrix.DOORS for c in sample(d)], ids=lambda c: "-".join(map(str, c)))
def test_a_right_gradient_passes_and_one_off_by_a_thousandth_fails(cell):
    assert matrix.wrong(cell) == ""


@pytest.mark.slow
@pytest.mark.parametrize("door", matrix.DOORS)
def test_the_whole_matrix(door):
    assert {c: said for c in matrix.cells(door) if (said := matrix.wrong(c))} == {}


def test_the_matrix_can_fail():
    # A gradient that is 1e-6 off is none of its right ones.
    assert matrix.check(matrix.cells()[0], 1 + 1e-6).difference > 1e-9
