"""Autodiff with nothing held back: of the same function, its `stop_gradient`s taken for what they compute.

Such a one makes autodiff another derivative than that of the function, and where differences see too little, there is
nobody else to say so.
"""

from __future__ import annotations

import contextlib
import dataclasses

import jax
import numpy as np

from jaxcheck.evidence import exact, roundoff
from jaxcheck.evidence.measured import LeafEvidence, Probes
from jaxcheck.evidence.witnesses import in_turn
from jaxcheck.problem.problem import Problem
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.custom.census import has_stop_gradient
from jaxcheck.program.custom.strip import without_stops
from jaxcheck.program.derived import OutOfReach, base, gradient
from jaxcheck.program.objective import Traced
from jaxcheck.there import there

# Leaves of more components keep the directions that they were looked at along, and get so many components, those that
# are off the most.
EACH, MOST = 4096, 64


@dataclasses.dataclass(frozen=True, eq=False)
class Freed:
    """(G, P) the derivative of the function with nothing held back, and its bars; programs compiled."""

    gradient: np.ndarray
    error: np.ndarray
    compiled: int

    def of(self, ev: LeafEvidence) -> tuple[np.ndarray, np.ndarray]:
        """(G, n) the gradient in one leaf, and its bars."""
        where = slice(ev.leaf.start, ev.leaf.stop)
        return self.gradient[:, where], self.error[:, where]

    def probes(self, ev: LeafEvidence) -> tuple[Probes, ...]:
        """What differences would say of a leaf if they had its digits: of each component, or along what they saw."""
        value, error = self.of(ev)
        count = value.shape[1]
        at = np.arange(count) if count <= EACH else np.argsort(-np.abs(ev.m - value).max(axis=0), kind="stable")[:MOST]
        yes = np.ones(len(at), bool)
        single = Probes(exact.known(value[:, at].T, error[:, at].T), indices=at, crossed=~yes, analytic=yes)
        if count <= EACH:
            return (single,)
        those = (
            dataclasses.replace(p, slopes=exact.known(p.project(value), p.project_error(error))) for p in ev.probes
        )
        return (*those, single)


def holds_back(problem: Problem) -> bool:
    """Whether the function, without its custom rules, holds derivatives back."""
    primal = problem.primal
    return primal is not None and primal.closed is not None and has_stop_gradient(base(primal, stripped=True))


def measure(problem: Problem, point: np.ndarray) -> Freed | None:
    """None where there is no such derivative, or it is no number."""
    made = None
    with contextlib.suppress(Refused, OutOfReach):
        try:
            made = ask(_traced, problem)
        except Refused:  # no reverse mode, it may be
            made = ask(_traced, problem, forward=True)
    if made is None:
        return None
    alone = dataclasses.replace(problem, manual=None, autodiff=made)
    with jax.enable_x64(True):
        (found,), compiled = in_turn(alone, [made], point[None])
    (_, bars), new = roundoff.gradients(alone, point)
    if not np.isfinite(found).all():
        return None
    return Freed(found[0], np.where(np.isfinite(there(bars)), there(bars), np.inf), compiled + new)


def _traced(problem: Problem, forward: bool = False) -> Traced | None:
    primal = problem.loss
    freed = without_stops(base(primal, stripped=True))
    if has_stop_gradient(freed):
        return None  # inside of a rule
    leaves = problem.theta.inexact()
    alone = dataclasses.replace(primal, closed=freed, mixed=False, source=None)
    return gradient(alone, leaves, problem.extras, stripped=True, forward=forward)
