"""Whether two changes are two mistakes."""

from __future__ import annotations

from typing import Any

from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.search import Found


def of_one(one: Problem, first: Found, second: Found) -> bool:
    """Whether two changes may make up for one mistake before both: they bring in the same, where a square brings in
    what it is of; or do the same to one value."""
    brought = [_brought(one, f.edit) for f in (first, second)]
    done = [_done(one, f.edit) for f in (first, second)]
    return (bool(brought[0]) and brought[0] == brought[1]) or not done[0].isdisjoint(done[1])


def _done(one: Problem, edit: Edit) -> set[Any]:
    """What a change that brings in nothing does, and to which values."""
    return set() if edit.groups else {(x, edit.form, edit.factor, edit.detail) for x in _changed(one, edit)}


def _changed(one: Problem, edit: Edit) -> list[int]:
    """The values that a change makes others of."""
    ops = [one.tape.ops[k] for k in edit.site.ops]
    return [op.outs[0] if edit.slot == OUT else op.ins[edit.slot] for op in ops]


def _brought(one: Problem, edit: Edit) -> set[Any]:
    """What a change brings in, by its numbers; a value of the loss by itself."""
    values = one.runs[0]
    ids = [i for g in edit.groups for i in g.ids]
    if edit.form in ("square", "cube"):
        ids += _changed(one, edit)
    return {(values[i].shape, values[i].tobytes()) for i in ids} | {id(g) for g in edit.groups if not g.ids}
