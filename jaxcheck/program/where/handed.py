"""Statements `b = a`, and the arguments of calls, made operations of the tape: they make none of their own, so that
what was forgotten or mistaken there would stand on no line."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from jaxcheck.program.where import names as names_of
from jaxcheck.program.where import source
from jaxcheck.program.where.places import Place
from jaxcheck.program.where.tape import Op, Tape
from jaxcheck.program.where.turns import AS_IT_IS

NAME, ARGUMENT = "copy", "argument"
# The statements and calls through which a value came to where it is read, the last first: each an operation's name, and
# the place with the calls around it.
_Way = tuple[tuple[str, tuple[Place, ...]], ...]
# Values by the function that holds a name, and the name.
_Ids = dict[tuple[Any, str], set[int]]


def is_handed(op: Op) -> bool:
    """Whether an operation is a statement `b = a`."""
    return op.name == NAME and op.eqn is None


def is_argument(op: Op) -> bool:
    """Whether an operation is what a call is given."""
    return op.name.startswith(ARGUMENT) and op.eqn is None


def only_hands_on(op: Op) -> bool:
    """Whether it is one or the other."""
    return is_handed(op) or is_argument(op)


def with_handed(tape: Tape) -> Tape:
    """The tape with an operation for each `b = a` of which `b` is read, and for each argument of a call that is, and
    their readers reading those; the tape itself where there is none."""
    ids = _named(tape)
    read = {
        (k, j): found for k, op in enumerate(tape.ops) for j in range(len(op.ins)) if (found := _way(tape, op, j, ids))
    }
    return _Rewriting(tape).go(read) if read else tape


def _together(a: Op, b: Op) -> bool:
    """Whether two operations that follow each other are of one expression."""
    return a.stack == b.stack and a.turn == b.turn


def _named(tape: Tape) -> _Ids:
    """The values that names stand for: what is assigned to them, and what is read by them where that is plain."""
    ids: _Ids = defaultdict(set)
    begun = 0
    for k, op in enumerate(tape.ops):
        after = tape.ops[k + 1].stack if k + 1 < len(tape.ops) else ()
        for depth, place in enumerate(op.stack):
            if op.stack[depth:] == after[-len(op.stack) + depth :]:
                break  # the same expression goes on
            if name := source.name_of(place):
                ids[source.function_of(place), name].add(op.outs[0])
            for name, function in _given_by_call(op.stack, depth):
                ids[function, name].add(op.outs[0])
        if k and not _together(tape.ops[k - 1], op):
            begun = k
        if op.stack:
            for j, name in enumerate(source.operand_names(op.stack[0], len(op.ins))):
                if name and tape.makers.get(op.ins[j], -1) < begun:  # not what the expression made on its way
                    ids[source.function_of(op.stack[0]), name].add(op.ins[j])
    return ids


def _given_by_call(stack: tuple[Place, ...], depth: int) -> Iterator[tuple[str, Any]]:
    """The name that one of several things a function returns goes to, and the function that holds the name."""
    if depth + 1 < len(stack):
        places, n = names_of.unpacked(stack[depth + 1]), names_of.returned(stack[depth])
        if 0 <= n < len(places) and places[n]:
            yield places[n], source.function_of(stack[depth + 1])


def _way(tape: Tape, op: Op, slot: int, ids: _Ids) -> _Way:
    """How an operand came to where it is read."""
    depth, statements = _by(tape, op, slot, ids)
    entered = [d for d in range(len(op.stack) - 1) if _enters(tape, op, slot, d)]
    steps = [(d, 1, (ARGUMENT, op.stack[d + 1 :])) for d in entered] + [(depth, 0, (NAME, s)) for s in statements]
    return (*(step for _, _, step in sorted(steps, key=lambda item: item[:2])), *_returned(tape, op, slot, ids))


def _returned(tape: Tape, op: Op, slot: int, ids: _Ids) -> _Way:
    """The `return a` through which alone an operand came from the function that made it, called by the one that reads
    it."""
    i = op.ins[slot]
    k = tape.makers.get(i)
    made = tape.ops[k].stack if k is not None else ()
    for depth in range(len(op.stack)):
        around = op.stack[depth + 1 :]
        inside = made[: len(made) - len(around)]
        reader = op.stack[depth]
        if len(inside) < 2 or made[len(inside) :] != around:
            continue
        if inside[-1].function == reader.function and inside[-1] != reader:
            function = source.function_of(inside[-2])
            for name, place in names_of.returned_names(inside[-2]):
                if i in ids[function, name]:
                    return ((NAME, (place, *made[len(inside) - 1 :])),)
    return ()


def _enters(tape: Tape, op: Op, slot: int, depth: int) -> bool:
    """Whether an operand is among what the function at a depth is given by the one that calls it, not its own and not
    one that it sees around itself."""
    i = op.ins[slot]
    k = tape.makers.get(i)
    around, function = op.stack[depth + 1 :], op.stack[depth].function
    if function.startswith(f"{around[0].function}.<locals>") or (k is None and i not in tape.inputs):
        return False
    stack = tape.ops[k].stack if k is not None else around
    return bool(stack) and not (len(stack) > len(around) and stack[-len(around) :] == around)


def _by(tape: Tape, op: Op, slot: int, ids: _Ids) -> tuple[int, tuple[tuple[Place, ...], ...]]:
    """(how far out they stand, the statements through which an operand came to the name it is read by, the last first,
    each with the calls around it); none where that is not plain."""
    for depth, place in enumerate(op.stack):
        reads = source.names_read(place)
        names = source.operand_names(place, len(op.ins)) if depth == 0 else ()
        for name in reads:
            chain = names_of.chain(place, name)
            others = {other for other, _ in chain}
            if not chain or (others & reads and (slot >= len(names) or names[slot] != name)):
                continue
            if _is_read(tape, op, slot, names[slot : slot + 1] == (name,)):
                return depth, tuple((statement, *op.stack[depth + 1 :]) for _, statement in chain)
            stands = others | {name} if names_of.is_given_once(place, name) else others
            if any(op.ins[slot] in ids[source.function_of(place), x] for x in stands):
                return depth, tuple((statement, *op.stack[depth + 1 :]) for _, statement in chain)
    return 0, ()


def _is_read(tape: Tape, op: Op, slot: int, named: bool) -> bool:
    """Whether an operand is what stands for it in the expression, and a row of a scan that nothing else tells of."""
    k = tape.makers.get(op.ins[slot])
    return named and k is not None and tape.ops[k].label is not None


class _Rewriting:
    """A tape written anew, its values numbered in the order in which they are made."""

    def __init__(self, tape: Tape):
        self.old = tape
        self.new = dataclasses.replace(tape, values=[], ops=[], inputs=[], outputs=[], literals=set(), makers={})
        self.number: dict[int, int] = {}
        self.copies: dict[Any, int] = {}
        self.inside: dict[Any, bool] = {}
        self.arguments: Counter[Any] = Counter()

    def go(self, read: dict[tuple[int, int], _Way]) -> Tape:
        tape, k = self.old, 0
        self.new.inputs = [self._value(i) for i in tape.inputs]
        while k < len(tape.ops):
            end = k + 1  # all that one expression makes, so that nothing comes between
            while end < len(tape.ops) and _together(tape.ops[k], tape.ops[end]):
                end += 1
            handed = {
                (n, j): self._copy(read[n, j], tape.ops[n].ins[j], tape.ops[n].turn)
                for n in range(k, end)
                for j in range(len(tape.ops[n].ins))
                if (n, j) in read
            }
            for n in range(k, end):
                op = tape.ops[n]
                ins = [handed[n, j] if (n, j) in handed else self._value(i) for j, i in enumerate(op.ins)]
                self._append(op, ins, [self._value(i) for i in op.outs])
            k = end
        self.new.outputs = [self._value(i) for i in tape.outputs]
        return self.new

    def _value(self, i: int) -> int:
        if i not in self.number:
            self.number[i] = self._add(i)
            if i in self.old.literals:
                self.new.literals.add(self.number[i])
        return self.number[i]

    def _add(self, i: int) -> int:
        self.new.values.append(self.old.values[i])
        return len(self.new.values) - 1

    def _copy(self, chain: _Way, i: int, turn: tuple[int, ...]) -> int:
        """The number of a value as it came its way."""
        if not chain:
            return self._value(i)
        name, stack = chain[0]
        # Each turn of a loop makes its calls anew: else the first would be of another kind than the others.
        key = chain[0], i, self._around(name, stack, turn)
        if key not in self.copies:
            before = self._copy(chain[1:], i, turn)
            self.copies[key] = self._add(i)
            if name == ARGUMENT:  # each of a call's by itself
                self.arguments[stack, turn] += 1
                name = f"{ARGUMENT} {self.arguments[stack, turn]}"
            self._append(Op(name, None, (), (), *AS_IT_IS, stack, turn), [before], [self.copies[key]])
        return self.copies[key]

    def _around(self, name: str, stack: tuple[Place, ...], turn: tuple[int, ...]) -> tuple[int, ...]:
        """The turns of the loops around a call of which a value is read; none where the loop is inside the call, or
        around a statement, which may stand before it."""
        if stack not in self.inside:
            self.inside[stack] = any(place[-len(stack) :] == stack for place, _ in self.old.scans.values())
        return () if name != ARGUMENT or self.inside[stack] else turn

    def _append(self, op: Op, ins: list[int], outs: list[int]) -> None:
        self.new.makers.update(dict.fromkeys(outs, len(self.new.ops)))
        self.new.ops.append(dataclasses.replace(op, ins=tuple(ins), outs=tuple(outs)))
