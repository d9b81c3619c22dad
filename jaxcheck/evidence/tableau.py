"""Richardson's tableau of difference quotients, and which of its entries to believe."""

from __future__ import annotations

import numpy as np


def tableau(first: np.ndarray, noise: np.ndarray, steps: np.ndarray, order: int, power: int):
    """Richardson extrapolation of difference quotients, choosing the entry of least total error.

    Args:
        first: (K, ...) quotients, largest step first; NaN where a sample is missing.
        noise: (...) absolute error of one function value.
        steps: (K,).
        order: leading power of h in the truncation error (2 centred, 1 one-sided).
        power: increment between successive powers (2 centred, 1 one-sided).

    Returns:
        (value, error), each (...). Truncation is the largest change from the three neighbours in the
        tableau (Ridders takes two; the third guards against an accidental agreement); round-off is
        carried through the same weights. A tableau's claim without round-off can be 0 and wrong.
    """
    ratio = steps[0] / steps[1]
    column = first
    rounding = noise[None] / steps.reshape((-1,) + (1,) * (first.ndim - 1))
    # What every finer quotient allows: its own change from the rung above, plus round-off.
    slack = np.abs(np.diff(first, axis=0)) + 3 * rounding[1:]
    change = np.abs(column[1:] - column[:-1])
    best = np.full(first.shape[1:], np.nan)
    best_error = np.full(first.shape[1:], np.inf)
    best, best_error = _keep(best, best_error, column[1:], change + rounding[1:], first, slack)
    exponent = order
    for _ in range(1, min(6, len(steps))):
        weight = ratio**exponent
        finer, coarser = column[1:], column[:-1]
        new = finer + (finer - coarser) / (weight - 1)
        new_rounding = (weight * rounding[1:] + rounding[:-1]) / (weight - 1)
        truncation = np.maximum(np.abs(new - finer), np.abs(new - coarser))[1:]
        truncation = np.maximum(truncation, np.abs(new[1:] - new[:-1]))
        best, best_error = _keep(best, best_error, new[1:], truncation + new_rounding[1:], first, slack)
        column, rounding, exponent = new, new_rounding, exponent + power
        if len(column) < 3:
            break
    return best, best_error


def drift(first: np.ndarray, noise: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(...) By how much one-sided quotients may change from rung to rung all the way down, for all that they show: of
    what extrapolation leaves of their changes, the least that two in turn do not exceed; one may vanish by chance."""
    ratio = steps[0] / steps[1]
    column, rounding = first, noise[None] / steps.reshape((-1,) + (1,) * (first.ndim - 1))
    least = np.full(first.shape[1:], np.inf)
    for exponent in range(1, min(6, len(steps) - 2)):
        change = np.abs(np.diff(column, axis=0)) + rounding[1:] + rounding[:-1]
        least = np.fmin(least, np.fmin.reduce(np.maximum(change[1:], change[:-1]), axis=0, initial=np.inf))
        weight = ratio**exponent
        column = column[1:] + np.diff(column, axis=0) / (weight - 1)
        rounding = (weight * rounding[1:] + rounding[:-1]) / (weight - 1)
    return least


def _keep(best, best_error, values, errors, first, slack):
    """Keep the better of the best so far and the entry of `values` with the least error.

    An entry must also explain every finer quotient within that quotient's slack: far from the point a
    function can look smooth with another slope (log next to 0), and only the finer steps know.
    """
    count, total = len(values), len(first)
    errors = np.where(np.isfinite(values) & np.isfinite(errors), errors, np.inf)
    for j in range(total - count, total):
        upto = j - (total - count)  # entries at this rung or coarser
        excess = np.abs(values[: upto + 1] - first[j]) - slack[j - 1]
        errors[: upto + 1] = np.maximum(errors[: upto + 1], np.where(np.isfinite(excess), excess, 0.0))
    where = np.argmin(errors, axis=0)[None]
    value = np.take_along_axis(values, where, 0)[0]
    error = np.take_along_axis(errors, where, 0)[0]
    better = error < best_error
    return np.where(better, value, best), np.where(better, error, best_error)
