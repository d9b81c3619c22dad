"""The derivatives of a function held against differences: the walk behind the doors of `jaxcheck.test_util`."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck import session
from jaxcheck.check.alone import Part, looked_at
from jaxcheck.check.arguments import Called, in_a_tuple
from jaxcheck.check.bounds import Bounds
from jaxcheck.check.by_leaf import by_leaf
from jaxcheck.check.by_value import wrong_values
from jaxcheck.check.doubts import again, as_run_maps
from jaxcheck.check.drop_in import VALUES, inconclusive, tell
from jaxcheck.check.drop_in_floor import floor
from jaxcheck.check.engine import examine
from jaxcheck.check.made import made
from jaxcheck.check.settings import Settings
from jaxcheck.evidence import maps
from jaxcheck.judgement.findings import Finding
from jaxcheck.judgement.maps import judge
from jaxcheck.problem import twice
from jaxcheck.problem.map import Map
from jaxcheck.problem.of_rule import prepare_rule
from jaxcheck.problem.preface import narrow
from jaxcheck.problem.refused import refuse_tracing
from jaxcheck.problem.subject import argument_names, subject
from jaxcheck.problem.user import first_line, to_array
from jaxcheck.program import decided
from jaxcheck.program.constants import own
from jaxcheck.program.custom.census import sees_zeros
from jaxcheck.program.objective import NOT_TRACEABLE, Traced, trace
from jaxcheck.result import Reason, Report, Verdict
from jaxcheck.theta import Theta, no_leaf, take_apart


def check(
    f: Callable,
    args: Sequence[Any],
    make: Callable,
    native: Callable,
    valued: Callable,
    bounds: Bounds,
    err_msg: str = "",
    kind: str = "check_grads",
    modes: Sequence[str] = (),
) -> Report | None:
    """The report of what passed, which the doors tell to whoever listens and do not return.

    Args:
        modes: in which JAX differentiates `f`: none where the caller does.
    """
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
    parts, missing = [], []
    if modes and sees_zeros(as_traced.closed) and all(finding.verdict is not Verdict.FAIL for _, finding in findings):
        parts, missing = looked_at(primal, point, modes, names, theta, settings)
        findings += [("", finding) for part in parts for finding in part.found]
    look = functools.partial(_looked_into, list(zip(found, evidence, strict=True)), parts, names, settings)
    plain = all(finding.reason is Reason.AGREE for _, finding in findings) and primal.how != "native"
    if plain and session.heard():  # nobody else sees it
        head["floor"] = floor(evidence[0], settings, as_traced.unit if is_narrow else 0.0)
    return tell(findings, head, err_msg, look, (*besides, *missing))


def _looked_into(
    those: Sequence[tuple[Map, maps.MapEvidence]],
    parts: Sequence[Part],
    names: Sequence[str],
    settings: Settings,
    name: str,
    finding: Finding,
) -> Report | None:
    """What is wrong leaf by leaf, of the derivative of that name, or of the part of it that a finding is about."""
    if finding.what in VALUES:
        return None
    for part in parts:
        if any(finding is one for one in part.found):
            return by_leaf(part.one, part.evidence, part.names, finding, settings)
    one, ev = next(pair for pair in those if pair[0].name == name)
    return by_leaf(one, ev, names, finding, settings)


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
    refuse_tracing(args=args)
    theta = take_apart(args, "args")
    if not theta.leaves:
        raise no_leaf(theta, "args has no differentiable leaf (float or complex); it holds")
    return theta


def _findings(
    found: Sequence[Map], evidence: Sequence[maps.MapEvidence], settings: Settings
) -> list[tuple[str, Finding]]:
    """What is found of each derivative, by its name; whoever is in doubt examined until the first that is wrong."""
    findings: list[tuple[str, Finding]] = []
    for one, ev in zip(found, evidence, strict=True):
        told = judge(ev, settings.tolerance, must_see=settings.must_catch)
        if all(finding.verdict is not Verdict.FAIL for _, finding in findings):
            told = again.settled(one, ev, told, settings)
        findings += [(one.name, finding) for finding in told]
    return findings


def on_numbers(f: Callable[..., Any], args: tuple[Any, ...], bounds: Bounds) -> Report | None:
    """The report on a rule that runs on numbers alone; None where that is not what cannot be traced."""
    one = subject(f, args, {}, None, "float64", None)
    problem, preface = prepare_rule(one, 0, "float64")
    if problem.host_manual is None:
        return None
    dtypes = {str(a.dtype) for a in (*one.primal.closed.in_avals, *one.primal.closed.out_avals)}
    settings = Settings.make(None, bounds(dtypes), None, False, 0, "float64")
    report = examine(problem, preface, settings, kind="check_grads", name=one.name, start=0.0)
    return dataclasses.replace(report, seconds=math.nan)


def _arguments(f: Any, args: Any, kind: str) -> tuple[Any, ...]:
    if not callable(f):
        raise TypeError(f"f must be a function, not {type(f).__name__}: {kind}(f, args, ...)")
    if not isinstance(args, Iterable):
        raise TypeError(f"args must be a tuple of f's arguments, not {type(args).__name__}: write args=(x,)")
    return tuple(args)
