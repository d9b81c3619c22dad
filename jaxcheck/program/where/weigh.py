"""What speaks for and against a change, for the judgement."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxcheck.program.where import edits
from jaxcheck.program.where.edits import Edit
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Site

_MOVED = ("flip", "later", "earlier")
_ORDER = ("own", "forward", "local", "use", "cotangent")


def weighed(problem: Problem, edit: Edit, becomes: bool) -> dict[str, Any]:
    """The fields of a `judgement.culprit.Weighed`."""
    op = problem.tape.ops[edit.site.ops[0]]
    literal = edit.slot != edits.OUT and op.ins[edit.slot] in problem.tape.literals
    kind = kind_of(edit, literal)
    factor = 1.0 if kind in ("moved", "sum over", "literal", "sign") or edit.form in edits.UNARY else edit.factor
    return dict(
        where=edit.site.place[:2],
        kind=kind,
        constant=problem.constants.plainness(factor),
        source=max((g.what for g in edit.groups), key=_ORDER.index, default=""),
        was=was_right(problem, edit.site) or first_was_right(problem, edit),
        becomes=becomes,
        between=becomes and is_cotangent(problem, edit.site),
        inputs=inputs_right(problem, edit.site),
        entering=problem.entering(edit.site.place),
        passed_on=not literal and passed_on(problem, edit),
        spare=any(g.spare for g in edit.groups),
    )


def kind_of(edit: Edit, literal: bool) -> str:
    if literal and edit.form == "scale" and edit.site.name not in ("mul", "div"):  # there it is a factor like others
        return "literal"
    if edit.form == "scale" and edit.factor == -1:
        return "sign"
    if edit.form == "swap" and edit.slot == edits.OUT:
        return "swap result"
    if edit.form in _MOVED:
        return "moved"
    return "unary" if edit.form in edits.UNARY and edit.form not in ("square", "one minus") else edit.form


def was_right(problem: Problem, site: Site) -> bool:
    """Whether the loss knows what the site gives, or all that becomes of it before the wrong results."""
    outs = [problem.tape.ops[k].outs[0] for k in site.ops]
    return all(i not in problem.free or problem.knows(i) for i in outs)


def first_was_right(problem: Problem, edit: Edit) -> bool:
    """Whether a change spoils what the loss knows where the site is run first: what later instances give may be wrong
    because of what became of the first."""
    if len(edit.site.ops) < 2:
        return False
    out = problem.tape.ops[edit.site.ops[0]].outs[0]
    new = problem.first(edit) if problem.knows(out) else None
    return new is not None and not np.array_equal(new, problem.runs[0][out])


def is_cotangent(problem: Problem, site: Site) -> bool:
    """Whether what a site gives is a cotangent of the loss, and none of its values: that of an earlier link of the
    chain, it may be."""
    outs = [problem.tape.ops[k].outs[0] for k in site.ops]
    return all(problem.knows(i) and problem.runs[0][i] not in problem.forward for i in outs)


def inputs_right(problem: Problem, site: Site) -> bool:
    """Whether the loss knows all that goes into the first instance of a site."""
    tape, values = problem.tape, problem.runs[0]
    own = [
        i
        for i in tape.ops[site.ops[0]].ins
        if i not in tape.literals and values[i].dtype.kind == "f" and values[i].ndim
    ]
    return bool(own) and all(map(problem.knows, own))


def passed_on(problem: Problem, edit: Edit) -> bool:
    """Whether what is changed is an operand that another line makes for this one alone, not known to be right."""
    tape = problem.tape
    if edit.slot == edits.OUT:
        return False
    i = tape.ops[edit.site.ops[0]].ins[edit.slot]
    k = tape.makers.get(i)
    if k is None or problem.knows(i) or len(problem.users.get(i, ())) > 1:
        return False
    stack = tape.ops[k].stack
    return bool(stack) and stack[0][:2] != edit.site.place[:2]


def operand_becomes(problem: Problem, edit: Edit) -> bool:
    """Whether the operand that is changed becomes a value that the loss knows, at the first instance."""
    values, op = problem.runs[0], problem.tape.ops[edit.site.ops[0]]
    given = [edits.value_of(g, 0, len(edit.site.ops), values, 0, edit.backwards) for g in edit.groups]
    with np.errstate(all="ignore"):
        return edits.FORMS[edit.form](values[op.ins[edit.slot]], edit.factor, *given) in problem.known


def becomes(problem: Problem, edit: Edit) -> tuple[bool, bool]:
    """(whether a change makes sense at the first instance, whether that becomes a value that the loss knows)."""
    old, new = problem.runs[0][problem.tape.ops[edit.site.ops[0]].outs[0]], problem.first(edit)
    if new is None or np.shape(new) != np.shape(old) or (np.array_equal(new, old) and len(edit.site.ops) == 1):
        return False, False
    return True, new in problem.known
