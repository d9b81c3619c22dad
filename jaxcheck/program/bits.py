"""Functions that work on the bits of their numbers: JAX differentiates through no integer, and says nothing.

`bitcast_convert_type(bitcast_convert_type(x, int32), float32)` is x, and its derivative, by JAX, is 0. A tangent ends
as well where a float is rounded to an integer, but there its derivative is 0 indeed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxcheck.program import draws, interpret
from jaxcheck.program.custom import owner, rules

NAME = "bitcast_convert_type"
LOST = f"The function makes floats of the bits of others ({NAME}), and JAX has no derivative of that"
# Bytes of a float64.
WIDE = 8
# What makes floats of integers by their values; where they are indices they only decide.
_READ = (NAME, "convert_element_type", "pow", "pure_callback", "io_callback")
# What is known of a value: that it does not move, moves as a float, or is made of the bits of one that does.
_STILL, _MOVES, _BITS = 0, 1, 2


class _Lost(Exception):
    on_purpose = True  # where it is raised it is caught


def loses_derivatives(program: Any, count: int) -> bool:
    """Whether bits of an input that moves, of the first `count`, become a float again, outside of rules that autodiff
    keeps."""
    if not any(eqn.primitive.name == NAME for eqn, _ in interpret.walk(program)):
        return False
    moving = [i < count and rules.is_inexact(v.aval) for i, v in enumerate(interpret.opened(program).invars)]
    try:
        _results(program, [_MOVES if m else _STILL for m in moving])
    except _Lost:
        return True
    return False


def narrow(program: Any, count: int) -> tuple[str, ...]:
    """What stays in its own precision, coarser than float64, where bits become floats again."""
    coarse = any(
        eqn.primitive.name == NAME and rules.is_inexact(v.aval) and v.aval.dtype.itemsize < WIDE
        for eqn, _ in interpret.walk(program)
        for v in (*eqn.invars, *eqn.outvars)
    )
    return (NAME,) if coarse and loses_derivatives(program, count) else ()


def other_bits(eqn: Any) -> bool:
    """Whether a number's bits are read in another width than its own: those of a float32 that is a float64 now."""
    if eqn.primitive.name != NAME or not rules.is_inexact(eqn.invars[0].aval):
        return False
    return eqn.invars[0].aval.dtype.itemsize != eqn.outvars[0].aval.dtype.itemsize


def _results(program: Any, levels: Sequence[int]) -> list[int]:
    opened = interpret.opened(program)
    known = dict(zip(opened.invars, levels, strict=True))

    def read(atom: Any) -> int:
        return _STILL if interpret.is_literal(atom) else known.get(atom, _STILL)

    for eqn in opened.eqns:
        known.update(zip(eqn.outvars, _equation(eqn, [read(v) for v in eqn.invars]), strict=True))
    return [read(v) for v in opened.outvars]


def _equation(eqn: Any, levels: Sequence[int]) -> list[int]:
    floats = [rules.is_inexact(v.aval) for v in eqn.outvars]
    if not any(levels):
        return [_STILL] * len(floats)
    kept = rules.rule_kind(eqn) is not None and owner.owner(eqn).origin != "user"
    inner = [] if kept else [n for n in draws.nested(eqn) if any(i is not None for i in n.results)]
    if inner:
        return _nested(inner, levels, len(floats))
    if _BITS in levels and eqn.primitive.name in _READ and any(floats):
        raise _Lost
    bits = _BITS in levels or (eqn.primitive.name == NAME and levels[0] == _MOVES)
    kinds = zip(floats, eqn.outvars, strict=True)
    return [_MOVES if f else _BITS if bits and v.aval.dtype != bool else _STILL for f, v in kinds]


def _nested(inner: Sequence[draws.Nested], levels: Sequence[int], count: int) -> list[int]:
    """The results of programs in an equation, over all turns of a loop."""
    found = [_STILL] * count
    for one in inner:
        given = [levels[i] for i in one.operands]
        while True:
            out = _results(one.program, given)
            new = [max(x, out[one.carried[i]]) if i in one.carried else x for i, x in enumerate(given)]
            if new == given:
                break
            given = new
        for i, place in one.carried.items():  # a loop may make no turn
            out[place] = max(out[place], given[i])
        for i, x in zip(one.results, out, strict=True):
            if i is not None:
                found[i] = max(found[i], x)
    return found
