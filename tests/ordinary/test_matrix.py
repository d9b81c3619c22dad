"""A sample of the ordinary matrix, by a fixed seed; `python -m tests.ordinary.matrix` runs all of it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ordinary import matrix

SEED, SAMPLE = 3, {"check_grad": 48, "check_grads": 20, "check_rule": 12, "check_batch": 12}


def sample(door):
    cells = matrix.cells(door)
    chosen = np.random.default_rng(SEED).permutation(len(cells))[: SAMPLE[door]]
    return [cells[i] for i in chosen]


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
