"""Gradients that ask for the type of what they are given: `xp = np if isinstance(w, np.ndarray) else jnp`.

JAX traces the one branch; on the caller's own NumPy arrays the other is run.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxcheck.bars import COMPONENT, FINE_UNIT, MUST_CATCH, TEXTBOOK
from jaxcheck.formula import formula2
from jaxcheck.problem import repeat
from jaxcheck.problem.user import User
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.derived import own_values
from jaxcheck.program.narrower import unit
from jaxcheck.program.objective import Traced
from jaxcheck.program.run.by_numpy import all_known
from jaxcheck.program.run.eagerly import run_eagerly

# Elements that a gradient may compute to be run once more, operation by operation: some milliseconds.
EAGERLY = 1e5
OTHERWISE = (
    "On the NumPy arrays that it was given the gradient computes other numbers than where JAX traces it (difference "
    "{:.2g} in leaf `{}`). The {} were judged: they are farther from autodiff."
)


def otherwise(user: User, handed: User, traced: Traced, leaves: list[Any], extras: Any) -> tuple[str, bool]:
    """(what is said where the gradient is another on the caller's own arrays than what JAX traces, else ""; whether
    that of the arrays is to be judged). One of the two is wrong, and that one is. Where JAX computes it on them, and
    not NumPy, it is asked for what takes no compiler.

    Args:
        handed: with the arrays as they were handed in; `user` with the numbers that JAX sees, `leaves` and `extras`.
        traced: the gradient, natively.
    """
    if not any(isinstance(x, np.ndarray) for x in (*handed.theta.inexact(), *handed.args.inexact())):
        return "", False
    found: list[Any] = []

    def given() -> int:
        found[:] = handed.selection(handed.fresh(), handed.fresh_args()).leaves
        return 0

    try:
        ask(jax.eval_shape, given)  # what JAX would compute is not computed here
        if found and not all(isinstance(x, (np.ndarray, np.generic)) for x in found):
            if not all_known(traced.closed) or traced.program.cost > EAGERLY:
                return "", False
            run_eagerly(given)
        if not found:
            return "", False
        others = run_eagerly(traced.program, *own_values(traced.closed, [*leaves, *extras]))
    except Refused:
        return "", False
    coarse = unit(traced.closed)
    apart = [_apart(one, other, coarse) for one, other in zip(found, others, strict=True)]
    k = int(np.nanargmax([*apart, 0.0]))
    # NumPy rounds every product and sum of half precision, where a compiler need not. Formula (2) halves an error.
    least = TEXTBOOK if coarse < FINE_UNIT else max(MUST_CATCH / 2, repeat.units_of(coarse) * coarse)
    if not (k < len(apart) and apart[k] > least):
        return "", False
    try:
        right = run_eagerly(jax.grad(lambda leaves: user.value(leaves, extras)), leaves)
        numpys = _apart(found[k], right[k], coarse) > _apart(others[k], right[k], coarse)
    except Refused:
        numpys = True
    return OTHERWISE.format(apart[k], handed.theta.leaves[k].path, "former" if numpys else "latter"), numpys


def _apart(x: Any, y: Any, unit: float) -> float:
    """By formula (2) of the leaf; or of a component, which may be off by `COMPONENT` more, and have another unit, where
    that is beyond the rounding of its leaf."""
    x, y = (np.asarray(a).reshape(-1) for a in (x, y))
    with np.errstate(all="ignore"):
        off, size = np.abs(x - y), np.abs(x) + np.abs(y)
        beyond = off > repeat.units_of(unit) * unit * np.nanmax(size, initial=0.0)
        alone = np.where(beyond, off / size, 0.0) / COMPONENT
    return max(formula2(x, y), float(np.nanmax(alone, initial=0.0)))
