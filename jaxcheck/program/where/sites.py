"""Where a change can be made: operations that one expression of the source makes, whenever it is run.

An expression that runs several times (in a loop, in a function that is called again) is one site with several
instances, which are changed together.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

import numpy as np

from jaxcheck.program.where import source
from jaxcheck.program.where.places import Place
from jaxcheck.program.where.tape import STACKED, Op, Tape


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """The same operation of an expression in all its instances: their numbers on the tape, in order."""

    place: Place
    ops: tuple[int, ...]
    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """A value in all its instances. `place` is the expression that makes it, None for an input; `what` is
    "own" for a value of the backward pass itself, "forward", "local" or "cotangent" for one of the loss."""

    what: str
    ids: tuple[int, ...]
    place: Place | None
    arrays: tuple[tuple[np.ndarray, ...], ...] = ()  # of the loss: at each point, one per instance
    made: tuple[int, ...] = ()  # the operation that made each, -1 for inputs
    spare: bool = False  # computed and never used


def sites(tape: Tape) -> list[Site]:
    """The sites of a tape, in order."""
    runs: dict[Any, list[list[int]]] = defaultdict(list)
    before: Any = None
    for k, op in enumerate(tape.ops):
        if not op.stack:
            before = None
            continue
        key = (op.stack, op.turn)
        if key != before:
            runs[op.stack[0]].append([])
        runs[op.stack[0]][-1].append(k)
        before = key
    found = []
    for place, those in runs.items():
        alike: dict[tuple[str, ...], list[list[int]]] = defaultdict(list)
        for run in (turn for several in those for turn in _turns(tape, place, several)):
            alike[tuple(tape.ops[k].name for k in run)].append(run)
        for names, repeated in alike.items():
            for j, name in enumerate(names):
                found.append(Site(place, tuple(run[j] for run in repeated), name))
    return sorted(found, key=lambda site: site.ops[0])


def _turns(tape: Tape, place: Place, run: list[int]) -> list[list[int]]:
    """The turns of a loop of Python's own that does nothing else, in which an expression is run over and over."""
    names = [tape.ops[k].name for k in run]
    for n in range(1, len(run) // 2 + 1):
        if len(run) % n == 0 and names == names[:n] * (len(run) // n):
            return [run[i : i + n] for i in range(0, len(run), n)] if source.repeats(place) else [run]
    return [run]


def live(tape: Tape, those: list[Site]) -> list[Site]:
    """The sites without the calls of which no result is reached. Of one call all instances stay: what each turn of a
    loop overwrites may have been meant to be added up."""
    needed = tape.needed()

    def lively(site: Site) -> tuple[int, ...]:
        calls = {tape.ops[k].stack for k in site.ops if not needed.isdisjoint(tape.ops[k].outs)}
        return tuple(k for k in site.ops if tape.ops[k].stack in calls)

    kept = [(site, lively(site)) for site in those]
    found = [site if ops == site.ops else dataclasses.replace(site, ops=ops) for site, ops in kept if ops]
    return sorted(found, key=lambda site: site.ops[0])


def own_values(tape: Tape, those: list[Site]) -> list[Group]:
    """The values of a backward pass that a change may make use of, each once."""
    used = {i for op in tape.ops for i in op.ins} | set(tape.outputs)
    made = dict.fromkeys(tape.inputs, -1) | {i: k for k, op in enumerate(tape.ops) for i in op.outs}
    found: dict[tuple[int, ...], Group] = {}

    def add(ids: tuple[int, ...], place: Place | None) -> None:
        if ids not in found and all(i in made for i in ids) and not set(ids) & tape.literals:
            found[ids] = Group("own", ids, place, made=tuple(made[i] for i in ids), spare=not used & set(ids))

    for i in tape.inputs:
        add((i,), None)
    for site in those:
        for j in range(len(tape.ops[site.ops[0]].outs)):
            add(tuple(tape.ops[k].outs[j] for k in site.ops), site.place)
    for ids in carried(tape):
        add(ids, None)
    for site in those:  # what comes from one turn of a Python loop to the next
        for j in range(len(tape.ops[site.ops[0]].ins)):
            add(tuple(tape.ops[k].ins[j] for k in site.ops), _place_of(tape, made, tape.ops[site.ops[0]], j))
    for group in list(found.values()):
        if len(group.ids) > 1:
            for i in {group.ids[0], group.ids[-1]}:
                add((i,), group.place)
    return list(found.values())


def carried(tape: Tape) -> list[tuple[int, ...]]:
    """What each value of a loop's body is, turn by turn."""
    rows: dict[Any, list[int]] = defaultdict(list)
    for op in tape.ops:
        if op.label is not None and op.label[1] != STACKED:
            rows[op.label].append(op.outs[0])
    return [tuple(ids) for ids in rows.values()]


def _place_of(tape: Tape, made: dict[int, int], op: Op, j: int) -> Place | None:
    k = made.get(op.ins[j], -1)
    return tape.ops[k].stack[0] if k >= 0 and tape.ops[k].stack else None
