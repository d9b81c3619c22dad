"""The derivative of a rule's gradient, as a transformation makes it, beside differences of that gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcheck.check.laws.rounding import of_leaf
from jaxcheck.check.laws.site import Arrays, norm

# The step, in units of the direction, and a longer one in units of it; what the differences may be off by beside their
# own scatter, as a part of their size, and of what they are differences of; bars of the rounding of that; how much
# further than a component's own scatter it must be off; and by what part of itself a gradient changes over a step, at
# most, in which it is looked at whether it turns within the usual one. Choices.
STEP, LONGER, OFF, REST, NOISES, SURE, TURN = 1e-5, 4, 1e-4, 1e-8, 64, 10, 1e-4
# Shorter steps that are tried where that does not say which. Choices: those of scales from 1e-6 to 1e-13.
FINER = (1e-8, 1e-11, 1e-14)


class _Seen(NamedTuple):
    """Of one leaf along the direction, by central differences of the gradient: the slopes, how far those of two steps
    and of two sides scatter, and what the steps themselves may do to them as a norm."""

    slope: np.ndarray
    scatter: np.ndarray
    bar: float


def astray(
    tangents: Sequence[np.ndarray],
    back: Callable[[Arrays, Arrays], Sequence[np.ndarray]],
    x: Arrays,
    g: Arrays,
    t: Sequence[Arrays],
    here: Sequence[np.ndarray],
    noise: Sequence[float],
    program: tuple[Any, Sequence[Any]],
) -> tuple[float, int]:
    """(relative difference, leaf) where a tangent of the gradient is not that of its differences along `t`, in
    components in which those are smooth enough to tell; leaf -1 where all are.

    Args:
        back: the gradient at a point and a cotangent; `here` at `x` and `g`.
        noise: per leaf, how far it scatters.
        program: what its rounding is measured of, if need be, and at what.
    """

    def seen(step: float) -> list[_Seen]:
        def moved(by: float) -> Sequence[np.ndarray]:
            x_by, g_by = (
                [np.asarray(v) + by * np.asarray(d) for v, d in zip(at, along, strict=True)]
                for at, along in zip((x, g), t, strict=True)
            )
            return back(x_by, g_by)

        ends = [moved(by * step) for by in (1, -1, LONGER, -LONGER)]
        return [_slopes(step, *each) for each in zip(*ends, here, noise, strict=True)]

    for k, (usual, tangent) in enumerate(zip(seen(STEP), tangents, strict=True)):
        off, bar, size = _off(usual, tangent)
        if not (np.isfinite(bar) and off > bar) or off <= bar + 2 * of_leaf(k, *program) / STEP:
            continue
        with np.errstate(all="ignore"):
            turns = TURN * norm(here[k]) / norm(tangent)
        # Of a gradient that is zero nothing tells the scale that it lives on: sqrt(x^2 + eps) at 0.
        steps = (turns,) if turns > 0 else FINER
        if not any(step < STEP and _confirmed(seen(step)[k], tangent) for step in steps):
            return off / size, k
    return 0.0, -1


def _slopes(step: float, plus, minus, farther, opposite, middle, noise: float) -> _Seen:
    """A component is not smooth if its slopes on both sides differ, or those of two steps: at a jump of the gradient
    from -1 over 0 to 1 (of abs) both sides are alike, and the slope is one over the step."""
    with np.errstate(all="ignore"):
        right, left = (plus - middle) / step, (middle - minus) / step
        slope, wide = (right + left) / 2, (farther - opposite) / (2 * LONGER * step)
        scatter = np.maximum(np.abs(right - left), np.abs(wide - slope))
    return _Seen(slope, scatter, REST * norm(middle) + NOISES * noise / step)


def _off(seen: _Seen, tangent: np.ndarray) -> tuple[float, float, float]:
    """(by how much the tangent is off in smooth components, what is no mistake, its size)."""
    with np.errstate(all="ignore"):
        smooth = SURE * seen.scatter < np.abs(seen.slope - tangent)  # not where one of them is no number
    size = max(norm(seen.slope[smooth]), norm(tangent))
    bar = SURE * norm(seen.scatter[smooth]) + OFF * size + seen.bar
    return norm((seen.slope - tangent)[smooth]), bar, size


def _confirmed(seen: _Seen, tangent: np.ndarray) -> bool:
    """Whether shorter steps bear the tangent out, and know it well enough to: the function lives on a smaller scale."""
    size = norm(tangent)
    bar = norm(seen.scatter) + OFF * size + seen.bar
    return bool(norm(seen.slope - tangent) <= bar < size / SURE)
