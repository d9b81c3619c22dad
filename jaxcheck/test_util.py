"""Drop-in for `jax.test_util`: change one import.

    from jaxcheck.test_util import check_grads, check_jvp, check_vjp

Same signatures, same AssertionErrors. What differs: differences are taken in float64 whatever the
arguments' dtype, with steps chosen by jaxcheck (`eps` is accepted and not needed); a tolerance that
the caller gives is an upper bound for what passes, never scaled by array size; NaN is no agreement;
and what could be judged only in part, or only as a subgradient, is told by a `GradientCheckWarning`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck import again, as_run_maps, session
from jaxcheck.arguments import Called, in_a_tuple
from jaxcheck.bounds import Bounds, bounds_of
from jaxcheck.by_leaf import by_leaf
from jaxcheck.by_value import wrong_values
from jaxcheck.door import door
from jaxcheck.drop_in import VALUES, inconclusive, tell
from jaxcheck.drop_in_floor import floor
from jaxcheck.engine import examine
from jaxcheck.evidence import derivatives, maps, twice
from jaxcheck.evidence.preface import narrow
from jaxcheck.evidence.prepare_rule import prepare_rule
from jaxcheck.evidence.subject import argument_names, by_values, subject
from jaxcheck.evidence.user import first_line, refuse_tracing, to_array
from jaxcheck.foreign import is_array
from jaxcheck.judgement.findings import Finding
from jaxcheck.judgement.maps import judge
from jaxcheck.made import made
from jaxcheck.program import decided
from jaxcheck.program.constants import own
from jaxcheck.program.objective import NOT_TRACEABLE, Traced, trace
from jaxcheck.result import GradientInconclusive, GradientMismatch, Reason, Report, Verdict
from jaxcheck.settings import Settings
from jaxcheck.theta import Theta, no_leaf, take_apart
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

    def make(primal: Traced, point: tuple[Any, ...], theta: Theta) -> list[maps.Map]:
        return list(derivatives.orders("", primal, point, int(order), modes))

    def native(primal: Traced, point: tuple[Any, ...], theta: Theta) -> maps.Map:
        return derivatives.make("", primal, point, modes, precision="native")

    def valued(primal: Traced, point: tuple[Any, ...], theta: Theta) -> dict[str, Traced]:
        return derivatives.values(primal, point, modes)

    try:
        with OnError(lambda error: _said_beside(error, args, modes)):
            return _check(f, args, make, native, valued, bounds)
    except NOT_TRACEABLE:
        report = _on_numbers(f, tuple(args), bounds) if (set(modes), order) == ({"rev"}, 1) else None
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


def _arguments(f: Any, args: Any, kind: str) -> tuple[Any, ...]:
    if not callable(f):
        raise TypeError(f"f must be a function, not {type(f).__name__}: {kind}(f, args, ...)")
    if not isinstance(args, Iterable):
        raise TypeError(f"args must be a tuple of f's arguments, not {type(args).__name__}: write args=(x,)")
    return tuple(args)


def _said_beside(error: Exception, args: Any, modes: tuple[str, ...]) -> None:
    """What to write, where JAX's own words do not say it."""
    by_values(error)
    if not isinstance(error, TypeError):
        return
    if "custom_vjp" in str(error) and "forward-mode" in str(error) and "rev" in modes:
        error.add_note('modes=["rev"] leaves the forward mode out, which a custom_vjp does not have')
    if is_array(args):
        error.add_note("args is an array, of which every row is taken for an argument of its own: write args=(x,)")


def _on_numbers(f: Callable[..., Any], args: tuple[Any, ...], bounds: Bounds) -> Report | None:
    """The report on a rule that runs on numbers alone; None where that is not what cannot be traced."""
    one = subject(f, args, {}, None, "float64", None)
    problem, preface = prepare_rule(one, 0, "float64")
    if problem.host_manual is None:
        return None
    dtypes = {str(a.dtype) for a in (*one.primal.closed.in_avals, *one.primal.closed.out_avals)}
    settings = Settings.make(None, bounds(dtypes), None, False, 0, "float64")
    report = examine(problem, preface, settings, kind="check_grads", name=one.name, start=0.0)
    return dataclasses.replace(report, seconds=math.nan)


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
    return _check(f, args, *_given(f_jvp, None), bounds_of(rtol, atol), err_msg, "check_jvp")


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
    return _check(f, args, *_given(None, f_vjp), bounds_of(rtol, atol), err_msg, "check_vjp")


def _given(f_jvp: Callable | None, f_vjp: Callable | None) -> tuple[Callable, Callable, Callable]:
    """What makes the map of a derivative of the caller's: in float64 (a list of it), and natively; and the values."""

    def make(primal: Traced, point: tuple[Any, ...], theta: Theta, precision: str = "float64") -> maps.Map:
        return derivatives.given(theta, primal, point, f_jvp, f_vjp, precision)

    def valued(primal: Traced, point: tuple[Any, ...], theta: Theta) -> dict[str, Traced]:
        return derivatives.given_values(theta, point, f_jvp, f_vjp)

    return lambda *three: [make(*three)], functools.partial(make, precision="native"), valued


def _check(
    f: Callable,
    args: Sequence[Any],
    make: Callable,
    native: Callable,
    valued: Callable,
    bounds: Bounds,
    err_msg: str = "",
    kind: str = "check_grads",
) -> Report | None:
    """The report of what passed, which the doors tell to whoever listens and do not return."""
    args = _arguments(f, args, kind)
    theta = _taken_apart(args)
    # Numbers as JAX itself would take them: at cos(math.pi) in float32 the slope is not zero.
    point = tuple(to_array(own(x)) for x in theta.inexact())
    name = getattr(f, "__name__", type(f).__name__)
    head = {"kind": kind, "name": name, "carried": theta.carried, "made": made(f)}
    random = Report(verdict=Verdict.INCONCLUSIVE, reason=Reason.NONDETERMINISTIC, **head)
    try:
        as_traced, primal = _traced(_flat(f, args, theta), list(point), random, err_msg)
    except NOT_TRACEABLE:
        along = decided.of(f, args, {})
        as_traced, primal = _traced(_flat(along, args, theta), list(point), random, err_msg)
        head["notes"] = (decided.said(f, along, args, {}),)
    is_narrow = narrow(theta, primal)
    if not theta.size:
        return None  # every differentiable leaf is empty, and of an empty array nothing can be wrong
    found = make(primal, point, theta)
    evidence, compiled = maps.measure(found, seed=0)
    head |= {"evaluations": sum(len(maps.LADDER.offsets) * len(ev.directions) for ev in evidence), "compiled": compiled}
    tolerance = bounds({str(x.dtype) for x in (*as_traced.closed.in_avals, *as_traced.closed.out_avals)})
    settings = Settings.make(None, tolerance, None, False, 0, "float64")
    findings = _findings(found, evidence, settings)
    head["evaluations"] += sum(finding.evaluations for _, finding in findings)
    head["compiled"] += sum(finding.compiled for _, finding in findings)
    besides = ()
    if is_narrow:
        run = functools.cache(lambda: native(as_traced, point, theta))
        findings = as_run_maps.beside(found[0], run, findings, settings, as_traced.unit, head, err_msg)
        besides = as_run_maps.narrower(run)
    findings = [*findings, *wrong_values(primal, point, valued(primal, point, theta), tolerance.bound, tolerance.atol)]
    names = [leaf.path for leaf in take_apart(args, names=argument_names(f, len(args))).leaves]
    first_of = {one.name: (one, ev) for one, ev in zip(reversed(found), reversed(evidence), strict=True)}

    def looked_into(name: str, finding: Finding) -> Report | None:
        return None if finding.what in VALUES else by_leaf(*first_of[name], names, finding, settings)

    plain = all(finding.reason is Reason.AGREE for _, finding in findings) and primal.how != "native"
    if plain and session.heard():  # nobody else sees it
        head["floor"] = floor(evidence[0], settings, as_traced.unit if is_narrow else 0.0)
    return tell(findings, head, err_msg, looked_into, besides)


def _flat(f: Callable, args: tuple[Any, ...], theta: Theta) -> Callable:
    """`f` from flat leaves to its float and complex outputs."""
    called = Called(lambda names: f"write args={in_a_tuple(names)}", (f,), args)

    def flat(leaves, extras):
        with called:
            out = jax.tree_util.tree_leaves(f(*theta.rebuild(leaves)))
        return [x for x in out if jax.dtypes.issubdtype(jax.dtypes.result_type(x), np.inexact)]

    return flat


def _traced(flat: Callable, point: list[Any], random: Report, err_msg: str) -> tuple[Traced, Traced]:
    """(the program in the caller's dtypes, in float64). Raises with `random` where it is another one each time."""
    try:
        as_traced = twice.traced(flat, point)
    except jax.errors.UnexpectedTracerError as error:
        jax.vjp(lambda xs: flat(xs, []), point)  # what JAX does not differentiate either it refuses in its own words
        said = dataclasses.replace(random, reason=Reason.UNDIFFERENTIABLE, notes=(first_line(error),))
        inconclusive(said, err_msg)
    if as_traced is None:
        inconclusive(random, err_msg)
    primal = trace(flat, point, [])
    # What runs natively is foreign code, or holds some: a trace does not show whether it is random.
    if primal.note and not twice.runs_alike(flat, point, primal.unit):
        inconclusive(random, err_msg)
    if not primal.closed.out_avals:
        raise TypeError("f returned no float or complex output: there is nothing to differentiate")
    return as_traced, primal


def _taken_apart(args: tuple[Any, ...]) -> Theta:
    refuse_tracing(args)
    theta = take_apart(args, "args")
    if not theta.leaves:
        raise no_leaf(theta, "args has no differentiable leaf (float or complex); it holds")
    return theta


def _findings(
    found: Sequence[maps.Map], evidence: Sequence[maps.MapEvidence], settings: Settings
) -> list[tuple[str, Finding]]:
    """What is found of each derivative, by its name; whoever is in doubt examined until the first that is wrong."""
    findings: list[tuple[str, Finding]] = []
    for one, ev in zip(found, evidence, strict=True):
        told = judge(ev, settings.tolerance, must_see=settings.must_catch)
        if all(finding.verdict is not Verdict.FAIL for _, finding in findings):
            told = again.settled(one, ev, told, settings)
        findings += [(one.name, finding) for finding in told]
    return findings
