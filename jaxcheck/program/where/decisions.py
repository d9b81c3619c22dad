"""Changes of what a program decides by: a comparison that is another one may decide the same at two points, so that
more than these are asked before it is said how it should be written."""

from __future__ import annotations

import time

import numpy as np

from jaxcheck.bars import ASTRAY
from jaxcheck.program.where.edits import OUT, Edit, value_of
from jaxcheck.program.where.further import COUNT, Further
from jaxcheck.program.where.nonsense import tried
from jaxcheck.program.where.problem import Problem

# What of the time that is left further points may take, for one change.
PART = 0.1
# Operations whose result is a choice among values, or says which of a few cases holds.
_CHOOSING = ("select_n", "max", "min", "clamp")
_STEPS = ("sign", "floor", "ceil", "round")


def is_unproved(problem: Problem, edit: Edit) -> bool:
    """Whether a change is one of a decision that more points refute, or do not get to prove."""
    return is_decision(problem, edit) and not _stands(problem, edit)


def is_decision(problem: Problem, edit: Edit) -> bool:
    """Whether the results depend on what is changed only through what is decided by it."""
    tape = problem.tape
    if is_of_mask(problem, edit) or (edit.other is not None and edit.site.name in _CHOOSING):
        return True
    outputs, queue, seen = set(tape.outputs), [o for k in edit.site.ops for o in tape.ops[k].outs], set()
    own = set(queue) if edit.slot == OUT and edit.other is None else set()
    while queue:
        i = queue.pop()
        step = i not in own and tape.ops[tape.makers[i]].name in _STEPS
        if i in seen or problem.runs[0][i].dtype.kind in "bi" or step:
            continue
        if i in outputs:
            return False
        seen.add(i)
        queue += [o for k in problem.users.get(i, ()) for o in tape.ops[k].outs]
    return True


def is_of_mask(problem: Problem, edit: Edit) -> bool:
    """Whether a change of the pass's own makes another mask of ones and zeros of one."""
    op, values = problem.tape.ops[edit.site.ops[0]], problem.runs[0]
    old = values[op.outs[0] if edit.slot == OUT else op.ins[edit.slot]]
    if edit.other is not None or not _is_mask(old) or any(g.what != "own" for g in edit.groups):
        return False
    new = tried(edit.made_of, old, *(value_of(g, 0, len(edit.site.ops), values, 0, False) for g in edit.groups))
    return new is not None and _is_mask(new)


def _is_mask(x: np.ndarray) -> bool:
    return bool(np.size(x)) and not ((x != 0) & (x != 1)).any()


def _stands(problem: Problem, edit: Edit) -> bool:
    """Whether a change repairs at further points as well. What the loss knows is not known there."""
    further = problem.further
    if further is None or any(g.what != "own" for e in (*problem.made, edit) for g in e.groups):
        return False
    end, asked = time.perf_counter() + PART * (problem.deadline - time.perf_counter()), 0
    for n in range(COUNT):
        if time.perf_counter() > end:
            return False
        repaired = _repairs(problem, edit, further, n)
        if repaired is False:
            return False
        asked += repaired is True
    return 2 * asked > COUNT


def _repairs(problem: Problem, edit: Edit, further: Further, n: int) -> bool | None:
    """Whether a change repairs at a further point; None where that says nothing."""
    point = further.at(n)
    if point is None:
        return None
    values, targets = point
    edits = {k: f for e in (*problem.made, edit) for k, f in e.at(problem.tape, 0).items()}
    found = tried(problem.tape.replay, values, {}, edits, min(edits))
    if found is None:
        return False
    results = [found[o] for o in problem.tape.outputs]
    return all(
        float(np.linalg.norm(x - t)) <= ASTRAY * float(np.linalg.norm(t)) for x, t in zip(results, targets, strict=True)
    )
