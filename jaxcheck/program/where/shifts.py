"""Rows that are taken, put or rolled one place off: `x[:, :-1]` for `x[:, 1:]`, `jnp.roll(x, 1)` for
`jnp.roll(x, -1)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.sites import Site
from jaxcheck.program.where.tape import Op, Tape

# The forms of such changes: of a slice, of an index that is written down, of a roll.
FORMS = ("shift", "index", "roll")


def shifts(tape: Tape, site: Site) -> Iterator[Edit]:
    """A slice or an index one place on or back, and a roll by any other number of places."""
    op = tape.ops[site.ops[0]]
    if op.name == "slice":
        yield from _slices(tape, site, op)
    if op.name == "concatenate" and _is_roll(tape, op):
        length = tape.values[op.outs[0]].shape[op.eqn.params["dimension"]]
        for step in range(1, length):
            by = (tape.values[op.ins[0]].shape[op.eqn.params["dimension"]] + step) % length
            yield Edit(site, OUT, "roll", other=_rolled(step), detail=str(by if 2 * by <= length else by - length))
    for slot, i in enumerate(op.ins) if op.name == "broadcast_in_dim" else ():
        if i in tape.literals and tape.values[i].dtype.kind in "iu":
            yield from (Edit(site, slot, "index", factor=step) for step in (1.0, -1.0))


def _slices(tape: Tape, site: Site, op: Op) -> Iterator[Edit]:
    shape = tape.values[op.ins[0]].shape
    starts, limits = op.eqn.params["start_indices"], op.eqn.params["limit_indices"]
    for axis, (first, last, n) in enumerate(zip(starts, limits, shape, strict=True)):
        for step in (1, -1):
            if first + step >= 0 and last + step <= n:
                yield Edit(site, OUT, "shift", other=_moved(axis, step), detail=f"{axis} {step}")


def _moved(axis: int, step: int) -> Callable:
    def run(op: Op, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        p = op.eqn.params
        steps = p["strides"] or [1] * xs[0].ndim
        parts = list(map(slice, p["start_indices"], p["limit_indices"], steps))
        old = parts[axis]
        parts[axis] = slice(old.start + step, old.stop + step, old.step)
        return [xs[0][tuple(parts)]]

    return run


def _rolled(step: int) -> Callable:
    def run(op: Op, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        axis = op.eqn.params["dimension"]
        return [np.roll(np.concatenate(xs, axis), step, axis)]

    return run


def _is_roll(tape: Tape, op: Op) -> bool:
    """Whether the two parts of an array are put together the other way round."""
    made = [tape.makers.get(i) for i in op.ins]
    parts = [tape.ops[k] for k in made if k is not None]
    if len(op.ins) != 2 or len(parts) != 2 or any(part.name != "slice" or part.stack != op.stack for part in parts):
        return False
    same = tape.values[parts[0].ins[0]].shape == tape.values[op.outs[0]].shape
    return same and parts[0].ins == parts[1].ins


def in_words(edit: Edit, on: str) -> str:
    """What is changed, in a few words."""
    if edit.form == "roll":
        return f"rolled by {edit.detail}"
    if edit.form == "index":
        return f"an index {'higher' if edit.factor > 0 else 'lower'} by 1"
    axis, step = edit.detail.split()
    return f"{on} one place {'on' if int(step) > 0 else 'back'} along axis {axis}"
