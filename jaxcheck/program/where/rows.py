"""What a loop is handed row by row: where the wrong array was handed to it, a line of its body would do with another
value."""

from __future__ import annotations

from jaxcheck.program.where.edits import MOVED, OUT, REPLACED, Edit
from jaxcheck.program.where.naming import value_name
from jaxcheck.program.where.problem import Problem

# Operations between a row and the one that it is for: what gives it a shape.
FEW = 3


def is_handed_in(problem: Problem, edit: Edit) -> bool:
    """Whether an operand is replaced, by what has no name there, of an operation for which alone a row comes into the
    loop: it may as well be that row which is the wrong one."""
    op = problem.tape.ops[edit.site.ops[0]]
    if edit.slot == OUT or edit.form not in (*REPLACED, *MOVED):
        return False
    if all(value_name(problem, g, edit.site) for g in edit.groups):
        return False
    return any(_is_row(problem, i) for i in op.ins)


def _is_row(problem: Problem, i: int) -> bool:
    """Whether a value is a row, or only made of one, that nothing else makes use of."""
    for _ in range(FEW):
        k = problem.tape.makers.get(i)
        if k is None or len(problem.users.get(i, ())) > 1:
            return False
        op = problem.tape.ops[k]
        if op.label is not None:
            return True
        if len(op.ins) != 1:
            return False
        (i,) = op.ins
    return False
