"""Loops of a few turns, of which each takes its time in a search: what repairs the program with two turns of each is
looked for, and what of that repairs the program itself."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxcheck.program.abandoned import let_go
from jaxcheck.program.where import smaller
from jaxcheck.program.where.edits import Edit
from jaxcheck.program.where.nonsense import NONSENSE, Unflattened
from jaxcheck.program.where.problem import Problem, of_loss
from jaxcheck.program.where.search import Found
from jaxcheck.program.where.sites import Group, Site, carried
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
    # Where a loop begins from the first of its rows there is one row more than it has turns.
    longer = {n + 1: smaller.TURNS + 1 for n in loops} | sizes
    tries = (_of_sizes(one, programs, values, count, cut) for cut in (sizes, longer))
    short = next((s for s in tries if s is not None and set(_sites(s)) == set(_sites(one))), None)
    return one if short is None else dataclasses.replace(one, short=short)


def _of_sizes(
    one: Problem, programs: tuple[Any, Any], values: Sequence[Any], count: int, sizes: dict[int, int]
) -> Problem | None:
    try:
        loss, manual = (smaller.resized(program, sizes, numbers=False) for program in programs)
        given = [smaller.cut(x, sizes) for x in values]
        return of_loss(loss, manual, given, count, [np.ones(1)], one.deadline)
    except (*NONSENSE, Unflattened) as error:  # at that length the programs may be nonsense
        let_go(error)
        return None


def in_full(one: Problem, found: Sequence[Found], price: Callable[[dict[str, Any]], float]) -> list[Found]:
    """Of the changes that repair the short problem, those that repair the problem itself, as changes of that; none
    where time ran out, for those that were not tried may be likelier."""
    out, known = [], _Known(there(one.short), one)
    for edit in (known.edit(f.edit) for f in sorted(found, key=lambda f: f.price)):
        if one.late() or (edit is None and not out):  # the likeliest, it may be
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
        sites, truths = _sites(one), _truths(one)
        self.sites = {a.ops: sites[key] for key, a in _sites(short).items()}
        self.sites |= {a.ops: b for a, b in zip(short.scans, one.scans, strict=False)}
        self.groups = {id(a): truths[key] for key, a in _truths(short).items() if key in truths}

    def edit(self, edit: Edit) -> Edit | None:
        """A change of the short problem as one of the other; None where it is none."""
        groups = [self.groups.get(id(g)) or self.own.get(self.ids.get(self.keys.get(g.ids), ())) for g in edit.groups]
        if edit.site.ops not in self.sites or None in groups:
            return None
        return dataclasses.replace(edit, site=self.sites[edit.site.ops], groups=tuple(groups))


def _sites(one: Problem) -> dict[Any, Site]:
    """The sites by their places, and by their order where several stand on one."""
    return _in_order(one.sites, lambda site: (site.place, site.name))


def _truths(one: Problem) -> dict[Any, Group]:
    """What the loss knows by where it does. There may be more of it in more turns: the first turn's carry is often
    zero, and what is a constant tells nothing."""
    return _in_order(one.truths, lambda group: (group.what, group.place, np.ndim(group.arrays[0][0])))


def _in_order(those: Sequence[Any], key: Callable[[Any], Any]) -> dict[Any, Any]:
    seen: Counter[Any] = Counter()
    found = {}
    for one in those:
        found[key(one), seen[key(one)]] = one
        seen[key(one)] += 1
    return found


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
