"""The slips that are made, each kind the likeliest first."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxcheck.notebook import cell
from jaxcheck.program.where import source, syntax
from jaxcheck.program.where.places import Place
from jaxcheck.program.where.sites import Site
from jaxcheck.program.where.slip import Pull, Slip
from jaxcheck.program.where.tape import STACKED, Op, Tape


def _slopes(tape: Tape, those: Sequence[Site]) -> Iterator[Slip]:
    """A derivative taken for one, or at another place, or the cases of a choice taken for one another."""
    for site in those:
        op = tape.ops[site.ops[0]]
        if op.name not in _FUNCTIONS or len(op.outs) > 1:
            continue
        what, every = _what(op), dict.fromkeys
        for j in range(len(op.ins)):
            if op.ins[j] not in tape.literals and tape.values[op.ins[j]].dtype.kind == "f":
                yield Slip(f"as if the derivative of {what} were 1 everywhere", every(site.ops, _one(j)))
        if len(op.ins) > 1:
            yield Slip(f"as if {what} chose the other way round", every(site.ops, _other_way))
        else:
            pulls = {k: _at_the_other(tape.ops[k]) for k in site.ops}
            yield Slip(f"as if the derivative of {what} were taken with its argument and its value exchanged", pulls)


_FUNCTIONS = (
    "tanh",
    "logistic",
    "max",
    "min",
    "select_n",
    "erf",
    "abs",
    "sin",
    "cos",
    "sqrt",
    "rsqrt",
    "log",
    "log1p",
    "square",
)


def _one(j: int) -> Pull:
    def pull(operands: Sequence, results: Sequence, cotangents: Sequence, right: Sequence) -> list:
        g = cotangents[0]
        return [
            g if n == j and np.shape(x) == np.shape(g) else r
            for n, (x, r) in enumerate(zip(operands, right, strict=True))
        ]

    return pull


def _other_way(operands: Sequence, results: Sequence, cotangents: Sequence, right: Sequence) -> list:
    return [None if g is None else cotangents[0] - g for g in right]


def _at_the_other(op: Op) -> Pull:
    return lambda operands, results, cotangents, right: op.back(results[:1], operands[:1], cotangents)


def _sums(tape: Tape, those: Sequence[Site]) -> Iterator[Slip]:
    """Where a value is spread over an axis, its gradient is a sum over it: a mean or one row of it instead, or the sum
    over another axis."""
    for site in those:
        yield from _spread(tape, site)


def _spread(tape: Tape, site: Site) -> Iterator[Slip]:
    op = tape.ops[site.ops[0]]
    shape = np.shape(tape.values[op.outs[0]])
    for j, i in enumerate(op.ins):
        axes = _new_axes(op, np.shape(tape.values[i]), shape)
        if len(op.outs) > 1 or i in tape.literals or len(axes) != 1 or shape[axes[0]] < 2:
            continue
        axis, place = axes[0], _place(op.stack[0])
        guesses = [
            ("averaged over", functools.partial(np.mean, axis=axis)),
            ("one row taken of", functools.partial(np.take, indices=0, axis=axis)),
            ("the last row taken of", functools.partial(np.take, indices=-1, axis=axis)),
        ]
        for other in range(len(shape)):
            if other != axis and shape[other] == shape[axis]:
                guesses.append((f"summed over axis {other}, not over", functools.partial(np.sum, axis=other)))
        for said, guess in guesses:
            yield Slip(
                f"{said} axis {axis} where {place} spreads {_operand(tape, op, j)} over it: the gradient is the sum",
                {k: _spread_back(tape.ops[k], j, shape, guess) for k in site.ops},
            )


def _new_axes(op: Op, given: tuple[int, ...], shape: tuple[int, ...]) -> list[int]:
    """The axes of a result along which an operand is repeated."""
    if op.name == "broadcast_in_dim":
        return [a for a in range(len(shape)) if a not in op.eqn.params["broadcast_dimensions"]]
    if op.name not in ("add", "sub", "mul", "div") or len(given) != len(shape):
        return []
    return [a for a, (n, m) in enumerate(zip(given, shape, strict=True)) if n == 1 < m]


def _spread_back(op: Op, j: int, shape: tuple[int, ...], guess: Callable) -> Pull:
    def pull(operands: Sequence, results: Sequence, cotangents: Sequence, right: Sequence) -> list:
        g = cotangents[0]
        if op.name != "broadcast_in_dim":
            spread = [np.broadcast_to(x, shape) if n == j else x for n, x in enumerate(operands)]
            g = op.back(spread, results, cotangents)[j]
        return [
            np.reshape(guess(g), np.shape(x)) if n == j else r
            for n, (r, x) in enumerate(zip(right, operands, strict=True))
        ]

    return pull


def _accumulated(tape: Tape, those: Sequence[Site]) -> Iterator[Slip]:
    """What each step adds to a gradient, of one step alone."""
    for site in those:
        ops = [tape.ops[k] for k in site.ops]
        if ops[0].name == "gather" and ops[0].eqn.params["dimension_numbers"].start_index_map == (0,):
            yield Slip(
                f"not accumulated: as if, of each row that {_place(ops[0].stack[0])} takes several times, the "
                "last alone counted",
                dict.fromkeys(site.ops, _set),
            )
        if len(site.ops) < 2:
            continue
        for j, i in enumerate(ops[0].ins):
            if i in tape.literals or any(op.ins[j] != i for op in ops):
                continue
            for which, rest in (("first", site.ops[1:]), ("last", site.ops[:-1])):
                yield Slip(
                    f"not accumulated: as if {_operand(tape, ops[0], j)} ({_place(ops[0].stack[0])}) were used "
                    f"in the {which} step alone",
                    dict.fromkeys(rest, _without(j)),
                )


def _set(operands: Sequence, results: Sequence, cotangents: Sequence, right: Sequence) -> list:
    """Rows gathered along the first axis, put back without adding up."""
    table, at = operands[0], np.ravel(operands[1])
    out = np.zeros(np.shape(table), np.result_type(cotangents[0]))
    for row, g in zip(at, np.reshape(cotangents[0], (at.size, *np.shape(table)[1:])), strict=True):
        out[row] = g
    return [out, *right[1:]]


def _paths(tape: Tape, those: Sequence[Site]) -> Iterator[Slip]:
    """One of several uses of a value left out."""
    uses: dict[int, int] = {}
    for op in tape.ops:
        for i in set(op.ins) if op.stack else ():
            i = _root(tape, i)
            uses[i] = uses.get(i, 0) + 1
    for site in those:
        op = tape.ops[site.ops[-1]]
        for j, i in enumerate(op.ins):
            several = uses[_root(tape, i)] > 1 or len(set(op.ins)) < len(op.ins)
            if several and i not in tape.literals and tape.values[i].dtype.kind == "f":
                yield Slip(
                    f"as if {_operand(tape, op, j)} at {_place(op.stack[0])} passed no gradient on",
                    dict.fromkeys(site.ops, _without(j)),
                )


def _root(tape: Tape, i: int) -> int:
    """The value that a loop only hands on."""
    while (k := tape.makers.get(i)) is not None and not tape.ops[k].stack and len(tape.ops[k].ins) == 1:
        if np.shape(tape.values[tape.ops[k].ins[0]]) != np.shape(tape.values[i]):
            break
        i = tape.ops[k].ins[0]
    return i


def _without(j: int) -> Pull:
    return lambda operands, results, cotangents, right: [None if n == j else g for n, g in enumerate(right)]


def _steps(tape: Tape, those: Sequence[Site]) -> Iterator[Slip]:
    """The value of the step before, or after, in place of each step's own, where an operation is taken back."""
    rows = [r for r in _rows(tape, those) if len(r) > 2 and np.ndim(tape.values[r[0]])]
    for site in those:
        ops = [tape.ops[k] for k in site.ops]
        if len(ops) < 3 or len(ops[0].outs) > 1:
            continue
        for slot in range(-1, len(ops[0].ins)):
            mine = [op.outs[0] if slot < 0 else op.ins[slot] for op in ops]
            if mine[0] == mine[1] or not np.ndim(tape.values[mine[0]]):
                continue
            for step, said in ((-1, "before"), (1, "after")):
                for other in rows:
                    if len(other) == len(mine) and _beside(tape, mine, other, step):
                        what = "its value" if slot < 0 else _operand(tape, ops[-1], slot)
                        yield Slip(
                            f"off by one step: as if, taking back {_place(site.place)}, {what} were that of the "
                            f"step {said}",
                            held={(k, slot): i for k, i in zip(site.ops, other, strict=True)},
                        )


def _rows(tape: Tape, those: Sequence[Site]) -> list[tuple[int, ...]]:
    """The values that come once a step."""
    labelled: dict[object, list[int]] = {}
    for op in tape.ops:
        if op.label is not None and op.label[1] != STACKED:
            labelled.setdefault(op.label, []).append(op.outs[0])
    found = [tuple(tape.ops[k].outs[0] for k in site.ops) for site in those]
    for site in those:
        found += list(zip(*(tape.ops[k].ins for k in site.ops), strict=False))
    return list(dict.fromkeys([*found, *map(tuple, labelled.values())]))


def _beside(tape: Tape, mine: Sequence[int], other: Sequence[int], step: int) -> bool:
    """Whether one row holds, step by step, what another holds a step before or after."""
    pairs = zip(other[1:], mine[:-1], strict=True) if step < 0 else zip(other[:-1], mine[1:], strict=True)
    return all(i == j or np.array_equal(tape.values[i], tape.values[j]) for i, j in pairs)


def _turned(tape: Tape, those: Sequence[Site]) -> Iterator[Slip]:
    """A square matrix not transposed on the way back."""
    for site in those:
        op = tape.ops[site.ops[0]]
        for j, i in enumerate(op.ins) if op.name == "dot_general" else ():
            if (shape := np.shape(tape.values[i])) and len(shape) == 2 and shape[0] == shape[1]:
                yield Slip(
                    f"as if {_operand(tape, op, j)} at {_place(op.stack[0])} were not transposed taking it back",
                    {k: _with_turned(tape.ops[k], j) for k in site.ops},
                )


def _with_turned(op: Op, j: int) -> Pull:
    def pull(operands: Sequence, results: Sequence, cotangents: Sequence, right: Sequence) -> list:
        found = op.back([x.T if n == j else x for n, x in enumerate(operands)], results, cotangents)
        return [right[n] if n == j else g for n, g in enumerate(found)]

    return pull


def _signs(tape: Tape, those: Sequence[Site]) -> Iterator[Slip]:
    """A gradient that passes only where a value is positive, or only where it is negative."""
    named = sorted(those, key=lambda site: not source.name_of(site.place))
    for site in named:
        outs = [tape.ops[k].outs[0] for k in site.ops]
        value = tape.values[outs[0]]
        if value.ndim and (value < 0).any() and (value > 0).any():
            name = source.name_of(site.place)
            what = f"`{name}` ({_place(site.place)})" if name else f"the value of {_place(site.place)}"
            for said, mask in (("positive", lambda x: x > 0), ("negative", lambda x: x < 0)):
                yield Slip(f"the gradient passes only where {what} is {said}", masks=dict.fromkeys(outs, mask))


def _what(op: Op) -> str:
    return f"`{_NAMES.get(op.name, op.name)}` ({_place(op.stack[0])})"


_NAMES = {"max": "maximum", "min": "minimum", "select_n": "where", "integer_pow": "power", "logistic": "sigmoid"}


def _operand(tape: Tape, op: Op, j: int) -> str:
    node = source.expression(op.stack[0])
    part = syntax.operand(node, j, len(op.ins)) if node is not None else None
    if part is not None:
        return f"`{source.unparsed(part)}`"
    made = tape.makers.get(op.ins[j])
    name = source.name_of(tape.ops[made].stack[0]) if made is not None and tape.ops[made].stack else ""
    return f"`{name}`" if name else f"operand {j + 1}"


def _place(place: Place) -> str:
    return f"{os.path.basename(cell(place.file))}:{place.line}"


KINDS = (_slopes, _sums, _accumulated, _paths, _steps, _turned, _signs)
