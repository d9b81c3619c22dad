"""The first hint is the kind of mistake that was planted, for every kind, in every leaf of some nets."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.where import hints


@pytest.fixture(scope="module")
def table():
    return list(hints.table(["embedding", "conv", "attention", "film"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", hints.KINDS)
def test_the_first_hint_is_right(table, name):
    planted = [(net, path, wanted, got) for kind, net, path, wanted, got in table if kind == name]
    wrong = [row for row in planted if hints.outcome(*row[2:]) != "right"]
    assert planted
    assert not wrong


@pytest.mark.slow
def test_the_first_hint_is_right_in_all_nets():
    counted = Counter(hints.outcome(*row[3:]) for row in hints.table(hints.nets()))
    assert counted["right"] >= 0.9 * counted.total()
    assert counted["wrong"] <= 0.02 * counted.total()
