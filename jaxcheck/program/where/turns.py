"""What takes an array apart for the turns of a loop and puts theirs together: how it is run, and its way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

AS_IT_IS = (lambda x: (x,), lambda xs, ys, gs: [gs[0]])


def row_of(t: int) -> tuple[Callable, Callable]:
    """One row of an array."""

    def back(xs: Any, ys: Any, gs: Any) -> list[np.ndarray]:
        out = np.zeros(xs[0].shape, gs[0].dtype)
        out[t] = gs[0]
        return [out]

    return lambda x: (x[t],), back


def put_together(length: int) -> tuple[Callable, Callable]:
    """Rows put together."""
    return lambda *xs: (np.stack(xs),), lambda xs, ys, gs: [gs[0][t] for t in range(length)]
