"""What a check meets beside its leaves, and a hint may name: dimensions, the batch, indices, outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

# Entries of an array of indices that are looked at.
MOST = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Beside:
    """What is known beside a leaf.

    Attributes:
        sizes: the dimensions met.
        batch: the length of the axis with which all data arrays begin, 0 where they do not agree.
        indices: the arrays of whole numbers among the data.
        columns: per column, the number of the only output that its cotangent looks at, -1 where those are several.
    """

    sizes: tuple[int, ...] = ()
    batch: int = 0
    indices: tuple[Any, ...] = ()
    columns: tuple[int, ...] = ()


def of_data(shapes: Iterable[tuple[int, ...]], data: Iterable[Any], consts: Iterable[Any] = ()) -> Beside:
    """Of the shapes of a loss's parameters, its further arguments, arrays or not, and what it closes over."""
    given, closed = ([x for x in those if hasattr(x, "shape") and hasattr(x, "dtype")] for those in (data, consts))
    arrays = [*given, *closed]
    sizes = {d for shape in (*shapes, *(x.shape for x in arrays)) for d in shape}
    leading = {x.shape[0] for x in given or closed if x.shape}
    indices = [x for x in arrays if getattr(x.dtype, "kind", "") in "iu" and x.shape and np.prod(x.shape) <= MOST]
    return Beside(tuple(sorted(sizes)), leading.pop() if len(leading) == 1 else 0, tuple(indices))


def of_outputs(cotangents: np.ndarray, owner: np.ndarray) -> tuple[int, ...]:
    """The only output that each cotangent looks at, or -1."""
    seen = [np.unique(owner[row != 0]) for row in cotangents]
    return tuple(int(s[0]) if len(s) == 1 else -1 for s in seen)
