"""Drop-in for `jax.test_util`: change one import.

    from jaxcheck.test_util import check_grads, check_jvp, check_vjp

Same signatures, same AssertionErrors. What differs: differences are taken in float64 whatever the
arguments' dtype, with steps chosen by jaxcheck (`eps` is accepted and not needed); a tolerance that
the caller gives is an upper bound for what passes, never scaled by array size; NaN is no agreement;
a rule with `symbolic_zeros` is also looked at with each argument perturbed alone, and each result used
alone; and what could be judged only in part, or only as a subgradient, is told by a `GradientCheckWarning`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.check.bounds import bounds_of
from jaxcheck.check.derivative import check, on_numbers
from jaxcheck.check.door import door
from jaxcheck.foreign import is_array
from jaxcheck.problem import derivatives
from jaxcheck.problem.map import Map
from jaxcheck.problem.subject import by_values
from jaxcheck.program.objective import NOT_TRACEABLE, Traced
from jaxcheck.result import GradientInconclusive, GradientMismatch, Verdict
from jaxcheck.theta import Theta
from jaxcheck.tracebacks import OnError

_MODES = ("fwd", "rev", "lin")


@door(silent=True)
def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int,
    modes: str | Sequence[str] = ("fwd", "rev"),
    atol: Any = None,
    rtol: Any = None,
    eps: Any = None,
) -> Any:
    """Check JVPs and VJPs of `f` up to `order` against differences in float64.

    Args:
        f: function of pytrees to a pytree. Integer, bool and key leaves are carried along.
        args: tuple of its arguments.
        order: up to which order derivatives are checked, at least 1.
        modes: "fwd", "rev", "lin", as in JAX: one of them, or several.
        atol, rtol: the caller's bounds (a number, or a dict by dtype as in JAX, of which the largest
            value counts among the dtypes that take part), in place of the default 1e-7 relative. Not scaled by size.
        eps: accepted for compatibility; steps are chosen by the ladder.

    Raises:
        GradientMismatch: an AssertionError that carries a report, where a derivative is wrong.
        GradientInconclusive: an AssertionError, where nothing could be judged, or `f` is random.
        TypeError: nothing in `args`, or nothing that `f` returns, can be differentiated.
        ValueError: for an unknown mode, an order below 1, or a bound that is negative or not finite.
        Whatever JAX raises when it differentiates `f`.

    Warns:
        GradientCheckWarning: once, where it passed but part of it could not be judged (outputs that are infinite,
            say, or differences that are alone and known to no more than 1e-3), or is known only to be a subgradient
            (at a kink).
    """
    del eps
    modes = _modes(modes)
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or order < 1:
        raise ValueError(f"order={order!r}: a whole number, at least 1")
    bounds = bounds_of(rtol, atol)

    def make(primal: Traced, point: tuple[Any, ...], theta: Theta) -> list[Map]:
        return list(derivatives.orders("", primal, point, int(order), modes))

    def native(primal: Traced, point: tuple[Any, ...], theta: Theta) -> Map:
        return derivatives.make("", primal, point, modes, precision="native")

    def valued(primal: Traced, point: tuple[Any, ...], theta: Theta) -> dict[str, Traced]:
        return derivatives.values(primal, point, modes)

    try:
        with OnError(lambda error: _said_beside(error, args, modes)):
            return check(f, args, make, native, valued, bounds, modes=modes)
    except NOT_TRACEABLE:
        report = on_numbers(f, tuple(args), bounds) if (set(modes), order) == ({"rev"}, 1) else None
        if report is None:
            raise
    if report.verdict is not Verdict.PASS:
        raise (GradientMismatch if report.verdict is Verdict.FAIL else GradientInconclusive)(report) from None
    return report


def _modes(given: Any) -> tuple[str, ...]:
    modes = re.split(r"[,\s]+", given) if isinstance(given, str) else given
    if not isinstance(modes, (tuple, list, set)) or set(modes) - set(_MODES) or not modes:
        raise ValueError(f'modes={given!r}: use "fwd", "rev" and "lin"')
    return tuple(modes)


def _said_beside(error: Exception, args: Any, modes: tuple[str, ...]) -> None:
    """What to write, where JAX's own words do not say it."""
    by_values(error)
    if not isinstance(error, TypeError):
        return
    if "custom_vjp" in str(error) and "forward-mode" in str(error) and "rev" in modes:
        error.add_note('modes=["rev"] leaves the forward mode out, which a custom_vjp does not have')
    if is_array(args):
        error.add_note("args is an array, of which every row is taken for an argument of its own: write args=(x,)")


@door(silent=True)
def check_jvp(
    f: Callable[..., Any],
    f_jvp: Callable[..., Any],
    args: Sequence[Any],
    atol: Any = None,
    rtol: Any = None,
    eps: Any = None,
    err_msg: str = "",
) -> Any:
    """Check `f_jvp(args, tangents) -> (out, out_tangents)` (say `partial(jax.jvp, f)`) against differences.

    Arguments, errors and warnings as in `check_grads`; `err_msg` begins the message.
    """
    del eps
    return check(
        f,
        args,
        *_given(_function("f_jvp", f_jvp), None),
        bounds_of(rtol, atol),
        err_msg,
        "check_jvp",
        _by_jax(f_jvp, jax.jvp, "fwd"),
    )


@door(silent=True)
def check_vjp(
    f: Callable[..., Any],
    f_vjp: Callable[..., Any],
    args: Sequence[Any],
    atol: Any = None,
    rtol: Any = None,
    eps: Any = None,
    err_msg: str = "",
) -> Any:
    """Check `f_vjp(*args) -> (out, pull_back)` (say `partial(jax.vjp, f)`) against differences.

    Arguments, errors and warnings as in `check_grads`; `err_msg` begins the message.
    """
    del eps
    return check(
        f,
        args,
        *_given(None, _function("f_vjp", f_vjp)),
        bounds_of(rtol, atol),
        err_msg,
        "check_vjp",
        _by_jax(f_vjp, jax.vjp, "rev"),
    )


def _by_jax(given: Any, way: Callable, mode: str) -> tuple[str, ...]:
    """The mode in which JAX differentiates, where the derivative is `partial(jax.jvp, f)`, or that of `jax.vjp`."""
    return (mode,) if isinstance(given, functools.partial) and given.func is way else ()


def _function(name: str, given: Any) -> Callable:
    if not callable(given):
        raise TypeError(f"{name} is of type {type(given).__name__}, not a function; it comes before args")
    return given


def _given(f_jvp: Callable | None, f_vjp: Callable | None) -> tuple[Callable, Callable, Callable]:
    """What makes the map of a derivative of the caller's: in float64 (a list of it), and natively; and the values."""

    def make(primal: Traced, point: tuple[Any, ...], theta: Theta, precision: str = "float64") -> Map:
        return derivatives.given(theta, primal, point, f_jvp, f_vjp, precision)

    def valued(primal: Traced, point: tuple[Any, ...], theta: Theta) -> dict[str, Traced]:
        return derivatives.given_values(theta, point, f_jvp, f_vjp)

    return lambda *three: [make(*three)], functools.partial(make, precision="native"), valued
