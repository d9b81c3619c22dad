"""Functions that ask for the type of what they are given: `xp = np if isinstance(w, np.ndarray) else jnp`.

JAX traces the one branch; on the caller's own arrays, NumPy's or no tracers, the other is run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcheck.bars import COMPONENT, FINE_UNIT, MUST_CATCH, TEXTBOOK
from jaxcheck.formula import formula2
from jaxcheck.problem import repeat
from jaxcheck.problem.user import User
from jaxcheck.program.alike import alike_at
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.derived import own_values
from jaxcheck.program.mode import is_wide
from jaxcheck.program.narrower import unit
from jaxcheck.program.objective import Traced, in_float64
from jaxcheck.program.run.by_numpy import all_known
from jaxcheck.program.run.eagerly import run_eagerly
from jaxcheck.program.tidy import tidy

# Elements that a gradient may compute to be run once more, operation by operation: some milliseconds.
EAGERLY = 1e5
OTHERWISE = (
    "On the arrays that it was given the gradient computes other numbers than where JAX traces it (difference {:.2g} "
    "in leaf `{}`). The {} were judged: they are farther from autodiff."
)

ANOTHER_LOSS = (
    "On the NumPy arrays that it was given the function is {:.6g}, and where JAX traces it {:.6g}: which of the two "
    "the gradient belongs to is not known."
)
# What the rounding of the parameters does to a value stands for what rounding inside the function does to it, many
# times over: two libraries sum in another order, and only a grave difference is another function.
ROUNDED, DRAWS = 100, 3


def another_loss(handed: User, traced: Traced, leaves: list[Any], extras: Any) -> str:
    """What is said where the loss computes another value, by NumPy, on the caller's own arrays than what JAX traces,
    else "". See `otherwise` for the arguments; what JAX would compute on them is not asked for."""
    found = _asked(handed, handed.value)
    if not isinstance(found, (float, np.floating, np.ndarray)) or np.shape(found) != () or np.iscomplexobj(found):
        return ""
    try:
        value = _value(traced, leaves, extras)
        off, size = abs(float(found) - value), abs(float(found)) + abs(value)
        coarse = unit(traced.closed)
        least = max(MUST_CATCH, repeat.units_of(coarse) * coarse) * size
        if not off > least or abs(float(found) - _in_float64(handed, traced, [*leaves, *extras])) <= least:
            return ""
        rng = np.random.default_rng(0)
        beside = [_value(traced, [_rounded(x, rng) for x in leaves], extras) for _ in range(DRAWS)]
    except Refused:
        return ""
    return ANOTHER_LOSS.format(float(found), value) if off > ROUNDED * float(np.ptp([value, *beside])) else ""


@dataclasses.dataclass(frozen=True)
class Known:
    """The gradient traced natively with the caller's own arrays, `values`, known to it, and its results there: whoever
    asks for tracers, or hands arrays to NumPy, shows it in these."""

    closed: Any
    values: list[Any]
    results: list[Any]

    def is_same(self, traced: Traced) -> bool:
        """Whether it is seen to be the one that was traced natively."""
        return alike_at(traced.closed, self.values, self.closed)


def known(handed: User) -> Known | None:
    """None where the gradient refuses to be traced so."""
    # A trace writes into no array of JAX's, and those may be large, or lie over devices.
    own = [[x.copy() if isinstance(x, np.ndarray) else x for x in t.inexact()] for t in (handed.theta, handed.args)]
    values, results = [*own[0], *own[1]], []

    def gradient() -> list[Any]:
        results[:] = handed.selection(*own).leaves
        return [jax.numpy.asarray(x)[None] for x in results]

    try:
        return Known(tidy(ask(jax.make_jaxpr(gradient)), is_wide()), values, results)
    except Refused:
        return None


def _value(traced: Traced, leaves: list[Any], extras: Any) -> float:
    out = run_eagerly(traced.program, *own_values(traced.closed, [*leaves, *extras]))
    return float(np.asarray(out[0]).reshape(()))


def _in_float64(handed: User, traced: Traced, values: list[Any]) -> float:
    """The value that was traced, without its rounding: NumPy's branch may be in float64 where JAX's cancels. NaN where
    it cannot be had."""
    wide = in_float64(traced, values)
    if wide is None:
        return math.nan
    own = [np.asarray(x) for x in (*handed.theta.inexact(), *handed.args.inexact())]
    with jax.enable_x64(True):
        out = run_eagerly(wide.program, *own_values(wide.program.closed, own))
    return float(np.asarray(out[0]).reshape(()))


def _rounded(x: Any, rng: np.random.Generator) -> np.ndarray:
    """Every component one spacing up or down, relative to it."""
    return np.asarray(x * (1 + float(jax.numpy.finfo(x.dtype).eps) * rng.choice([-1, 1], np.shape(x))), x.dtype)


def _asked(handed: User, f: Callable[[Any, Any], Any]) -> Any:
    """What a function of the caller's returns on copies of their own arrays, where it hands any to NumPy, else None;
    what JAX would compute is traced only."""
    if not any(isinstance(x, np.ndarray) for x in (*handed.theta.inexact(), *handed.args.inexact())):
        return None
    found: list[Any] = []

    def given() -> int:
        found.append(f(handed.fresh(), handed.fresh_args()))
        return 0

    try:
        ask(jax.eval_shape, given)
    except Refused:
        return None
    return found[0]


def otherwise(
    user: User, handed: User, traced: Traced, at: Known | None, leaves: list[Any], extras: Any
) -> tuple[str, bool]:
    """(what is said where the gradient is another on the caller's own arrays than what JAX traces, else ""; whether
    that of the arrays is to be judged). One of the two is wrong, and that one is.

    Args:
        handed: with the arrays as they were handed in; `user` with the numbers that JAX sees, `leaves` and `extras`.
        traced: the gradient, natively.
        at: the same with those arrays known to it.
    """
    if at is None:
        return "", False
    try:
        found = at.results
        if not all(isinstance(x, (np.ndarray, np.generic)) for x in found):
            if not all_known(traced.closed) or traced.program.cost > EAGERLY:
                return "", False
            found = run_eagerly(lambda *own: handed.selection(*own).leaves, handed.fresh(), handed.fresh_args())
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
