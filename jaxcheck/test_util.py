"""Drop-in for `jax.test_util`: change one import.

    from jaxcheck.test_util import check_grads, check_jvp, check_vjp

Same signatures, same AssertionErrors. What differs: differences are taken in float64 whatever the
arguments' dtype, with steps chosen by jaxcheck (`eps` is accepted and not needed); a tolerance that
the caller gives is an upper bound for what passes, never scaled by array size; NaN is no agreement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.evidence import derivatives, maps
from jaxcheck.evidence.user import refuse_tracing, to_array
from jaxcheck.judgement.maps import Finding, judge
from jaxcheck.program.calm import calmly
from jaxcheck.program.objective import trace
from jaxcheck.result import GradientInconclusive, GradientMismatch, Reason, Report, Verdict
from jaxcheck.theta import take_apart

_NAMES = {"JVP": "JVP", "VJP": "VJP cotangent projection"}


@calmly
def check_grads(f: Callable, args: Sequence[Any], order: int, modes: Sequence[str] = ("fwd", "rev"),
                atol: Any = None, rtol: Any = None, eps: Any = None) -> None:
    """Check JVPs and VJPs of `f` up to `order` against differences in float64.

    Args:
        f: function of pytrees to a pytree. Integer, bool and key leaves are carried along.
        args: tuple of its arguments.
        order: up to which order derivatives are checked, at least 1.
        modes: "fwd", "rev", "lin", as in JAX.
        atol, rtol: the caller's bounds (a number, or a dict by dtype as in JAX, of which the largest
            value counts), in place of the default 1e-7 relative. Not scaled by size.
        eps: accepted for compatibility; steps are chosen by the ladder.

    Raises:
        GradientMismatch: an AssertionError that carries a report, where a derivative is wrong.
        GradientInconclusive: an AssertionError, where nothing could be judged.
        ValueError: for an unknown mode or an order below 1.
        Whatever JAX raises when it differentiates `f`.
    """
    del eps
    modes = tuple(modes)
    unknown = set(modes) - {"fwd", "rev", "lin"}
    if unknown or not modes:
        raise ValueError(f'modes={modes!r}: use "fwd", "rev" and "lin"')
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or order < 1:
        raise ValueError(f"order={order!r}: a whole number, at least 1")
    args = tuple(args)
    refuse_tracing(args)
    theta = take_apart(args, "args")
    if not theta.size:
        return
    primal, point = _trace(f, theta)
    if not primal.closed.out_avals:
        return
    found = list(derivatives.orders("", primal, point, int(order), modes))
    evidence, _ = maps.measure(found, seed=0)
    findings = []
    for one, ev in zip(found, evidence, strict=True):
        for finding in judge(ev, *_bounds(rtol, atol)):
            findings.append((one.name, finding))
    _raise(f, findings)


@calmly
def check_jvp(f: Callable, f_jvp: Callable, args: Sequence[Any], atol: Any = None, rtol: Any = None,
              eps: Any = None, err_msg: str = "") -> None:
    """Check `f_jvp(args, tangents) -> (out, out_tangents)` (say `partial(jax.jvp, f)`) against differences.

    Arguments and errors as in `check_grads`; `err_msg` begins the message.
    """
    del eps
    _check_one(f, f_jvp, None, args, atol, rtol, err_msg)


@calmly
def check_vjp(f: Callable, f_vjp: Callable, args: Sequence[Any], atol: Any = None, rtol: Any = None,
              eps: Any = None, err_msg: str = "") -> None:
    """Check `f_vjp(*args) -> (out, pull_back)` (say `partial(jax.vjp, f)`) against differences.

    Arguments and errors as in `check_grads`; `err_msg` begins the message.
    """
    del eps
    _check_one(f, None, f_vjp, args, atol, rtol, err_msg)


def _trace(f: Callable, theta: Any):
    def flat(leaves, extras):
        out = f(*theta.rebuild(leaves))
        return [x for x in jax.tree_util.tree_leaves(out) if _is_inexact(x)]

    # Python numbers as JAX itself would take them: at cos(math.pi) in float32 the slope is not zero.
    point = tuple(np.asarray(x, jax.dtypes.canonicalize_dtype(to_array(x).dtype)) if isinstance(x, (float, complex))
                  else to_array(x) for x in theta.inexact())
    return trace(flat, list(point), []), point


def _is_inexact(x: Any) -> bool:
    return bool(jax.dtypes.issubdtype(jax.dtypes.result_type(x), np.inexact))


def _check_one(f, f_jvp, f_vjp, args, atol, rtol, err_msg) -> None:
    args = tuple(args)
    refuse_tracing(args)
    theta = take_apart(args, "args")
    if not theta.size:
        return
    primal, point = _trace(f, theta)
    one = derivatives.given(theta, primal, point, f_jvp, f_vjp)
    (evidence,), _ = maps.measure([one], seed=0)
    _raise(f, [("", finding) for finding in judge(evidence, *_bounds(rtol, atol))], err_msg)


def _bounds(rtol: Any, atol: Any) -> tuple[float, float]:
    """The caller's bounds as two numbers; what is not given stays at jaxcheck's own."""

    def number(x, default):
        if x is None:
            return default
        if isinstance(x, dict):
            return max(map(float, x.values()), default=default)
        return float(x)

    return number(rtol, 1e-7), number(atol, 0.0)


def _raise(f: Callable, findings: Sequence[tuple[str, Finding]], err_msg: str = "") -> None:
    wrong = [(n, x) for n, x in findings if x.verdict is Verdict.FAIL]
    unsure = [(n, x) for n, x in findings if x.verdict is Verdict.INCONCLUSIVE]
    if not wrong and not (unsure and len(unsure) == len(findings)):
        return
    name, finding = (wrong or unsure)[0]
    where = _NAMES[finding.what] + (f" of {name}" if name else "")
    second = Reason.SECOND_ORDER_WRONG if name and wrong else finding.reason
    line = f"{err_msg + ': ' if err_msg else ''}{where}: difference {finding.difference:.2g} (bar {finding.bar:.1g})"
    if not math.isnan(finding.claimed):
        where = f"output {finding.output}" if finding.output >= 0 else "projection"
        line += f"; worst {where}: {finding.claimed:.9g} against {finding.reference:.9g}"
        line += f" ({finding.place})" if finding.place else ""
    notes = (line, finding.note) if finding.note else (line,)
    report = Report(kind="check_grads", name=getattr(f, "__name__", type(f).__name__), verdict=finding.verdict,
                    reason=second, difference=finding.difference, notes=notes)
    raise (GradientMismatch if wrong else GradientInconclusive)(report)
