"""What a backward pass has in common with the loss: a change there would change the loss, too."""

from __future__ import annotations

import dataclasses

from jaxcheck.program.where.handed import is_argument, is_handed, only_hands_on
from jaxcheck.program.where.tape import Op, Tape


def as_called(back: Tape, ahead: Tape) -> Tape:
    """The tape of a backward pass with what it does in a function of the loss's own put where that is called. What is
    given to such a function by the loss itself, and what one gives back in which the backward pass does nothing else,
    has no place: nothing can be mistaken there; nor in what it computes for itself alone, which is `hidden`."""
    shared = {place for op in ahead.ops for place in op.stack}

    def called(op: Op) -> Op:
        depth = 0
        while depth < len(op.stack) - 1 and op.stack[depth] in shared:
            depth += 1
        return dataclasses.replace(op, stack=op.stack[depth:]) if depth else op

    ops = [op if only_hands_on(op) else called(op) for op in back.ops]
    within = [new is not op for new, op in zip(ops, back.ops, strict=True)]
    outside = set(back.outputs) | {i for op, hidden in zip(ops, within, strict=True) if not hidden for i in op.ins}
    hidden = frozenset(k for k, op in enumerate(ops) if within[k] and outside.isdisjoint(op.outs))
    plain = [op for op in ops if op.stack and not only_hands_on(op)]
    own = {(op.stack[0].file, op.stack[0].function) for op in plain}
    of_the_loss = {(place.file, place.function) for place in shared} - own

    def placed(op: Op) -> Op:
        here = op.stack[:1]
        nowhere = (is_argument(op) and here and here[0] in shared) or (
            is_handed(op) and here and (here[0].file, here[0].function) in of_the_loss
        )
        return dataclasses.replace(op, stack=()) if nowhere else op

    return dataclasses.replace(back, ops=[placed(op) for op in ops], hidden=hidden)
