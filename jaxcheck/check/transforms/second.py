"""The derivative of a rule's gradient, as a transformation makes it, beside differences of that gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxcheck.check.laws.rounding import of_leaf
from jaxcheck.check.laws.site import Arrays, norm

# The step; what the differences may be off by beside their own scatter, as a part of their size, and of what they are
# differences of; and bars of the rounding of that. Choices.
STEP, OFF, REST, NOISES = 1e-5, 1e-4, 1e-8, 64


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
    """(relative difference, leaf) where a tangent of the gradient is not that of its differences along `t`, where those
    are smooth enough to tell; leaf -1 where all are.

    Args:
        back: the gradient at a point and a cotangent; `here` at `x` and `g`.
        noise: per leaf, how far it scatters.
        program: what its rounding is measured of, if need be, and at what.
    """
    both = [
        [
            [np.asarray(v) + s * STEP * np.asarray(d) for v, d in zip(at, along, strict=True)]
            for at, along in zip((x, g), t, strict=True)
        ]
        for s in (1, -1)
    ]
    ends = [back(*end) for end in both]
    for k, (plus, minus, middle, tangent) in enumerate(zip(*ends, here, tangents, strict=True)):
        right, left = (plus - middle) / STEP, (middle - minus) / STEP
        centre = (right + left) / 2
        size = max(norm(centre), norm(tangent))
        bar = 10 * norm(right - left) + OFF * size + REST * norm(middle) + NOISES * noise[k] / STEP
        off = norm(centre - tangent)
        if np.isfinite(bar) and off > bar and not off <= bar + 2 * of_leaf(k, *program) / STEP:
            return off / size, k
    return 0.0, -1
