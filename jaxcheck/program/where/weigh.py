"""What speaks for and against a change, for the judgement."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxcheck.program.where import decisions, edits, names, reductions, rows, shifts, source, terms
from jaxcheck.program.where.edits import Edit
from jaxcheck.program.where.handed import is_argument, is_handed, only_hands_on
from jaxcheck.program.where.places import Place, frames
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Group, Site
from jaxcheck.program.where.tape import Op

# Operations of one expression, or of one line after another, that are looked at together.
FEW, MANY = 8, 64
_ORDER = ("own", "forward", "local", "use", "cotangent")


def _once(f: Callable[[Problem, Site], bool]) -> Callable[[Problem, Site], bool]:
    """A question about a site that is asked of each change of it, answered once."""

    @functools.wraps(f)
    def known(problem: Problem, site: Site) -> bool:
        key = (f.__name__, site.place, site.ops)
        if key not in problem.answers:
            problem.answers[key] = f(problem, site)
        return problem.answers[key]

    return known


def weighed(problem: Problem, edit: Edit) -> dict[str, Any]:
    """The fields of a `judgement.culprit.Weighed`."""
    op, same = problem.tape.ops[edit.site.ops[0]], same_of(problem, edit)
    makes = edit.slot == edits.OUT and not is_handed(op) and not is_argument(op)
    returns = is_handed(op) and names.is_returned(edit.site.place)
    seen = dict(same=same, makes=makes, returns=returns, unproved=decisions.is_unproved(problem, edit))
    return in_place(problem, edit) | seen


def in_place(problem: Problem, edit: Edit, unit: float | None = None) -> dict[str, Any]:
    """The fields that a change has by what it makes of the first instance alone; `unit` where it is known."""
    first = not was_right(problem, edit.site) and first_was_right(problem, edit)
    return _fields(problem, edit, becomes(problem, edit) if unit is None else unit, first)


def at_best(problem: Problem, edit: Edit) -> dict[str, Any]:
    """The fields that make a change the likeliest, of those that it may have: to know them the change is not run."""
    return _fields(problem, edit, 1.0, False)


def _fields(problem: Problem, edit: Edit, unit: float, first: bool) -> dict[str, Any]:
    """The fields that are weighed; `unit` as `becomes` says, `first` as `first_was_right`."""
    op = problem.tape.ops[edit.site.ops[0]]
    literal = edit.slot != edits.OUT and op.ins[edit.slot] in problem.tape.literals
    kind = "drop" if _is_left_out(problem, edit) else kind_of(edit, literal, is_argument(op))
    kind = "transpose" if kind == "drop" and op.name == "transpose" else kind  # one too many
    factor = 1.0 if kind in ("moved", "sum over", "literal", "sign") or edit.form in edits.UNARY else edit.factor
    if kind == "plus" and _is_added(op, edit):
        kind, factor = ("scale", 1 + factor) if factor != -1 else ("drop", 1.0)
    factor, known = factor / (unit or 1), bool(unit)
    right = was_right(problem, edit.site)
    link = is_cotangent(problem, edit.site) if right else first and problem.runs[0][op.outs[0]] not in problem.forward
    # The first link of the chain, a multiple of what the loss computes: of the error of a square, say.
    link = link or (right and edit.form == "scale" and _starts(problem, op.outs[0], edit.factor))
    return dict(
        where=edit.site.place[:2],
        kind=kind,
        constant=problem.constants.plainness(factor),
        source=max((g.what for g in edit.groups), key=_ORDER.index, default=""),
        # A statement that does nothing may well have lost what it did, and an argument is right as something else.
        was=(right or first) and not _does_nothing(op, edit.site.place) and not is_argument(op),
        # In what order a known value stands nobody knows.
        becomes=known and not (kind == "moved" and problem.knows(op.outs[0])),
        between=known and link,
        alike=kind in terms.KINDS and terms.stands_beside(problem, edit),
        renamed=source.renamed(edit.site.place),
        handed_in=rows.is_handed_in(problem, edit),
        inputs=inputs_right(problem, edit.site),
        entering=problem.entering(edit.site.place),
        passed_on=not literal
        and (passed_on(problem, edit) or (kind in terms.KINDS and terms.of_operand(problem, edit))),
        spare=any(g.spare or _given(problem, edit.site.place, g) is False for g in edit.groups),
        foreign=any(is_foreign(problem, edit, g) for g in edit.groups),
    )


def kind_of(edit: Edit, literal: bool, argument: bool) -> str:
    if literal and edit.form == "scale" and edit.site.name not in ("mul", "div"):  # there it is a factor like others
        return "literal"
    if edit.form == "scale" and edit.factor == -1:
        return "sign"
    if edit.form == edits.WIDER:
        return "times"
    if edit.form == "drop" and edit.site.name == "conj":
        return "conjugate"
    if edit.form == "swap" and edit.slot == edits.OUT:
        return "swap" if argument else "swap result"
    if edit.form in edits.MOVED:
        return "moved"
    if edit.form in reductions.FORMS:
        return "axes" if edit.form == "axes" else "sum over"
    if edit.form in shifts.FORMS:
        return "shift"
    if edit.form in terms.FORMS:
        return terms.KINDS[len(edit.groups) > 1]
    return "unary" if edit.form in edits.UNARY and edit.form not in ("square", "one minus") else edit.form


@_once
def was_right(problem: Problem, site: Site) -> bool:
    """Whether the loss knows what the site gives, or all that becomes of it before the wrong results."""
    outs = [problem.tape.ops[k].outs[0] for k in site.ops]
    return all(i not in problem.free or (problem.knows(i) and not problem.disordered(i)) for i in outs)


def first_was_right(problem: Problem, edit: Edit) -> bool:
    """Whether a change spoils what the loss knows where the site is run first: what later instances give may be wrong
    because of what became of the first."""
    if len(edit.site.ops) < 2:
        return False
    out = problem.tape.ops[edit.site.ops[0]].outs[0]
    new = problem.first(edit) if problem.knows(out) else None
    return new is not None and not np.array_equal(new, problem.runs[0][out])


@_once
def is_cotangent(problem: Problem, site: Site) -> bool:
    """Whether what a site gives is right as a cotangent of the loss, or all that becomes of it is, and none of it as a
    value: the cotangent of another link of the chain, it may be. Of what the last turn of a loop makes for nobody that
    says nothing."""
    outs = [o for k in site.ops if (o := problem.tape.ops[k].outs[0]) in problem.leading]
    return bool(outs) and was_right(problem, site) and all(i in problem.loose for i in outs)


@_once
def inputs_right(problem: Problem, site: Site) -> bool:
    """Whether the loss knows all that goes into the first instance of a site."""
    tape, values = problem.tape, problem.runs[0]
    own = [
        i
        for i in tape.ops[site.ops[0]].ins
        if i not in tape.literals and values[i].dtype.kind in "fc" and values[i].ndim
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
    if edit.form == "swap" and edit.factor == 1 and any(_made_of(problem, i, g, edit.site.place) for g in edit.groups):
        return True
    if edit.form in edits.REPLACED and not is_argument(op) and is_argument(tape.ops[k]):
        return True
    if problem.knows(i) and (edit.form in edits.REPLACED or problem.runs[0][i] in problem.forward):
        return False
    stack = tape.ops[k].stack
    return bool(stack) and stack[0][:2] != edit.site.place[:2]


def _made_of(problem: Problem, i: int, group: Group, place: Place) -> bool:
    """Whether a value of the backward pass is one that an operand is made of on other lines: what these do to it is
    then what is to be left out, and that is as well done there."""
    return group.what == "own" and any(line != place[:2] for line in _on_the_way(problem, i, set(group.ids)))


def _is_left_out(problem: Problem, edit: Edit) -> bool:
    """Whether a change leaves out what a line does to a value."""
    op = problem.tape.ops[edit.site.ops[0]]
    if edit.form != "swap" or edit.slot != edits.OUT or edit.factor != 1 or edit.groups[0].what != "own":
        return False
    lines = _on_the_way(problem, op.outs[0], set(edit.groups[0].ids))
    return bool(lines) and all(line == edit.site.place[:2] for line in lines)


def _on_the_way(problem: Problem, i: int, wanted: set[int]) -> list[tuple[str, int]]:
    """The lines of the operations through which a value is made of one of the wanted; none where it is not."""
    queue: list[tuple[int, list[tuple[str, int]]]] = [(i, [])]
    for _ in range(FEW):
        further = []
        for j, lines in queue:
            op = problem.tape.ops[problem.tape.makers[j]] if j in problem.tape.makers else None
            if op is not None and op.stack:
                further += [(n, [*lines, op.stack[0][:2]]) for n in op.ins]
        queue = further[:MANY]
        found = next((lines for j, lines in queue if j in wanted), None)
        if found is not None:
            return found
    return []


def _is_added(op: Op, edit: Edit) -> bool:
    """Whether a sum is given once more what it is a sum of."""
    return op.name in ("add", "add_any") and any(i in op.ins for g in edit.groups for i in g.ids[:1])


def _starts(problem: Problem, i: int, factor: float) -> bool:
    """Whether a multiple of a value of the loss is a cotangent of it, and no value."""
    value = problem.runs[0][i]
    return value in problem.forward and factor * value not in problem.forward


def same_of(problem: Problem, edit: Edit) -> Any:
    """What a change does to which value, wherever that is done to it."""
    tape = problem.tape

    def made(i: int) -> int:
        while (k := tape.makers.get(i)) is not None and only_hands_on(tape.ops[k]):
            (i,) = tape.ops[k].ins
        return i

    ops = [tape.ops[k] for k in edit.site.ops]
    if edit.form == "drop" and edit.site.name == "transpose":  # what is transposed is not to be
        return tuple(made(op.ins[0]) for op in ops), "transpose", 1.0, (), ()
    if edit.other is not None:
        return None
    those = tuple(made(op.outs[0] if edit.slot == edits.OUT else op.ins[edit.slot]) for op in ops)
    return those, edit.form, edit.factor, edit.axes, tuple(g.ids or id(g) for g in edit.groups)


def _does_nothing(op: Op, place: Place) -> bool:
    """Whether it is a statement `b = a`; to return what was made is no such thing."""
    return is_handed(op) and not names.is_returned(place)


def _given(problem: Problem, place: Place, group: Group) -> bool | None:
    """Whether the function around an expression reads a value that it is given with others, by the name under which it
    was made; None where it takes none of that name apart."""
    k = group.made[0] if group.what == "own" else -1
    at = frames(problem.tape.ops[k].eqn) if k >= 0 and problem.tape.ops[k].eqn is not None else ()
    name = source.name_of(at[0]) if at else ""
    return names.taken_apart(place).get(name)


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
    if _given(problem, site.place, group) is not None:
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


def becomes(problem: Problem, edit: Edit) -> float:
    """Whether what a change makes at the first instance is a value that the loss knows: 1, or in which unit, where a
    pass is in units of its own until it divides by the batch; 0 for no such value."""
    old, new = problem.runs[0][problem.tape.ops[edit.site.ops[0]].outs[0]], problem.first(edit)
    if new is None or (np.shape(new) != np.shape(old) and edit.form != edits.WIDER):
        return 0.0
    if new in problem.known:
        return 1.0
    unit = abs(edit.factor)
    # One value for all instances, a part of it for each: that says only what they make together.
    told = any(g.what in ("use", "cotangent") and len(g.arrays[0]) == len(edit.site.ops) for g in edit.groups)
    return unit if told and unit not in (0, 1) and new / unit in problem.known else 0.0
