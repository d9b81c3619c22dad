"""A gradient in float64 that is not JAX's, beside a loss that is: JAX's default mode rounds what the loss is given to
float32, and another gradient is right there. Before such a one is convicted, it is judged in the 64-bit mode."""

from __future__ import annotations

import dataclasses
import functools
import gc
from collections.abc import Callable
from typing import ParamSpec

import jax
import numpy as np

from jaxcheck.bars import FINE_UNIT
from jaxcheck.problem.problem import Problem
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.mode import is_wide
from jaxcheck.result import Reason, Report

AT_FULL_LENGTH = (
    "The gradient is NumPy's, in float64. JAX's default mode rounds what the loss is given to float32, where it is "
    "another one; so it was judged in the 64-bit mode (jax_enable_x64), at the numbers as they are."
)

Parameters = ParamSpec("Parameters")


def at_full_length(f: Callable[Parameters, Report]) -> Callable[Parameters, Report]:
    """Decorator of a door: a report that `may_differ` is made once more, in the 64-bit mode.

    Not inside the first check: JAX remembers by object what it rounded, for as long as that check holds its programs.
    """

    @functools.wraps(f)
    def door(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Report:
        __tracebackhide__ = True
        report = f(*args, **kwargs)
        if not getattr(report, "_may_differ", False):
            return report
        gc.collect()
        with jax.enable_x64(True):
            try:
                wide = ask(f, *args, **{**kwargs, "resume": None})
            except Refused:  # the caller's functions may be written for one mode alone
                return report
        if getattr(wide, "_stale", False):  # what JAX rounded, it remembers all the same
            return report
        return dataclasses.replace(wide, notes=(AT_FULL_LENGTH, *wide.notes))

    return door


def may_differ(report: Report, problem: Problem) -> Report:
    """The report, with a mark where it may owe that it is no PASS to the 32-bit mode."""
    doubted = any(leaf.reason in (Reason.MANUAL_WRONG, Reason.PRECISION) for leaf in report.leaves)
    if not report.ok and doubted and not is_wide() and _computed_elsewhere(problem):
        object.__setattr__(report, "_may_differ", True)  # beside its fields: neither compared, saved nor pickled
    if is_wide() and problem.primal is not None and problem.primal.stale:
        object.__setattr__(report, "_stale", True)
    return report


def _computed_elsewhere(problem: Problem) -> bool:
    """Whether the gradient is given as numbers in float64, and the loss is a program of JAX's."""
    if problem.primal is None or problem.numbers is None:
        return False
    return problem.numbers_unit is not None and bool(np.min(problem.numbers_unit, initial=1.0) < FINE_UNIT)
