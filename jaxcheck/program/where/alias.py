"""Changes on a line that makes no operation: `b = a`, where more was to be done with `a`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jaxcheck.program.where import source
from jaxcheck.program.where.edits import OUT
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.search import Found
from jaxcheck.program.where.weigh import operand_becomes


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
    return out
