"""Leaves that are the parameter of a sampler by rejection, which no difference can judge.

JAX differentiates `jax.random.gamma` (and beta, dirichlet, t, chisquare, which are made of it) by implicit
reparameterisation, and so do libraries by rules of their own around a loop that draws until it accepts: how a draw
moves with its distribution, given its quantile. At a fixed key the sampler itself is another function: proposals are
accepted or not, so that it jumps, and between jumps it moves otherwise. Both are right; they are not the same number.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.check.settings import Case
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.judgement.maps import Finding
from jaxcheck.judgement.vote import Opinion
from jaxcheck.program import draws
from jaxcheck.program.custom import rules
from jaxcheck.program.objective import Traced
from jaxcheck.result import Reason, Verdict


def concerns(case: Case, number: int) -> bool:
    """Whether a leaf is such a parameter."""
    primal = case.problem.primal
    if primal is None:
        return False
    if case.sampler is None:
        case.sampler = of_map(primal)
    return case.sampler and _samples(primal, {number})


def of_map(primal: Traced) -> bool:
    """Whether some input of a map is such a parameter."""
    return _samples(primal, set(range(len(primal.program.closed.in_avals))))


def _samples(primal: Traced, moved: set[int]) -> bool:
    program = primal.closed  # with its rules
    return draws.implicit(program, [i in moved and rules.is_inexact(a) for i, a in enumerate(program.in_avals)])


def settled(case: Case, ev: LeafEvidence) -> tuple[LeafEvidence, Opinion]:
    """The evidence of such a leaf without its differences, and the opinion that it cannot be judged."""

    def nothing(probe):
        gone = np.full_like(probe.slopes.value, np.nan)
        return dataclasses.replace(
            probe,
            slopes=dataclasses.replace(
                probe.slopes,
                value=gone,
                error=np.full_like(gone, np.inf),
                kink=np.zeros_like(probe.slopes.kink),
                jump=np.zeros_like(probe.slopes.jump),
            ),
        )

    ev = dataclasses.replace(ev, probes=tuple(map(nothing, ev.probes)))
    opinion = case.judge(ev)
    if opinion.reason in (Reason.SURROGATE, Reason.NONFINITE) or not ev.leaf.size:
        return ev, opinion
    return ev, dataclasses.replace(opinion, verdict=Verdict.INCONCLUSIVE, reason=Reason.IMPLICIT)


def unjudged(finding: Finding) -> Finding:
    """What differences say of such a map, where they contradict it."""
    if finding.verdict is Verdict.PASS:
        return finding
    return dataclasses.replace(finding, verdict=Verdict.INCONCLUSIVE, reason=Reason.IMPLICIT)
