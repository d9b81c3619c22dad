"""The step ladder: derivatives from function values, each with an error bar.

phi(t) = f(theta + t v) is sampled at t = 0 and t = +-h_k with h_k = h_0 / rho^k. From the same samples
come centred and one-sided differences, their Richardson tableaux (Ridders 1982, Adv. Eng. Software
4(2):75), a noise estimate from the values themselves (in the spirit of More & Wild 2011, SIAM J. Sci.
Comput. 33(3):1292) and the shrink test that tells smooth from kinked from jumping.

Everything here is numpy on arrays whose first axis is the ladder; other axes are directions and
outputs, handled at once. All errors are absolute, in units of the derivative along v.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxcheck.bars import ALIKE, BARS
from jaxcheck.evidence import moves
from jaxcheck.evidence.tableau import drift, tableau

EPS = float(np.finfo(np.float64).eps)
# Rungs that a tableau takes to show its own error: two columns, and a rung to compare them on.
ENOUGH = 4
# Samples that are looked at at once: in float64, two megabytes.
AT_ONCE = 1 << 18
# A jump keeps its size where the step shrinks 16-fold, all but this part of it, so many times above the noise; what is
# smooth, or a kink, keeps a sixteenth. Choices.
JUMPS, ABOVE = 0.7, 100


@dataclasses.dataclass(frozen=True)
class Ladder:
    """Steps h_k = first / ratio**k, k = 0 .. count-1, relative to the direction's own scale."""

    first: float = 0.1
    ratio: float = 4.0
    count: int = 12

    @property
    def steps(self) -> np.ndarray:
        return self.first / self.ratio ** np.arange(self.count)

    @property
    def offsets(self) -> np.ndarray:
        """The t of every sample: 0, then +h_k, then -h_k."""
        return np.concatenate([[0.0], self.steps, -self.steps])


@dataclasses.dataclass(frozen=True)
class Slopes:
    """What a ladder says of phi'(0); arrays of the samples' shape without the ladder axis.

    Attributes:
        value, error: the derivative and its absolute error bar (truncation plus round-off); NaN and
            inf where no finite pair of samples exists.
        left, left_error, right, right_error: one-sided slopes likewise.
        kink: the one-sided slopes differ by more than their bars can explain.
        jump: the increment does not shrink with the step.
        one_sided: only one side of the point is in the domain; `value` is that side's slope.
        rough: error bar if the function's visible roughness at larger steps is taken as noise
            (an iterative solver's change of iteration count is smooth at tiny steps only).
        noisy: the values scatter far above their rounding unit.
        size: largest |phi| met, for absolute floors.
        quotients: the plain centred quotients, (..., K), largest step first; NaN where the values moved by no
            more than their own rounding.
        reach: the least one-sided quotient of the three largest steps: how fast the function moves here
            at all, where its derivative is zero.
        noise: absolute error of one function value, as measured.
        steepest: the largest claim that the ladder can judge. Where the values scatter at the smallest steps,
            that may be noise, or a function on a smaller scale than theirs; a claim by which the function would
            move within those steps by more than it does within any is of the second kind.
        span: the most by which the function moves at any step.
        wakes: up to some step the function does not move at all, and at the next larger one by more than a slope
            would that lies below rounding there: what moves it is not a slope at the point (a dead unit that wakes).
        steps, increments: of ladders, the steps (..., K), in units of the direction, and phi(t) - phi(0) to the right
            and to the left, (..., 2, K): for those who want to see. None where there was no ladder.
    """

    value: np.ndarray
    error: np.ndarray
    left: np.ndarray
    left_error: np.ndarray
    right: np.ndarray
    right_error: np.ndarray
    kink: np.ndarray
    jump: np.ndarray
    one_sided: np.ndarray
    rough: np.ndarray
    noisy: np.ndarray
    size: np.ndarray
    quotients: np.ndarray
    reach: np.ndarray
    noise: np.ndarray
    steepest: np.ndarray
    span: np.ndarray
    wakes: np.ndarray
    steps: np.ndarray | None = None
    increments: np.ndarray | None = None

    def __getitem__(self, where) -> Slopes:
        return self.each(lambda x: x[where])

    def each(self, f: Callable[[np.ndarray], np.ndarray]) -> Slopes:
        """The same with `f` done to every array."""
        known = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        done: dict[str, Any] = {name: None if x is None else f(x) for name, x in known}
        return Slopes(**done)


def slopes(
    samples: np.ndarray,
    ladder: Ladder,
    unit: float = EPS,
    *,
    noise: np.ndarray | None = None,
    own: np.ndarray | None = None,
    decided: np.ndarray | None = None,
) -> Slopes:
    """Slopes of phi at 0 from `samples` of shape (1 + 2K, ...) taken at `ladder.offsets`.

    Args:
        unit: relative rounding unit of one function value (float64's epsilon by default).
        noise: absolute round-off of one function value, where it has been measured; broadcasts to `samples[0]`.
        own: (2, K, D) the steps that are known to look, on the right and on the left, at one smooth piece together
            with the point, for samples (1 + 2K, D, G). Where they are enough for a tableau, larger ones are left
            out, and there is no kink.
        decided: (D,) whether the point itself may stand on a kink. Where it does not, one side may be enough; and
            where a kink lies within the steps on both, they know nothing of the point.
    """
    samples = np.asarray(samples, np.float64)
    if own is None:
        with np.errstate(all="ignore"):
            return _slopes(samples, ladder, unit, noise)
    enough = own.sum(axis=1) >= ENOUGH
    known = enough.all(axis=0)
    aside = np.zeros_like(known) if decided is None else ~decided & ~known
    keep = np.where(known, own.all(axis=0), np.where(aside, own & enough[:, None], True))
    keep = np.where(aside & ~enough.any(axis=0), True, keep)
    with np.errstate(all="ignore"):
        beyond = np.concatenate([np.zeros((1, len(known)), bool), ~keep[0], ~keep[1]])
        found = _slopes(np.where(beyond[..., None], np.nan, samples), ladder, unit, noise)
    no = (known | aside)[:, None] & np.ones_like(found.kink)
    blind = no & (aside & ~enough.any(axis=0))[:, None] & (found.kink | found.jump)
    return dataclasses.replace(
        found,
        kink=found.kink & ~no,
        jump=found.jump & ~no,
        increments=moves.increments(samples, len(ladder.steps)),
        error=np.where(blind, np.inf, found.error),
        rough=np.where(blind, np.inf, found.rough),
    )


def _slopes(samples: np.ndarray, ladder: Ladder, unit: float, measured: np.ndarray | None) -> Slopes:
    """Slopes of all samples, as many at once as stay in a core's cache: of a million outputs this takes a third of the
    time."""
    axis, width = samples.ndim - 2, samples.shape[-1] if samples.ndim > 1 else 1
    block = max(1, AT_ONCE * width // max(samples.size, 1))
    if block >= width:
        return _slopes_at_once(samples, ladder, unit, measured)
    noise = None if measured is None else np.broadcast_to(measured, samples.shape[1:])
    parts = [
        _slopes_at_once(
            samples[..., at : at + block], ladder, unit, None if noise is None else noise[..., at : at + block]
        )
        for at in range(0, width, block)
    ]
    fields = (field.name for field in dataclasses.fields(Slopes))
    return Slopes(**{name: np.concatenate([getattr(p, name) for p in parts], axis=axis) for name in fields})


def _slopes_at_once(samples: np.ndarray, ladder: Ladder, unit: float, measured: np.ndarray | None) -> Slopes:
    steps, count = ladder.steps, ladder.count
    h = steps.reshape((-1,) + (1,) * (samples.ndim - 1))
    middle, plus, minus = samples[0], samples[1 : count + 1], samples[count + 1 :]
    size = _size(samples, count)
    floor = 2 * unit * size
    if measured is not None:
        floor = np.where(np.isfinite(measured), np.maximum(measured, 0.5 * unit * size), floor)
    centred = (plus - minus) / (2 * h)
    noise = np.maximum(floor, moves.scatter(centred, steps))

    value, error = tableau(centred, noise, steps, 2, 2)
    beyond = moves.beyond(samples, floor)
    if beyond.any():
        centred, some, few = np.where(beyond, np.nan, centred), beyond.any(axis=0), (~beyond).sum(axis=0) < ENOUGH
        closer, bar = tableau(centred, noise, steps, 2, 2)
        value = np.where(some & np.isfinite(closer), closer, value)
        error = np.where(some, np.where(few, np.inf, bar), error)
    sides = (plus - middle) / h, (middle - minus) / h
    seen = [tableau(x, 2 * noise, steps, 1, 1) for x in sides]
    (r, r_error), (l, l_error) = seen

    seen_right, seen_left = np.isfinite(r_error), np.isfinite(l_error)
    gap, bars = np.abs(r - l), r_error + l_error
    both = seen_right & seen_left
    kink = both & (gap > 4 * bars) & (gap > ALIKE * np.maximum(np.abs(r), np.abs(l)))
    # A gap too small to call a kink (one close by, seen through a few rungs) widens the bar instead.
    error = np.where(both & ~kink, np.maximum(error, 0.5 * (gap - bars)), error)
    jump = _jumps(np.abs(plus - middle)[-3:], floor) | _jumps(np.abs(minus - middle)[-3:], floor)
    one_sided = (seen_right != seen_left) & ~np.isfinite(error)
    if one_sided.any():
        found = tuple((x[:, one_sided], *(y[one_sided] for y in pair)) for x, pair in zip(sides, seen, strict=True))
        value[one_sided], error[one_sided] = _of_one_side(found, 2 * noise[one_sided], steps)
    level = moves.plateau(centred, value, steps, floor, np.abs(plus - minus))
    _, rough = tableau(centred, np.maximum(noise, level), steps, 2, 2)
    rough = np.where(level > noise, rough, error)
    noisy = np.maximum(noise, level) > 300 * floor
    slope, flags = (value, error, l, l_error, r, r_error), (kink & ~jump, jump, one_sided)
    return Slopes(*slope, *flags, rough, noisy, size, noise=noise, **_moved(samples, steps, floor, noisy))


def _of_one_side(sides: tuple, noise: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(value, error) of the side of two, each (quotients (K, N), value, error), that is in the domain.

    The domain ends within the smallest step, and what the function does there no step tells. Where the quotients drift,
    nothing is known; where they are not seen to, they may, by what they do not show, down to the smallest float.
    """
    on_the_right = np.isfinite(sides[0][2])
    quotients, value, error = (np.where(on_the_right, *pair) for pair in zip(*sides, strict=True))
    rungs = (np.log(steps[-1]) - np.log(np.finfo(np.float64).smallest_subnormal)) / np.log(steps[0] / steps[1])
    unknown = moves.drifts(quotients, noise, steps)
    error = error + drift(quotients, noise, steps) * rungs / BARS
    return np.where(unknown, np.nan, value), np.where(unknown, np.inf, error)


def _moved(samples: np.ndarray, steps: np.ndarray, floor: np.ndarray, noisy: np.ndarray) -> dict[str, Any]:
    """What `Slopes` says of how far the function moves; `noisy` where its values scatter."""
    count = len(steps)
    h = steps.reshape((-1,) + (1,) * (samples.ndim - 1))
    middle, plus, minus = samples[0], samples[1 : count + 1], samples[count + 1 :]
    up, down, both = np.abs(plus - middle), np.abs(minus - middle), plus - minus
    quotients = np.where(np.abs(both) > floor, both / (2 * h), np.nan)
    span = np.max(np.where(np.isfinite(samples), np.abs(samples - middle), 0.0), axis=0)
    return {
        "quotients": np.moveaxis(quotients, 0, -1),
        "reach": np.min(np.maximum(up / h, down / h)[:3], axis=0),
        "steepest": np.where(noisy, span / steps[-moves.TAIL - 1 :][0], np.inf),
        "span": span,
        "wakes": moves.wakes(np.fmax(up, down), steps, floor),
        "steps": np.broadcast_to(steps, (*samples.shape[1:], count)),
        "increments": moves.increments(samples, count),
    }


def _size(samples: np.ndarray, count: int) -> np.ndarray:
    """Largest |phi| near the point: large steps may reach huge values (exp), and rounding at the small ones is what
    limits the slope."""
    finite = np.where(np.isfinite(samples), np.abs(samples), 0.0)
    near = np.concatenate([finite[:1], finite[1 + count // 2 : count + 1], finite[1 + count + count // 2 :]])
    return near.max(axis=0)


def _jumps(tail: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Whether the increment keeps its size at the three smallest steps (3, ...), although they shrink 16-fold."""
    return (tail.min(axis=0) > JUMPS * tail.max(axis=0)) & (tail.min(axis=0) > ABOVE * floor)


def two_steps(
    outer: tuple[np.ndarray, np.ndarray],
    inner: tuple[np.ndarray, np.ndarray],
    h: Any,
    ratio: float,
    size: np.ndarray,
    unit: float = EPS,
) -> tuple[np.ndarray, np.ndarray]:
    """Centred difference and its bar from two steps, `h` (inner) and `ratio * h` (outer).

    Each pair is (phi(+), phi(-)). The value is the Richardson combination; the bar is the truncation
    of the plain inner quotient, |D(ratio h) - D(h)| / (ratio^2 - 1), an upper bound for the
    combination, plus round-off 2 unit |phi| / h.
    """
    with np.errstate(all="ignore"):
        coarse = (outer[0] - outer[1]) / (2 * ratio * h)
        fine = (inner[0] - inner[1]) / (2 * h)
        correction = (fine - coarse) / (ratio**2 - 1)
        error = np.abs(correction) + 2 * unit * size / h
        value = fine + correction
        return value, np.where(np.isfinite(value), error, np.inf)
