"""What speaks for and against a change that was found, for the judgement."""

from __future__ import annotations

from typing import Any

from jaxcheck.program.where import edits
from jaxcheck.program.where.search import Found, Problem

_MOVED = ("flip", "later", "earlier")


def weighed(problem: Problem, found: Found) -> dict[str, Any]:
    """The fields of a `judgement.culprit.Weighed`."""
    edit, tape = found.edit, problem.tape
    op = tape.ops[edit.site.ops[0]]
    kind = edit.form
    literal = edit.slot != edits.OUT and op.ins[edit.slot] in tape.literals
    if literal and kind == "scale":
        kind = "literal"
    elif kind == "swap" and edit.slot == edits.OUT:
        kind = "swap result"
    elif kind in _MOVED:
        kind = "moved"
    elif kind in edits.UNARY and kind not in ("square", "one minus"):
        kind = "unary"
    source = max((g.what for g in edit.groups), key=["own", "forward", "local", "use", "cotangent"].index, default="")
    factor = 1.0 if kind in ("moved", "sum over", "literal") or edit.form in edits.UNARY else edit.factor
    return dict(
        where=(edit.site.place.file, edit.site.place.line), kind=kind, source=source,
        constant=problem.constants.plainness(factor), was=found.was, becomes=found.becomes, inputs=found.inputs,
        passed_on=not literal and _passed_on(problem, found), spare=any(g.spare for g in edit.groups))


def _passed_on(problem: Problem, found: Found) -> bool:
    """Whether what is changed is an operand that another line makes for this one alone, not known to be right."""
    edit, tape = found.edit, problem.tape
    if edit.slot == edits.OUT:
        return False
    i = tape.ops[edit.site.ops[0]].ins[edit.slot]
    k = tape.makers.get(i)
    if k is None or problem.runs[0][i] in problem.known or len(problem.users.get(i, ())) > 1:
        return False
    stack = tape.ops[k].stack
    return bool(stack) and stack[0][:2] != edit.site.place[:2]
