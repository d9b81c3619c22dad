"""What speaks for and against a change, for the judgement."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxcheck.program.where import edits, source, terms
from jaxcheck.program.where.edits import Edit
from jaxcheck.program.where.handed import is_argument, is_handed
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Group, Site

_MOVED = ("flip", "later", "earlier")
_REPLACED = ("swap", "turned", "product")
_ORDER = ("own", "forward", "local", "use", "cotangent")


def weighed(problem: Problem, edit: Edit, unit: float) -> dict[str, Any]:
    """The fields of a `judgement.culprit.Weighed`; `unit` as `becomes` says."""
    op = problem.tape.ops[edit.site.ops[0]]
    literal = edit.slot != edits.OUT and op.ins[edit.slot] in problem.tape.literals
    kind = kind_of(edit, literal, is_argument(op))
    factor = 1.0 if kind in ("moved", "sum over", "literal", "sign") or edit.form in edits.UNARY else edit.factor
    factor, known = factor / (unit or 1), bool(unit)
    right = was_right(problem, edit.site)
    first = not right and first_was_right(problem, edit)
    link = is_cotangent(problem, edit.site) if right else first and problem.runs[0][op.outs[0]] not in problem.forward
    return dict(
        where=edit.site.place[:2],
        kind=kind,
        constant=problem.constants.plainness(factor),
        source=max((g.what for g in edit.groups), key=_ORDER.index, default=""),
        # A statement that does nothing may well have lost what it did, and an argument is right as something else.
        was=(right or first) and not is_handed(op) and not is_argument(op),
        becomes=known,
        between=known and link,
        alike=kind in terms.KINDS and terms.stands_beside(problem, edit),
        renamed=source.renamed(edit.site.place),
        inputs=inputs_right(problem, edit.site),
        entering=problem.entering(edit.site.place),
        passed_on=not literal
        and (passed_on(problem, edit) or (kind in terms.KINDS and terms.of_operand(problem, edit))),
        spare=any(g.spare for g in edit.groups),
        foreign=any(is_foreign(problem, edit, g) for g in edit.groups),
    )


def kind_of(edit: Edit, literal: bool, argument: bool) -> str:
    if literal and edit.form == "scale" and edit.site.name not in ("mul", "div"):  # there it is a factor like others
        return "literal"
    if edit.form == "scale" and edit.factor == -1:
        return "sign"
    if edit.form == "swap" and edit.slot == edits.OUT:
        return "swap" if argument else "swap result"
    if edit.form in _MOVED:
        return "moved"
    if edit.form in terms.FORMS:
        return terms.KINDS[len(edit.groups) > 1]
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
    """Whether what a site gives is right as a cotangent of the loss, or all that becomes of it is, and none of it as a
    value: the cotangent of another link of the chain, it may be."""
    outs = [problem.tape.ops[k].outs[0] for k in site.ops]
    return was_right(problem, site) and all(i in problem.loose for i in outs)


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
    """Whether what is changed is an operand that another line makes for this one alone, not known to be right; right as
    a cotangent it may be, where more of it was wanted: then that was to come on either line. Likewise an argument for
    which a function has the other value."""
    tape = problem.tape
    op = tape.ops[edit.site.ops[0]]
    if edit.slot == edits.OUT and not is_argument(op):
        return False
    if is_argument(op) and _is_given(problem, edit):
        return True
    i = op.ins[max(edit.slot, 0)]
    k = tape.makers.get(i)
    if k is None or len(problem.users.get(i, ())) > 1:
        return False
    if problem.knows(i) and (edit.form in _REPLACED or problem.runs[0][i] in problem.forward):
        return False
    stack = tape.ops[k].stack
    return bool(stack) and stack[0][:2] != edit.site.place[:2]


def is_foreign(problem: Problem, edit: Edit, group: Group) -> bool:
    """Whether a value is one of a caller's that the function around a site is not given, so that it takes no part in
    it; or that is only to be added to what is right as a part: parts meet where all of them are known."""
    tape, site = problem.tape, edit.site
    op = tape.ops[site.ops[0]]
    k = group.made[0] if group.what == "own" else -1
    if k < 0 or not tape.ops[k].stack:
        return False
    maker, function = tape.ops[k].stack[0].function, site.place.function
    if maker == function or maker not in [place.function for place in op.stack[1:]]:
        return False
    if function.startswith(f"{maker}.<locals>"):
        return False
    if edit.form == "plus" and edit.slot == edits.OUT and problem.runs[0][op.outs[0]] in problem.parts:
        return True
    return all(place.function != function for k in problem.users.get(group.ids[0], ()) for place in tape.ops[k].stack)


def _is_given(problem: Problem, edit: Edit) -> bool:
    """Whether the function that an argument goes to is given the other value as well: it is as well read there."""
    tape = problem.tape
    out = tape.ops[edit.site.ops[0]].outs[0]
    inside = {tape.ops[k].stack[0].function for k in problem.users.get(out, ()) if tape.ops[k].stack}
    users = [k for g in edit.groups for i in g.ids[:1] for k in problem.users.get(i, ())]
    users += [k for n in users if is_argument(tape.ops[n]) for k in problem.users.get(tape.ops[n].outs[0], ())]
    return any(tape.ops[k].stack[0].function in inside for k in users if tape.ops[k].stack)


def operand_becomes(problem: Problem, edit: Edit) -> bool:
    """Whether the operand that is changed becomes a value that the loss knows, at the first instance."""
    values, op = problem.runs[0], problem.tape.ops[edit.site.ops[0]]
    given = [edits.value_of(g, 0, len(edit.site.ops), values, 0, edit.backwards) for g in edit.groups]
    with np.errstate(all="ignore"):
        return edit.made_of(values[op.ins[edit.slot]], *given) in problem.known


def becomes(problem: Problem, edit: Edit) -> tuple[bool, float]:
    """(whether a change makes sense at the first instance; whether that becomes a value that the loss knows: 1, or in
    which unit, where a pass is in units of its own until it divides by the batch; 0 for no such value)."""
    old, new = problem.runs[0][problem.tape.ops[edit.site.ops[0]].outs[0]], problem.first(edit)
    if new is None or np.shape(new) != np.shape(old) or (np.array_equal(new, old) and len(edit.site.ops) == 1):
        return False, 0.0
    if new in problem.known:
        return True, 1.0
    unit = abs(edit.factor)
    told = any(g.what in ("use", "cotangent") for g in edit.groups)
    return True, unit if told and unit not in (0, 1) and new / unit in problem.known else 0.0
