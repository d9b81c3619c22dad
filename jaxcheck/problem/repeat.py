"""Whether a second run gives the same, and if not, which of the two runs the numbers differ in.

Two runs of one program need not be equal to the bit: the sums of a large product are shared out among threads, and
whichever is ready first is added first. That moves them by rounding, which the bars know; a random mask moves them by
as much as they are.
"""

from __future__ import annotations

import numpy as np

from jaxcheck.bars import HALF_PRECISION, ROUNDED_ONCE, UNITS

LOSS = "Two evaluations of the function at the same point differ."
GRADIENT = "Two evaluations of the gradient under test at the same point differ; those of the function do not."
TRACED = "Traced twice, {} became two different programs: it draws numbers of its own, or counts its calls."


def differ(first: np.ndarray, second: np.ndarray, unit: float) -> bool:
    """Whether two runs differ by more than another order of their sums explains.

    Args:
        first, second: (..., n) the same n numbers twice; NaN and infinities must be the same.
        unit: relative rounding unit of the precision in which they were computed.
    """
    if np.array_equal(first, second, equal_nan=True):
        return False
    finite = np.isfinite(first) & np.isfinite(second)
    if not np.array_equal(np.where(finite, 0, first), np.where(finite, 0, second), equal_nan=True):
        return True
    first, second = np.where(finite, first, 0), np.where(finite, second, 0)
    # Of the largest, for what cancels is known no better than what it is made of.
    largest = np.maximum(np.abs(first), np.abs(second)).max(axis=-1, initial=0.0)
    return bool((np.abs(first - second).max(axis=-1, initial=0.0) > units_of(unit) * unit * largest).any())


def units_of(unit: float) -> float:
    """How many rounding units of the largest number another order of sums may move any."""
    return UNITS if unit < HALF_PRECISION else ROUNDED_ONCE


def wandering(samples: np.ndarray, unit: float) -> bool:
    """Whether one point gave several values; samples: (rows, G), the same point in every row."""
    with np.errstate(invalid="ignore"):
        return bool((np.ptp(samples, axis=0) > UNITS * unit * np.abs(samples).max(axis=0)).any())
