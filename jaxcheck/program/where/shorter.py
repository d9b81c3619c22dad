"""Loops of a few turns, of which each takes its time in a search: what repairs the program with two turns of each is
looked for, and what of that repairs the program itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxcheck.program.abandoned import let_go
from jaxcheck.program.where import smaller
from jaxcheck.program.where.edits import Edit
from jaxcheck.program.where.nonsense import NONSENSE
from jaxcheck.program.where.problem import Problem, of_loss
from jaxcheck.program.where.search import Found
from jaxcheck.program.where.sites import carried
from jaxcheck.program.where.tape import Unflattened
from jaxcheck.program.where.weigh import weighed
from jaxcheck.there import there

# Operations, a loop's once for each of its turns, from which on it is worth it. A search of all changes of a GRU of 6
# turns (573 operations) takes half a minute, of 2 turns (213) some 7 s.
MANY = 300


def shortened(one: Problem, programs: tuple[Any, Any], values: Sequence[Any], count: int) -> Problem:
    """The problem of a loss and its backward pass with that of the same programs with two turns of each loop beside
    it, where there are many and that makes a problem."""
    loops = {n for program in programs for n in smaller.lengths(program) if n > smaller.TURNS + 1}
    if not loops or len(one.tape.ops) < MANY:
        return one
    sizes = dict.fromkeys(loops, smaller.TURNS)
    try:
        loss, manual = (smaller.resized(program, sizes) for program in programs)
        given = [smaller.cut(x, sizes) for x in values]
        short = of_loss(loss, manual, given, count, [np.ones(1)], one.deadline)
    except (*NONSENSE, Unflattened) as error:  # at that length the programs may be nonsense
        let_go(error)
        return one
    alike = short is not None and len(short.sites) == len(one.sites) and len(short.truths) == len(one.truths)
    return dataclasses.replace(one, short=short) if alike else one


def in_full(one: Problem, found: Sequence[Found], price: Callable[[dict[str, Any]], float]) -> list[Found]:
    """Of the changes that repair the short problem, those that repair the problem itself, as changes of that; none
    where time ran out, for those that were not tried may be likelier."""
    out, known = [], _Known(there(one.short), one)
    for edit in (known.edit(f.edit) for f in found):
        if one.late():
            return []
        right = next(filter(one.repairs, _written(one, edit)), None)
        if right is not None:
            fields = weighed(one, right)
            out.append(Found(right, fields, price(fields)))
    return out


def _written(one: Problem, edit: Edit | None) -> Iterator[Edit]:
    """A change with each constant that it may have where loops are as long as they are."""
    if edit is None:
        return
    yield edit
    for n in {len(site.ops) for site in one.sites} - {1}:
        for c in (n / smaller.TURNS, smaller.TURNS / n):
            if edit.factor not in (1, -1):
                yield dataclasses.replace(edit, factor=edit.factor * c)


class _Known:
    """The sites and values of a problem by those of the same one with fewer turns."""

    def __init__(self, short: Problem, one: Problem):
        self.keys, self.ids = ({ids: key for key, ids in _named(short)}, dict(_named(one)))
        self.own = {g.ids: g for g in one.own}
        self.sites = {id(a): b for a, b in zip(short.sites, one.sites, strict=True)}
        self.sites |= {id(a): b for a, b in zip(short.scans, one.scans, strict=False)}
        self.groups = {id(a): b for a, b in zip(short.truths, one.truths, strict=True)}

    def edit(self, edit: Edit) -> Edit | None:
        """A change of the short problem as one of the other; None where it is none."""
        groups = [self.groups.get(id(g)) or self.own.get(self.ids.get(self.keys.get(g.ids), ())) for g in edit.groups]
        if id(edit.site) not in self.sites or None in groups:
            return None
        return dataclasses.replace(edit, site=self.sites[id(edit.site)], groups=tuple(groups))


def _named(one: Problem) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """The values that a change may make use of, by what they are to the sites of a problem; the plainest last."""
    tape = one.tape
    for n, site in enumerate(one.sites):
        ops = [tape.ops[k] for k in site.ops]
        for what in ("ins", "outs"):
            for j in range(len(getattr(ops[0], what))):
                ids = tuple(getattr(op, what)[j] for op in ops)
                yield (n, what, j, "first"), ids[:1]
                yield (n, what, j, "last"), ids[-1:]
                yield (n, what, j), ids
    for n, ids in enumerate(carried(tape)):
        yield ("carried", n), ids
    for n, i in enumerate(tape.inputs):
        yield ("input", n), (i,)
