"""What the loss itself knows: its values, the slopes of its elementwise operations, the cotangent of each value and
of each use of a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxcheck.program import kernels as pallas
from jaxcheck.program.where.places import Place
from jaxcheck.program.where.sites import Group, sites
from jaxcheck.program.where.tape import Tape

_SLOPED = ("mul", "add", "sub", "neg", "copy")  # their slopes are values, or plus or minus one


def truths(
    tape: Tape, runs: Sequence[Sequence[np.ndarray]], cotangents: Sequence[Any], tangents: Iterable[int] = ()
) -> list[Group]:
    """Values of the loss in all their instances, at every point.

    Args:
        runs: all values of the tape, at each point.
        cotangents: (of values, of uses) at each point, see `Tape.back`.
        tangents: inputs whose values, and what depends on them, do not speak for a line that gives one: a forward rule
            that forgets the last factor of a term gives the tangent of something else.
    """
    moved = set(tangents)
    for op in tape.ops:
        if not moved.isdisjoint(op.ins):
            moved.update(op.outs)
    found: list[Group] = []
    seen: set[Any] = set()

    def add(what: str, key: Any, place: Place | None, arrays: list[list[Any]]) -> None:
        if (what, key) in seen or any(x is None for row in arrays for x in row):
            return
        seen.add((what, key))
        if _tells(arrays[0][0]):
            found.append(Group(what, (), place, tuple(tuple(np.asarray(x) for x in row) for row in arrays)))

    for i in tape.inputs:
        add("cotangent", (i,), None, [[total.get(i)] for total, _ in cotangents])
    for site in sites(tape):
        ops = [tape.ops[k] for k in site.ops]
        outs = tuple(op.outs[0] for op in ops)
        add("use" if outs[0] in moved else "forward", outs, site.place, [[values[i] for i in outs] for values in runs])
        add("cotangent", outs, site.place, [[total.get(i) for i in outs] for total, _ in cotangents])
        for j in range(len(ops[0].ins)):
            uses = tuple((k, j) for k in site.ops)
            ins = tuple(op.ins[j] for op in ops)
            if all(i in tape.literals for i in ins):
                continue
            add("cotangent", ins, site.place, [[total.get(i) for i in ins] for total, _ in cotangents])
            add("use", uses, site.place, [[edges.get(u) for u in uses] for _, edges in cotangents])
            add("local", uses, site.place, [[_slope(op, values, j) for op in ops] for values in runs])
    return found


def _slope(op: Any, values: Sequence[np.ndarray], j: int) -> np.ndarray | None:
    """The derivative of an elementwise operation in one operand; of a kernel that gives what has its operand's shape,
    what that would be."""
    out, operand = values[op.outs[0]], values[op.ins[j]]
    if op.name in _SLOPED or out.shape != operand.shape or len(op.outs) > 1 or out.dtype.kind != "f":
        return None
    if op.name not in (*ELEMENTWISE, pallas.NAME):
        return None
    return op.back([values[i] for i in op.ins], [out], [np.ones(out.shape)])[j]


ELEMENTWISE = (
    "exp",
    "log",
    "log1p",
    "expm1",
    "tanh",
    "logistic",
    "sqrt",
    "rsqrt",
    "sin",
    "cos",
    "square",
    "abs",
    "integer_pow",
    "pow",
    "div",
    "max",
    "min",
    "select_n",
    "erf",
    "sign",
    "atan2",
    "cbrt",
    "exp2",
)


def _tells(x: Any) -> bool:
    """Whether a value is more than a constant or a mask."""
    x = np.asarray(x)
    return x.dtype.kind in "fc" and x.size > 0 and bool(np.isfinite(x).all())
