"""Two hundred generated programs of fixed seed, each with its right gradient or with a wrong one, through every door;
every other of them under the marker `slow`.

`python -m tests.generated.rates` runs as many as asked for and prints the rates.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.generated import rates
from tests.generated.doors import DOORS, errors
from tests.generated.plant import KINDS, Plant, plant
from tests.generated.programs import ALIKE, program

FIRST, COUNT = 0, 200
FAST = range(FIRST, FIRST + COUNT, 2 * ALIKE)
# What a verdict may not be, whatever the program.
NEVER = ("RIGHT FAIL", "WRONG passed", "CRASH", "BLAME")


@pytest.mark.parametrize(
    "first", [pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in range(FIRST, FIRST + COUNT, ALIKE)]
)
def test_no_right_gradient_is_accused_and_no_wrong_one_passes_above_its_floor(first):
    said = []
    for number in range(first, first + ALIKE):
        outcome = rates.run(number, only=("right", "wrong")[number % 2])
        said += [line for line in outcome.lines if line.startswith(NEVER)]
    assert not said, "\n".join(said)


def test_a_number_is_a_program():
    one, two = program(4), program.__wrapped__(4)
    assert one.name == two.name and one.dtype == two.dtype
    assert all(np.array_equal(one.leaves[k], two.leaves[k]) for k in one.leaves)
    assert plant(one, one.outputs).kind == plant(two, two.outputs).kind


@pytest.mark.slow
def test_the_programs_are_of_every_kind():
    assert {rates.door_of(n) for n in FAST} == set(DOORS)
    several = [program(n) for n in FAST]
    assert {p.dtype for p in several} == {"float32", "float64"}
    assert any(p.outputs > 1 for p in several) and any(p.structure.mixed for p in several)
    assert len({plant(p, 2).kind for p in several} & set(KINDS)) >= 4


def test_an_error_is_as_large_as_it_says():
    one = program(0)
    name = max(one.leaves, key=lambda k: one.leaves[k].size)
    found = errors(one, Plant("factor", name, f=1e-3), "grad")[name]
    assert found[0] == pytest.approx(1e-3) and found[1] < found[0]
    assert errors(one, Plant("zeroed", name, f=-1.0), "drop-in")[name][0] == pytest.approx(1.0)


@pytest.mark.parametrize("door", ["grad", "hidden"])
def test_the_comparison_can_fail(monkeypatch, door):
    """Held to the other gradient, both verdicts are reported; and so is what passes a report without floors."""
    planted = Plant("factor", "p0", f=0.1)
    monkeypatch.setattr(rates, "plant", lambda one, outputs: planted)
    real = DOORS[door]
    monkeypatch.setitem(DOORS, door, lambda one, wrong: real(one, None if wrong else planted))
    lines = rates.run(0, door).lines
    assert [line[:10] for line in lines] == ["RIGHT FAIL", "WRONG pass"]

    def nowhere(one, wrong):
        report = real(one, wrong)
        moved = [dataclasses.replace(leaf, path="elsewhere") for leaf in report.leaves]
        return dataclasses.replace(report, leaves=tuple(moved))

    monkeypatch.setitem(DOORS, door, nowhere)
    assert any(line.startswith("BLAME") for line in rates.run(0, door).lines)

    def broken(one, wrong):
        raise ZeroDivisionError

    monkeypatch.setitem(DOORS, door, broken)
    assert [line[:5] for line in rates.run(0, door).lines] == ["CRASH", "CRASH"]
