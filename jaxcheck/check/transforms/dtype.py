"""A rule at float32, bfloat16, float16 and float64: its formula, its dtype, and the digits that the dtype promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jaxcheck.check.laws.site import build, reason, unit_of, unsupported
from jaxcheck.check.transforms.wide_rule import Wide, as_in
from jaxcheck.program.ask import Refused, ask
from jaxcheck.result import Row

DTYPES = (np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16))
DOUBLE = np.dtype(np.float64)


def rows(
    f: Callable,
    args: Sequence[Any],
    kwargs: dict,
    argnums: Any,
    seed: int,
    wide_mode: bool = True,
    iterative: bool = False,
) -> list[Row]:
    """One row per dtype. All are run at one point, which every one of them can represent; see `transformations`."""
    if not wide_mode:
        why = "its NumPy data stands in programs of the 32-bit mode, so that there is no float64 to compare with"
        return [unsupported("transformation", dtype.name, why) for dtype in (*DTYPES, DOUBLE)]
    found = []
    used = {
        _real(x.dtype)
        for x in jax.tree_util.tree_leaves((args, kwargs))
        if hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, np.inexact)
    }
    given = max((unit_of(jnp.dtype(name)) for name in used), default=0.0)
    for dtype in (*DTYPES, DOUBLE):
        if iterative and dtype != DOUBLE and dtype.name not in used:
            why = f"it loops until a float is small enough, which in {dtype.name} it may never be"
            found.append(unsupported("transformation", dtype.name, why))
            continue
        # What was not asked for in float16 is not run there: its range ends where many a right rule goes.
        runs = dtype != np.float16 or dtype.name in used
        try:
            point = dtype if runs else DOUBLE
            rounded = jax.tree_util.tree_map(lambda x, d=point: as_in(x, d), (tuple(args), kwargs))
            with jax.enable_x64(True):
                wide = Wide(ask(build, f, *rounded, argnums, np.float64), seed, dtype, given)
        except Refused as no:
            found.append(unsupported("transformation", dtype.name, f"in float64: {reason(no.error)}"))
            continue
        try:
            if dtype == DOUBLE:
                found.append(wide.row())
                continue
            with jax.enable_x64(False), np.errstate(all="ignore"):
                narrow = ask(build, f, *rounded, argnums, dtype)
                found.append(wide.compare(narrow, dtype, used == {dtype.name}) if runs else wide.formula(narrow, dtype))
        except Refused as no:
            found.append(unsupported("transformation", dtype.name, no.error))
    return found


def _real(dtype: Any) -> str:
    """The real dtype of the same precision."""
    return {"complex64": "float32", "complex128": "float64"}.get(str(dtype), str(dtype))
