"""Changes on a line that makes no operation: `b = a`, where more was to be done with `a`; and what a call is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jaxcheck.program.where import source
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.handed import is_argument
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.search import Found
from jaxcheck.program.where.sites import Site
from jaxcheck.program.where.weigh import operand_becomes, weighed


def with_aliases(problem: Problem, found: Sequence[Found], price: Callable[[dict[str, Any]], float]) -> list[Found]:
    """What was found, and the same once more on the line that hands the changed value on under another name: there it
    does not matter that the value itself was right."""
    out = list(found)
    for one in found:
        edit = one.edit
        known = edit.slot != OUT or one.fields["was"]
        places = (
            source.aliases(edit.site.place)
            if edit.slot == OUT
            else source.alias_before(edit.site.place, edit.slot, source.OPERANDS.get(edit.site.name, 0))
        )
        for place in places:
            fields = one.fields | dict(where=place[:2], was=False, inputs=known, entering=known, passed_on=False)
            if edit.slot != OUT:
                fields["becomes"] = operand_becomes(problem, edit)
            moved = dataclasses.replace(edit, site=dataclasses.replace(edit.site, place=place))
            out.append(Found(moved, fields, price(fields)))
        given = _in_the_call(problem, edit)
        if given is not None and problem.repairs(given):
            fields = weighed(problem, given)
            out.append(Found(given, fields, price(fields)))
    return out


def _in_the_call(problem: Problem, edit: Edit) -> Edit | None:
    """The same change of what a call gives to the function in which it was found, where one call gives it each time."""
    tape = problem.tape
    if edit.slot == OUT or edit.other is not None:
        return None
    makers = [tape.makers.get(tape.ops[k].ins[edit.slot]) for k in edit.site.ops]
    ops = [tape.ops[k] for k in makers if k is not None]
    if len(ops) < len(makers) or not all(is_argument(op) and op.stack for op in ops):
        return None
    places = {op.stack[0] for op in ops}
    those = tuple(k for k in makers if k is not None)
    if len(places) > 1 or places == {edit.site.place} or len(set(those)) < len(those) or list(those) != sorted(those):
        return None
    return dataclasses.replace(edit, site=Site(ops[0].stack[0], those, ops[0].name), slot=OUT)
