"""Values that one line makes for another alone: what is wrong with them where they are used may be wrong where they are
made, be they right as something else."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from jaxcheck.program.where import source
from jaxcheck.program.where.decisions import is_of_mask
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.handed import is_argument
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.search import Found
from jaxcheck.program.where.sites import Site
from jaxcheck.program.where.summed import where_summed

# Changes that leave nothing of a value, so that nobody would have made it; and such as bring in what it lacks.
_INSTEAD, _LACKING = ("swap", "turned"), ("times", "over")
# What gives a mask a shape, or makes numbers of it.
_SHAPING = ("broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "expand_dims")
# Lines that are named beside the one that makes use of a value.
MOST = 2


def with_makers(problem: Problem, found: Sequence[Found], margin: float) -> list[Found]:
    """What was found, and for a line all of whose likeliest changes are of what another line makes for it alone, the
    likeliest once more on that line.

    Args:
        margin: what costs less than that more than the cheapest of a line is as likely.
    """
    lines: dict[tuple[str, int], list[Found]] = defaultdict(list)
    for one in sorted(found, key=lambda one: one.price):
        lines[one.fields["where"]].append(one)
    out = list(found)
    for those in lines.values():
        near = [one for one in those if one.price < those[0].price + margin]
        for edit in where_summed(problem, near[0].edit):
            out.append(_on(near[0], edit))
        every = _by_product(near)
        if not all(any(_elsewhere(problem, one.edit) for one in alike) for alike in every):
            continue
        for edit in next(filter(None, (_elsewhere(problem, one.edit) for one in every[0]))):
            out.append(_on(near[0], edit))
    return out


def _by_product(near: Sequence[Found]) -> list[list[Found]]:
    """Changes as they are, but those of both operands of one matrix product together: a factor of either is one."""
    found: dict[Any, list[Found]] = defaultdict(list)
    for n, one in enumerate(near):
        edit = one.edit
        product = edit.site.name == "dot_general" and edit.slot != OUT and edit.form in _LACKING
        found[(edit.site.ops, edit.form, edit.factor, *map(id, edit.groups)) if product else n].append(one)
    return list(found.values())


def _on(one: Found, edit: Edit) -> Found:
    """What was found as a change of another line, as likely."""
    return Found(edit, one.fields | dict(where=edit.site.place[:2], makes=True, same=None), one.price)


def _elsewhere(problem: Problem, edit: Edit) -> list[Edit]:
    """A change of an operand as one of each line that makes it, or what it is a product with, for this use alone."""
    found: list[Edit] = []
    op = problem.tape.ops[edit.site.ops[0]]
    # What a cotangent lacks is weighed for each link of its chain.
    lacks = edit.form in _LACKING and edit.slot != OUT and problem.runs[0][op.ins[edit.slot]] not in problem.forward
    queue = [] if lacks else [edit]
    while queue and len(found) < MOST:
        one = queue.pop(0)
        made = _where_made(problem, one)
        if made is None or not problem.repairs(made):
            continue
        found.append(made)
        if one.form in _LACKING and made.site.name == "mul":
            queue += [dataclasses.replace(made, slot=slot) for slot in (0, 1)]
    return found or _where_taken(edit)


def _where_made(problem: Problem, edit: Edit) -> Edit | None:
    """A change of an operand as one of the line that makes it for this use alone; None where it is no such change."""
    tape = problem.tape
    if edit.slot == OUT or edit.other is not None:
        return None
    mask = is_of_mask(problem, edit)  # the loss knows none, so that nothing says where it went wrong
    if not mask and edit.form not in (*_INSTEAD, *_LACKING):
        return None
    made = [_made(problem, tape.ops[k].ins[edit.slot], mask) for k in edit.site.ops]
    makers, alone = [k for k, _ in made], all(single for _, single in made)
    site = next((s for s in problem.sites if list(s.ops) == makers), None) if alone else None
    if site is None or not _is_another_line(site, edit.site) or is_argument(tape.ops[site.ops[0]]):
        return None
    late = any(g.what == "own" and g.made[0] >= site.ops[0] for g in edit.groups)
    return None if late else dataclasses.replace(edit, site=site, slot=OUT)


def _made(problem: Problem, i: int, mask: bool) -> tuple[int | None, bool]:
    """(the operation that makes a value, whether it does so for one use alone); of a mask the one that decides, and not
    the one that makes numbers of it."""
    tape = problem.tape
    k, alone = tape.makers.get(i), len(problem.users.get(i, ())) == 1
    while mask and k is not None and tape.ops[k].name in _SHAPING:
        (i,) = tape.ops[k].ins[:1]
        k, alone = tape.makers.get(i), alone and len(problem.users.get(i, ())) == 1
    return k, alone


def _where_taken(edit: Edit) -> list[Edit]:
    """Another value for an operand on the line that takes it from among others, `b = a[i]`, for this use alone: that
    makes no operation where `a` is a list."""
    if edit.slot == OUT or edit.form not in _INSTEAD:
        return []
    place = source.taken(edit.site.place, edit.slot, source.OPERANDS.get(edit.site.name, 1))
    return [] if place is None else [dataclasses.replace(edit, site=dataclasses.replace(edit.site, place=place))]


def _is_another_line(site: Site, other: Site) -> bool:
    here, there = site.place, other.place
    return (here.file, here.function) == (there.file, there.function) and here.line != there.line
