"""A constant that a line lacks, and a sum on another line that should have been a mean, or a mean that should have been
a sum: one is as likely as the other."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import NICE
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.tape import Op

# Operations that pass a constant on from any operand, or from the first alone.
_BOTH, _FIRST = (
    ("mul",),
    ("div", "neg", "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "convert_element_type"),
)
# Operations that are looked through.
MOST = 16


def where_summed(problem: Problem, edit: Edit) -> list[Edit]:
    """A change by a constant, as one of what another line sums for this one alone, where it makes a mean of a sum, or a
    sum of a mean."""
    if edit.form != "scale" or len(edit.site.ops) != 1:
        return []
    tape, k = problem.tape, edit.site.ops[0]
    line, function = edit.site.place[:2], edit.site.place.function
    queue = [tape.ops[k].ins[edit.slot]] if edit.slot != OUT else _passed(tape.ops[k])
    for _ in range(MOST):
        if not queue:
            break
        i = queue.pop(0)
        made = tape.makers.get(i)
        op = None if made is None else tape.ops[made]
        if op is None or not op.stack or len(problem.users.get(i, ())) > 1:
            continue
        elsewhere = op.stack[0][:2] != line
        if elsewhere and op.stack[0].function == function and _is_so(problem, op, edit.factor):
            site = next((s for s in problem.sites if s.ops == (made,)), None)
            moved = None if site is None else dataclasses.replace(edit, site=site, slot=OUT)
            return [moved] if moved is not None and problem.repairs(moved) else []
        queue += _passed(op) if not elsewhere or op.name in _FIRST[1:] else ()
    return []


def _passed(op: Op) -> list[int]:
    return list(op.ins if op.name in _BOTH else op.ins[:1] if op.name in _FIRST else ())


def _is_so(problem: Problem, op: Op, c: float) -> bool:
    """Whether a constant makes a mean of a sum, or the other way round."""
    tape, mean = problem.tape, op.name == "div"
    k = tape.makers.get(op.ins[0]) if mean else None
    summed = op if not mean else tape.ops[k] if k is not None else None
    while summed is not None and summed.name in _FIRST[1:]:
        k = tape.makers.get(summed.ins[0])
        summed = None if k is None else tape.ops[k]
    if summed is None or summed.name != "reduce_sum" or summed.stack != op.stack:
        return False
    count = np.size(tape.values[summed.ins[0]]) / max(np.size(tape.values[summed.outs[0]]), 1)
    return abs(abs(c) * (1 / count if mean else count) - 1) <= NICE
