"""What a loop is handed row by row, or thing by thing from a list: where the wrong one was handed to it, a line of its
body would do with another value."""

from __future__ import annotations

import ast

from jaxcheck.program.where import names, source, syntax
from jaxcheck.program.where.edits import MOVED, OUT, REPLACED, Edit
from jaxcheck.program.where.handed import is_argument
from jaxcheck.program.where.naming import value_name
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.tape import STACKED, Op

# Operations between a row and the one that it is for: what gives it a shape.
FEW = 3
# What is the array itself, in another form.
_OF_ARRAYS = ("T", "mT", "real", "imag")


def is_handed_in(problem: Problem, edit: Edit) -> bool:
    """Whether an operand is replaced, by what has no name there, of an operation for which alone a row comes into the
    loop: it may as well be that row which is the wrong one."""
    op = problem.tape.ops[edit.site.ops[0]]
    if edit.form not in (*REPLACED, *MOVED, "plus"):
        return False
    listed = all(g.what != "own" for g in edit.groups) and _is_listed(problem, edit)
    row = edit.slot != OUT and edit.form != "plus" and any(_is_row(problem, i) for i in op.ins)
    # Names are asked for last, which take the longest.
    return (listed or row) and not all(value_name(problem, g, edit.site, edit) for g in edit.groups)


def _is_listed(problem: Problem, edit: Edit) -> bool:
    """Whether an operand, or an argument, is one of the things that a loop of Python's own takes from a list: where it
    is to be what the pass has nowhere, the list may as well hold the wrong ones."""
    tape, place = problem.tape, edit.site.place
    op = tape.ops[edit.site.ops[0]]
    if len(edit.site.ops) < 2 or (edit.slot == OUT and not is_argument(op)):
        return False
    if not is_argument(op) and _is_attribute(edit, len(op.ins)):
        return False
    given = op if is_argument(op) else _given(problem, op.ins[edit.slot])
    if given is not None:
        place = given.stack[0]
        return not source.names_read(place).isdisjoint(names.listed(place))
    read = source.operand_names(place, len(op.ins))[edit.slot : edit.slot + 1]
    return not names.listed(place).isdisjoint(read)


def _is_attribute(edit: Edit, count: int) -> bool:
    """Whether it is what an object holds, `self.x`: the list is of the objects."""
    node = source.expression(edit.site.place)
    read = None if node is None else syntax.operand(node, edit.slot, count)
    return isinstance(read, ast.Attribute) and read.attr not in _OF_ARRAYS


def _given(problem: Problem, i: int) -> Op | None:
    """The argument of a call that a value is, or only takes its shape from."""
    tape = problem.tape
    for _ in range(FEW):
        k = tape.makers.get(i)
        if k is None or is_argument(tape.ops[k]) or len(tape.ops[k].ins) != 1:
            return tape.ops[k] if k is not None and is_argument(tape.ops[k]) else None
        (i,) = tape.ops[k].ins
    return None


def _is_row(problem: Problem, i: int) -> bool:
    """Whether a value is a row, or only made of one, that nothing else makes use of."""
    for _ in range(FEW):
        k = problem.tape.makers.get(i)
        if k is None or len(problem.users.get(i, ())) > 1:
            return False
        op = problem.tape.ops[k]
        if op.label is not None and op.label[1] != STACKED:
            return True
        if len(op.ins) != 1:
            return False
        (i,) = op.ins
    return False
