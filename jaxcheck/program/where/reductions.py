"""Sums over other axes: the change of a backward pass that sums over the wrong ones."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.sites import Group, Site
from jaxcheck.program.where.tape import Op, Tape

# The forms of such changes.
FORMS = ("axes", "sum over", "softmax over", "log softmax over")
# Axes that a sum may have been meant to go over, together.
MOST_AXES = 3
# Operations that give a value only its shape, or stop its derivative.
_SHAPING = ("broadcast_in_dim", "reshape", "expand_dims", "stop_gradient")
# Operations that bring an axis of length 1 back to what the other operand has there.
_BESIDE = ("add", "sub", "mul", "div", "max", "min")


def reductions(tape: Tape, site: Site, users: dict[int, list[int]]) -> Iterator[Edit]:
    """A sum over other axes, where its result goes back to the shape of what it sums; a softmax over another axis.

    Args:
        users: the operations that use a value.
    """
    yield from _softmaxes(tape, site)
    op = tape.ops[site.ops[0]]
    if op.name not in ("reduce_sum", "reduce_max") or "axes" not in op.eqn.params:
        return
    x, axes = tape.values[op.ins[0]], tuple(op.eqn.params["axes"])
    f = np.sum if op.name == "reduce_sum" else np.max
    ways = (itertools.combinations(range(x.ndim), n) for n in range(1, min(x.ndim, MOST_AXES) + 1))
    others = [new for new in itertools.chain.from_iterable(ways) if new != axes]
    for new in others:
        if f(x, axis=new).shape == tape.values[op.outs[0]].shape:
            yield Edit(site, OUT, "axes", other=lambda op, xs, new=new: [f(xs[0], axis=new)], detail=str(new))
    ids = tuple(tape.ops[k].ins[0] for k in site.ops)
    summed = Group("own", ids, None, made=tuple(tape.makers.get(i, -1) for i in ids))
    last = [k for k in (_spread(tape, k, x.shape, users) for k in site.ops) if k is not None]
    if len(last) == len(site.ops) and len({tape.ops[k].stack for k in last}) == 1:
        place = tape.ops[last[0]].stack[0] if tape.ops[last[0]].stack else site.place
        for new in others:
            yield Edit(
                Site(place, tuple(last), tape.ops[last[0]].name),
                OUT,
                "sum over",
                (summed,),
                detail=str(new),
                axes=new,
            )
        return
    kept = [taken for k in site.ops if (taken := _taken(tape, k, x.shape, users)) is not None]
    if len(kept) == len(site.ops) and len({slot for _, slot in kept}) == 1:
        ops = tuple(k for k, _ in kept)
        for new in others:
            one = Site(site.place, ops, tape.ops[ops[0]].name)
            yield Edit(one, kept[0][1], "sum over", (summed,), detail=str(new), axes=new)


def _softmaxes(tape: Tape, site: Site) -> Iterator[Edit]:
    """JAX's softmax, or its logarithm, over another axis: there what is taken off before exp changes with the sum."""
    inputs = [_softmax_of(tape, tape.ops[k]) for k in site.ops]
    ids = tuple(i for i in inputs if i is not None)
    if len(ids) < len(inputs):
        return
    form = "softmax over" if site.name == "div" else "log softmax over"
    group = Group("own", ids, None, made=tuple(tape.makers.get(i, -1) for i in ids))
    for axis in range(tape.values[ids[0]].ndim):
        yield Edit(site, OUT, form, (group,), detail=str((axis,)), axes=(axis,))


def _softmax_of(tape: Tape, op: Op) -> int | None:
    """What an operation is the last one of the softmax of, or of its logarithm; None where it is none."""

    def made(i: int, *names: str) -> Op | None:
        k = tape.makers.get(i)
        while k is not None and tape.ops[k].name in _SHAPING:
            k = tape.makers.get(tape.ops[k].ins[0])
        return tape.ops[k] if k is not None and tape.ops[k].name in names and tape.ops[k].stack == op.stack else None

    if op.name not in ("div", "sub"):
        return None
    top, log = made(op.ins[0], "exp" if op.name == "div" else "sub"), made(op.ins[1], "log")
    total = made(op.ins[1], "reduce_sum") if op.name == "div" else made(log.ins[0], "reduce_sum") if log else None
    less = top if op.name == "sub" or top is None else made(top.ins[0], "sub")
    if total is None or less is None or less.name != "sub" or made(total.ins[0], "exp") is None:
        return None
    most = made(less.ins[1], "max", "reduce_max")
    return None if most is None else less.ins[0]


def _spread(tape: Tape, k: int, shape: tuple[int, ...], users: dict[int, list[int]]) -> int | None:
    """The operation that brings a sum back to the shape of what was summed."""
    for _ in range(4):
        used = users.get(tape.ops[k].outs[0], [])
        if len(used) != 1 or tape.ops[used[0]].name not in ("broadcast_in_dim", "reshape", "expand_dims", "div", "mul"):
            return None
        k = used[0]
        if tape.values[tape.ops[k].outs[0]].shape == shape:
            return k if tape.ops[k].name == "broadcast_in_dim" else None
    return None


def _taken(tape: Tape, k: int, shape: tuple[int, ...], users: dict[int, list[int]]) -> tuple[int, int] | None:
    """(the operation that takes a sum beside what has the shape of what was summed, as which operand): of axes that are
    kept, with length 1, an operation brings them back itself."""
    for _ in range(4):
        used = users.get(tape.ops[k].outs[0], [])
        if len(used) != 1:
            return None
        before, k = tape.ops[k].outs[0], used[0]
        op = tape.ops[k]
        if op.name in _BESIDE and tape.values[op.outs[0]].shape == shape and tape.values[before].ndim == len(shape):
            return k, op.ins.index(before)
        if op.name not in ("broadcast_in_dim", "reshape", "expand_dims", "div", "mul"):
            return None
    return None


def axis_in(node: ast.expr) -> ast.expr | None:
    """The axes that an expression sums over, where they stand in it as numbers and nothing else does."""
    calls = [x for x in ast.walk(node) if isinstance(x, ast.Call)]
    named = [k.value for call in calls for k in call.keywords if k.arg == "axis"]
    found = [x for x in named or (a for call in calls for a in call.args) if _axes(x)]
    return found[0] if len(found) == 1 and len(named) < 2 else None


def axis_as(text: str, edit: Edit, tape: Tape) -> str:
    """The axes of a change as the caller writes axes: from the end where they were so."""
    old, new = _axes(ast.parse(text, mode="eval").body), ast.literal_eval(edit.detail)
    summed = edit.groups[0].ids[0] if edit.groups else tape.ops[edit.site.ops[0]].ins[0]
    if old and all(n < 0 for n in old):
        new = tuple(n - tape.values[summed].ndim for n in new)
    return str(new[0] if len(new) == 1 else new)


def in_words(edit: Edit) -> str:
    axes = ast.literal_eval(edit.detail)
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"


def _axes(node: Any) -> tuple[int, ...]:
    """The whole numbers that an expression writes down, () where it is none or something else."""
    try:
        found = ast.literal_eval(node)
    except ValueError:
        return ()
    found = found if isinstance(found, tuple) else (found,)
    return found if all(type(n) is int for n in found) else ()
