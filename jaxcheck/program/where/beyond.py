"""What a search cannot see to the end: kernels and host functions, which may be wrong themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcheck.bars import SAME_VALUE
from jaxcheck.formula import norm2
from jaxcheck.program.where.foreign import is_foreign
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.projections import downstream
from jaxcheck.program.where.sites import Site


def unproved(problem: Problem) -> list[int]:
    """The operations of kernels and host functions that give a result what the loss does not know, number by number; or
    knows of either sign, as the cotangents are of what is subtracted and what it is subtracted from."""
    tape, values = problem.tape, problem.runs[0]
    needed = tape.needed()
    outs = [(k, op.outs[0]) for k, op in enumerate(tape.ops) if is_foreign(op.name)]
    return [k for k, i in outs if i in needed and not _is_known(problem, values[i])]


def _is_known(problem: Problem, x: np.ndarray) -> bool:
    """Whether an array, and not its negative, stands among the loss's values, slopes and cotangents."""
    if x.dtype.kind not in "fc":
        return True
    truths = [g.arrays[0] for g in problem.truths if g.what in ("cotangent", "local")]
    those = [y.ravel() for y in (*problem.loss[1][0], *(y for several in truths for y in several)) if y.size == x.size]
    least = SAME_VALUE * float(norm2(x))
    here, opposite = (any(float(norm2(sign * x.ravel() - y)) <= least for y in those) for sign in (1, -1))
    return here and not opposite


def nameable(problem: Problem, those: Sequence[Site]) -> list[Site]:
    """The sites of which a change may prove anything: not those after a kernel or a host function that may be wrong
    itself, nor those beside it. A change there may only make up for it."""
    doubted = unproved(problem)
    return [s for s in those if not is_foreign(s.name) and (not doubted or _before(problem, s, doubted))]


def proves(problem: Problem, fields: dict[str, Any]) -> bool:
    """Whether a change that repairs proves what comes after it: where that is not known to be right, only one by which
    a value that was none becomes one of the loss's."""
    return bool(fields["becomes"] and not fields["was"]) or not unproved(problem)


def _before(problem: Problem, site: Site, those: Sequence[int]) -> bool:
    """Whether each of some operations takes, by whatever way, what a site gives."""
    tape = problem.tape
    return all(not downstream(problem, site, k - 1)[0].isdisjoint(tape.ops[k].ins) for k in those)
