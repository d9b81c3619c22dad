"""The corpus of planted errors and of right-but-hard gradients, case by case: in one dtype of those that it names,
the others under the marker `slow`.

`python -m tests.planted.rates` prints detection, false-alarm and inconclusive rates over all of it.
"""

from __future__ import annotations

import zlib

import pytest

from tests.planted import CASES
from tests.planted.rates import expected, run


def runs():
    for case in CASES:
        chosen = zlib.crc32(case.id.encode()) % len(case.dtypes)
        for k, dtype in enumerate(case.dtypes):
            yield pytest.param(case, dtype, marks=[] if k == chosen else pytest.mark.slow, id=f"{case.id}-{dtype}")


@pytest.mark.parametrize(("case", "dtype"), runs())
def test_verdict_reason_and_leaves(case, dtype):
    report = run(case, dtype)
    wrong = expected(case, report)
    assert not wrong, f"{case.what}: {wrong}\n{report}"


def test_the_corpus_is_large_enough():
    assert sum(case.verdict == "FAIL" for case in CASES) >= 60
    assert sum(case.verdict == "PASS" for case in CASES) >= 60
    assert len({case.id for case in CASES}) == len(CASES)


def test_the_comparison_can_fail():
    """Meta-test: a right case held to a wrong case's expectation is reported, and the other way round."""
    import dataclasses

    right = next(case for case in CASES if case.verdict == "PASS")
    wrong = next(case for case in CASES if case.verdict == "FAIL")
    report = run(right, "float64")
    assert expected(dataclasses.replace(right, verdict="FAIL"), report)
    assert expected(dataclasses.replace(wrong, leaves=("nowhere",)), run(wrong, "float64"))
