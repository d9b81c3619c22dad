"""How coarse what Python computes is where nobody can look inside: how far it lies off a smooth curve around the point.

`log(1 + exp(-18))` is a staircase: its values are multiples of the unit of 1, though they are 1e-8 and look exact to
their own. Differences within a stair agree with each other, and a gradient there does with its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxcheck.budget import current
from jaxcheck.program.ask import Refused, ask

# Distances, relative, within which a curve is laid through the values; its degree, and how many values it is held to.
WIDTHS, DEGREE, COUNT = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8), 4, 12
# What is off the curve within one distance and the next, a tenth of it, by about as much is no bend or kink, of which
# the first would be off by ten times as much; one that lies at the edge of the nearer, by four at least.
ALIKE = 3.0
# What oscillates is off by as much within all that is wider than its period. Within less it is a smooth curve, off by
# 1e-5 as much with each distance: at two of them at least it is less than this part and not yet gone, where it is of
# any weight (1e-5 of the values). Stairs are as high within all that holds some, and gone within one.
FADES = 30.0


# Units of float64 by which a value must be off before it counts as coarse: sums of some hundred terms lose a few.
SHOWS = 16.0


def unit(run: Callable[[np.ndarray], Any], point: np.ndarray, seed: int) -> float:
    """The rounding unit of a loss, relative, where it is coarser than float64; else 0.

    Relative to the largest of its values there: of one that is zero at the point, by what cancels, nothing is a part.
    """
    values = [abs(float(ask(run, point)))]

    def heard(x: np.ndarray) -> Any:
        out = run(x)
        values.append(abs(float(np.asarray(out))))
        return out

    off, value = float(np.max(coarseness(heard, point, seed))), max(v for v in values if np.isfinite(v))
    return off / value if off > SHOWS * np.finfo(np.float64).eps * value > 0 else 0.0


def coarseness(run: Callable[[np.ndarray], Any], point: np.ndarray, seed: int) -> np.ndarray:
    """How far the values of `run` are off by what is rounded inside: of the values' shape, zero where none shows.

    Zeros of the point stay: what they meet is often a kink.
    """
    rng = np.random.default_rng([seed, point.size])
    way = point * rng.choice([-1.0, 1.0], point.size) * rng.uniform(0.5, 1.0, point.size)
    places = np.cos(np.pi * (np.arange(COUNT) + 0.5) / COUNT)
    curve = np.polynomial.chebyshev.chebvander(places, DEGREE)
    # What is left of values when the curve nearest to them is taken off.
    rest = np.eye(COUNT) - curve @ np.linalg.pinv(curve)
    off: list[np.ndarray] = []
    size = np.zeros(())
    for width in WIDTHS:
        values = []
        for place in places:
            current().ask()
            try:
                values.append(np.asarray(ask(run, point + width * place * way), np.float64))
            except Refused:
                return np.zeros_like(off[0]) if off else np.zeros(())
        with np.errstate(all="ignore"):
            off.append(np.abs(np.tensordot(rest, np.array(values), axes=1)).max(axis=0))
            size = np.abs(values).max(axis=0)
    found = np.zeros_like(off[0])
    with np.errstate(all="ignore"):
        gone = np.maximum(10 * off[-1], SHOWS * np.finfo(np.float64).eps * size)
        for k in range(len(off) - 2, -1, -1):
            wide, near = off[k], off[k + 1]
            fading = sum(((x < near / FADES) & (x > gone)).astype(int) for x in off[k + 2 :])
            stairs = (near > 0) & (wide <= ALIKE * near) & (fading < 2)
            found = np.where(stairs, np.maximum(wide, near), found)
    return np.nan_to_num(found, nan=0.0, posinf=0.0)
