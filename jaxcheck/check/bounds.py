"""Bounds as `jax.test_util` takes them: a number, or a dict of numbers by dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxcheck.options import Tolerance

Bounds = Callable[[set[str]], Tolerance]


def bounds_of(rtol: Any, atol: Any) -> Bounds:
    """The caller's bounds, once the dtypes that take part are known; what is not given, or not for
    these, stays at jaxcheck's own.

    Raises:
        ValueError: naming the bound that is negative, NaN, infinite or no number.
    """

    def table(name: str, given: Any) -> dict[str | None, float]:
        if given is None:
            return {}
        pairs = given.items() if isinstance(given, dict) else [(None, given)]
        try:
            found: dict[str | None, float] = {key if key is None else np.dtype(key).name: float(x) for key, x in pairs}
        except (TypeError, ValueError):
            found = {None: float("nan")}
        if not all(0 <= x < float("inf") for x in found.values()):
            raise ValueError(f"{name}={given!r}: a finite number, not negative, or a dict of such numbers by dtype")
        return found

    def number(found: dict[str | None, float], dtypes: set[str]) -> float | None:
        return max((x for key, x in found.items() if key is None or key in dtypes), default=None)

    tables = table("rtol", rtol), table("atol", atol)
    return lambda dtypes: Tolerance(number(tables[0], dtypes), number(tables[1], dtypes) or 0.0)
