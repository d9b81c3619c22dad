"""How the function moves along a ladder, before any derivative: its noise, its plateaus, what wakes in it."""

from __future__ import annotations

import numpy as np

# Changes between quotients, from the smallest step on, in which noise is looked for.
TAIL = 3
# Floors by which a slope moves the function at most where rounding hides it: what moves it by one, and is seen to move
# it by none, is off by two; twice that.
HIDDEN = 4.0
# Round-off of two neighbouring quotients beyond which their change is seen; a change that is no less than this part of
# the one before does not shrink, and one that is no more than the other part does.
SEEN, STAYS, SHRINKS = 3.0, 0.9, 0.6
# A plateau lies so many times above the noise, and no higher than this part of how far the function moves. Choices.
ABOVE, LOW = 30, 1e-2
# What is left behind on both sides keeps so much of its size where the step shrinks so many times in turn; of what is
# smooth a 256th is left, of a kink a sixteenth. A choice.
SAME, AGAIN = 0.9, 2


def scatter(centred: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Noise of one function value, from the scatter of neighbouring quotients at the smallest steps.

    There a smooth function's quotients agree to h^2, so what is left, times h, is noise: of one size from
    rung to rung, where a smooth remainder (a function of a very small scale) falls by ratio^3.
    """
    tail = min(TAIL, len(steps) - 1)
    change = np.abs(np.diff(centred[-tail - 1 :], axis=0)) * steps[-tail:].reshape((-1,) + (1,) * (centred.ndim - 1))
    change = np.where(np.isfinite(change), change, 0.0)
    if tail < TAIL:
        return np.max(change, axis=0)
    falls = (change[2] <= change[1] / 8) & (change[1] <= change[0] / 8)
    return np.where(falls, change[2], np.maximum(change[1], change[2]))


def plateau(centred, value, steps, floor, reach) -> np.ndarray:
    """Level of jumps in phi away from the point: residuals that do not shrink with the step.

    |phi(h) - phi(-h) - 2 h phi'| falls by ratio^3 per rung where phi is smooth, by at least the ratio
    where it is kinked; an iterative solver's residual stays at its tolerance over several rungs.
    """
    h = steps.reshape((-1,) + (1,) * (centred.ndim - 1))
    residual = np.abs(centred - value) * 2 * h
    residual = np.where(np.isfinite(residual), residual, 0.0)
    coarse, fine = residual[:-1], residual[1:]
    most = np.max(np.where(np.isfinite(reach), reach, 0.0), axis=0)
    stays = (fine > 0.5 * coarse) & (fine > ABOVE * floor) & (fine < LOW * most)
    return np.where(stays.sum(axis=0) >= 2, np.max(np.where(stays, fine, 0.0), axis=0), 0.0)


def beyond(samples: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """(K, ...) The steps, largest first, that are longer than what the point stands on is wide: the function leaves it
    for about the same value on either side, which is most of what it does at all, and is back at no smaller step yet.

    A normalised row of almost equal numbers does so: on either side it is a constant, and a centred difference of the
    two sides is 0, whatever the slope at the point.
    """
    count = len(samples) // 2
    middle, plus, minus = samples[0], samples[1 : count + 1], samples[count + 1 :]
    even, reach = np.abs(plus + minus - 2 * middle), np.fmax(np.abs(plus - middle), np.abs(minus - middle))
    most = np.max(np.where(np.isfinite(reach), reach, 0.0), axis=0)
    coarse, fine = even[:-AGAIN], even[AGAIN:]
    stays = (fine > SAME * coarse) & (fine > ABOVE * floor) & (fine > most)
    last = np.max(np.where(stays, _places(stays), -AGAIN - 1), axis=0, initial=-AGAIN - 1) + AGAIN
    return _places(even) <= last


def _places(x: np.ndarray) -> np.ndarray:
    return np.arange(len(x)).reshape((-1,) + (1,) * (x.ndim - 1))


def wakes(moved: np.ndarray, steps: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """See `Slopes.wakes`; moved: (K, ...) by how much, largest step first."""
    awake = ~(moved <= floor)
    last = len(steps) - 1 - np.argmax(awake[::-1], axis=0)  # the smallest step at which it moves
    inner = np.minimum(last + 1, len(steps) - 1)
    expected = np.take_along_axis(moved, last[None], 0)[0] * steps[inner] / steps[last]
    return awake.any(axis=0) & (last < len(steps) - 1) & (expected > HIDDEN * floor)


def drifts(quotients: np.ndarray, noise: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(...) Whether one-sided quotients (K, ...), largest step first, are on their way to somewhere that no step tells:
    three changes in turn do not shrink, and later ones, as far as they are seen, do not either.

    Next to the edge of a domain a function may be singular within the smallest step (`w log w` at 1e-20: each quotient
    differs from the one before by log ratio, all the way down). Noise would change them by the ratio of the steps.

    Args:
        noise: (...) absolute error of one increment.
    """
    ratio = steps[0] / steps[1]
    rounding = noise / steps.reshape((-1,) + (1,) * (quotients.ndim - 1))
    change = np.diff(quotients, axis=0)
    seen = np.abs(change) > SEEN * (rounding[1:] + rounding[:-1])
    both, by = seen[1:] & seen[:-1], change[1:] / change[:-1]
    found = [_last_in_turn(both & now) for now in ((by >= STAYS) & (by < ratio), np.abs(by) <= SHRINKS)]
    return found[0] > found[1]


def _last_in_turn(now: np.ndarray) -> np.ndarray:
    """(...) the last place of (K, ...) that is so together with the one before, -1 for none."""
    twice = now[1:] & now[:-1]
    return np.max(np.where(twice, _places(twice), -1), axis=0, initial=-1)


def increments(samples: np.ndarray, count: int) -> np.ndarray:
    """(..., 2, K) phi(t) - phi(0), to the right and to the left."""
    with np.errstate(all="ignore"):
        moved = (samples[1:] - samples[0]).reshape(2, count, *samples.shape[1:])
    return np.moveaxis(moved, (0, 1), (-2, -1))
