"""What the function around a line calls a value, as far as its source tells."""

from __future__ import annotations

import ast
import dataclasses

import numpy as np

from jaxcheck.program.where import source, syntax
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.handed import is_argument
from jaxcheck.program.where.places import Place
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Group, Site
from jaxcheck.program.where.tape import Tape


def literal(problem: Problem, edit: Edit) -> float | None:
    """The number of the source that is changed, if it is one."""
    k, *more = edit.site.ops
    if edit.slot == OUT or more:
        return None
    operand = problem.tape.ops[k].ins[edit.slot]
    value = problem.runs[0][operand]
    known = operand in problem.tape.literals and np.size(value) == 1 and value.dtype.kind in "fiu"
    return value.item() if known else None


def value_name(problem: Problem, group: Group, site: Site, edit: Edit | None = None) -> str:
    """How the function that holds a site calls a value of the backward pass there, or "".

    Args:
        edit: what the value takes part in. One that is equal has its name only where the change repairs with it as
            well: what is equal in the wrong program need not be when that is changed (0 + x is x no longer).
    """
    if group.what != "own" or (len(group.ids) > 1) != (len(site.ops) > 1) or group.made[:1] == site.ops[:1]:
        return ""
    values = problem.runs[0]
    same = [
        g
        for g in problem.own
        if len(g.ids) == len(group.ids)
        and all(np.array_equal(values[i], values[j]) for i, j in zip(g.ids, group.ids, strict=True))
    ]
    named = ((g, name) for g in (group, *same) if (name := _named(problem, g, site)))
    return next((name for g, name in named if g is group or edit is None or _as_well(problem, edit, group, g)), "")


def _as_well(problem: Problem, edit: Edit, group: Group, other: Group) -> bool:
    """Whether a change repairs what it does with another value in the place of one of its own."""
    changed = dataclasses.replace(edit, groups=tuple(other if g is group else g for g in edit.groups))
    return problem.repaired(changed) >= problem.repaired(edit)


def _named(problem: Problem, group: Group, site: Site) -> str:
    tape, place = problem.tape, site.place
    found: list[tuple[str, Place, bool]] = []
    k = group.made[0]
    last = k + 1 == len(tape.ops) or tape.ops[k + 1].stack != tape.ops[k].stack  # else a part of the expression
    if group.place is not None and last and not is_argument(tape.ops[k]) and _near(group.made, site):
        found.append((source.name_of(group.place), group.place, False))
    last_users = {tape.ops[k].stack[:1] for k in problem.users.get(group.ids[-1], ())}
    for k in problem.users.get(group.ids[0], ()):
        op = tape.ops[k]
        if op.stack[:1] not in last_users:  # another name for one turn's
            continue
        node = source.expression(op.stack[0]) if op.stack and _whole(tape, k) else None
        used = None if node is None else syntax.operand(node, op.ins.index(group.ids[0]), len(op.ins))
        if isinstance(used, (ast.Name, ast.Subscript)) and used.lineno == used.end_lineno and _near((k,), site):
            found.append((source.segment(op.stack[0].file, used), op.stack[0], True))
    for name, where, read in found:
        if name and where[::5] == place[::5] and source.holds(name, where, place, read):
            return name
    return ""


def _whole(tape: Tape, k: int) -> bool:
    """Whether an operation is all that its expression makes, but for what brings operands to its shape."""
    stack = tape.ops[k].stack
    after = k + 1 < len(tape.ops) and tape.ops[k + 1].stack == stack
    before = [tape.ops[j].name for j in range(max(k - 2, 0), k) if tape.ops[j].stack == stack]
    return not after and all(name in ("broadcast_in_dim", "convert_element_type") for name in before)


def _near(made: tuple[int, ...], site: Site) -> bool:
    """Whether an operation belongs to the same turn of a Python loop as the site's, as far as the order tells."""
    if len(site.ops) == 1:
        return True
    if len(made) == len(site.ops):
        return all(a < k for a, k in zip(made, site.ops, strict=True)) and all(
            k < a for k, a in zip(site.ops, made[1:], strict=False)
        )
    return 2 * site.ops[0] - site.ops[1] < made[0] < site.ops[1]
