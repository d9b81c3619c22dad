"""Whether an array is one of the known ones, in whatever order its axes stand."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from jaxcheck.bars import SAME_VALUE

_GRID = 1e6
# Axes of an array whose orders are all tried.
AXES = 4
_LARGE = 1e100  # beyond it nothing is compared, and a NaN is not below it


class Known:
    """Arrays by what no order of axes changes: their size and their first three moments."""

    def __init__(self, arrays: Iterable[np.ndarray]):
        self._by_size: dict[tuple[int, int, int], list[np.ndarray]] = defaultdict(list)
        for x in arrays:
            # By hand a gradient is as often the conjugate of JAX's, and a real one is what it was.
            for y in (x, np.conj(x)) if np.iscomplexobj(x) else (x,):
                if (moments := _moments(y)) is not None:
                    self._by_size[np.size(x), len(moments), _bin(moments)].append(moments)
        self._sizes = {(size, n) for size, _, n in self._by_size}

    def __contains__(self, x: np.ndarray) -> bool:
        x = np.asarray(x)
        if x.dtype.kind not in "fc" or not self._is_near(x):
            return False
        moments = _moments(x)
        if moments is None:
            return False
        near = (
            m for step in (-1, 0, 1) for m in self._by_size.get((np.size(x), len(moments), _bin(moments) + step), ())
        )
        return any(bool((np.abs(m - moments) <= SAME_VALUE * np.maximum(1.0, np.abs(moments))).all()) for m in near)

    def _is_near(self, x: np.ndarray) -> bool:
        """Whether any is as large: most are told apart by that alone, for less than the moments take."""
        flat = x.ravel()
        norm = float(np.sqrt(np.vdot(flat, flat).real))
        if not 0 < norm < _LARGE:
            return True  # a sum of squares overflows, and vanishes, before the norm does
        middle = round(np.log(norm) * _GRID)
        return any((x.size, middle + step) in self._sizes for step in range(-3, 3))


def reordered(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether an array holds the numbers of another in another order than any of its axes, or any shape, has."""
    if x.size != y.size or x.size < 2 or x.dtype.kind not in "fc" or y.dtype.kind not in "fc":
        return False
    if not np.array_equal(np.sort(x, axis=None), np.sort(y, axis=None)):
        return False
    orders = itertools.permutations(range(y.ndim)) if y.ndim <= AXES else [range(y.ndim)]
    return not any(np.array_equal(x.ravel(), np.transpose(y, order).ravel()) for order in orders)


def _moments(x: np.ndarray) -> np.ndarray | None:
    """(4,) the logarithm of the norm; of the array over its norm the sum, the sum of sizes and the sum of cubes. Of a
    complex array (6,), with both parts of the sums."""
    x = np.asarray(x)
    if x.dtype.kind not in "fc" or not x.size or not np.abs(x).max() < _LARGE:
        return None
    flat = x.ravel()
    if not flat.any() or (flat.size > 1 and (flat == flat[0]).all()) or not (flat * (flat - 1)).any():
        return None  # zero, constant, a mask
    norm = np.linalg.norm(flat)
    if not norm:
        return None
    flat = flat / norm
    found = [np.log(norm), flat.sum(), np.abs(flat).sum(), (flat**3).sum()]
    return np.array([part for y in found for part in ([y.real, y.imag] if np.iscomplexobj(y) else [y])])


def _bin(moments: np.ndarray) -> int:
    return int(np.floor(moments[0] * _GRID))
