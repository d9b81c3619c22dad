"""Numbers written in a program that something is compared with, as the caller's own run sees them.

`t >= 0.9` on float32 data compares with the float32 that is nearest to 0.9, and so takes t = float32(0.9); in float64
it would not. So a number is rounded as it is where it runs, where it is compared with. Elsewhere it keeps its digits,
and what is off by that is less than any bar.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax.extend import core

from jaxcheck.program import interpret
from jaxcheck.program.mistyped import place

_COMPARE = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "max", "min", "clamp", "lt_to", "le_to", "eq_to"})
# What hands a number on as it is.
_PASS = frozenset({"broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "copy", "copy_p"})
_FLOATS = ("float64", "float32")


class _Found(NamedTuple):
    """Of a program (kept with this, so that its id stays its own): which parameters are compared inside, and with which
    numbers: (equation, operand). `below`: whether a nested program has such numbers."""

    program: Any
    inputs: frozenset[int]
    numbers: frozenset[tuple[int, int]]
    below: bool


def as_run(program: Any) -> Any:
    """The program with numbers that are compared with rounded to float32; the same object where there are none."""
    known: dict[int, _Found] = {}
    return _rounded(program, known, {}) if _is_concerned(_find(program, known)) else program


def _is_concerned(found: _Found) -> bool:
    return bool(found.numbers) or found.below


def _find(program: Any, known: dict[int, _Found]) -> _Found:
    if id(program) in known:
        return known[id(program)]
    jaxpr, wanted, numbers, below = interpret.opened(program), set(), set(), False
    for k, eqn in reversed(list(enumerate(jaxpr.eqns))):
        for j in _compared(eqn, wanted, known):
            atom = eqn.invars[j]
            if not interpret.is_literal(atom):
                wanted.add(atom)
            elif _narrow(atom) is not None:
                numbers.add((k, j))
        below |= any(_is_concerned(known[id(inner)]) for _, inner in interpret.sub_jaxprs(eqn.params))
    inputs = frozenset(k for k, v in enumerate(jaxpr.invars) if v in wanted)
    known[id(program)] = _Found(program, inputs, frozenset(numbers), below)
    return known[id(program)]


def _compared(eqn: Any, wanted: set[Any], known: dict[int, _Found]) -> list[int]:
    """The operands of an equation that are compared in it, or as what it hands on."""
    name, every = eqn.primitive.name, range(len(eqn.invars))
    inner = [(role, sub, _find(sub, known)) for role, sub in interpret.sub_jaxprs(eqn.params)]
    if name in _COMPARE or (name in _PASS and eqn.outvars[0] in wanted):
        return list(every)
    return [j for j in every if any(place(eqn, role, sub, j) in found.inputs for role, sub, found in inner)]


def _narrow(atom: Any) -> float | None:
    """What float32 makes of a number, if it is a float and another one there."""
    if str(getattr(atom.aval, "dtype", "")) not in _FLOATS or np.ndim(atom.val):
        return None
    with np.errstate(over="ignore"):
        narrow = float(np.float32(atom.val))
    return narrow if np.isfinite(narrow) and narrow != float(atom.val) else None


def _rounded(program: Any, known: dict[int, _Found], done: dict[int, Any]) -> Any:
    found = _find(program, known)
    if not _is_concerned(found):
        return program
    if id(program) not in done:
        done[id(program)] = _replaced(program, found.numbers, known, done)
    return done[id(program)]


def _replaced(program: Any, numbers: frozenset[tuple[int, int]], known: dict[int, _Found], done: dict[int, Any]) -> Any:
    jaxpr, eqns = interpret.opened(program), []
    for k, eqn in enumerate(jaxpr.eqns):
        ins = [_narrowed(a) if (k, j) in numbers else a for j, a in enumerate(eqn.invars)]
        inside = any(_is_concerned(_find(inner, known)) for _, inner in interpret.sub_jaxprs(eqn.params))
        params = interpret.map_jaxprs(eqn.params, lambda inner: _rounded(inner, known, done)) if inside else eqn.params
        eqns.append(eqn.replace(invars=ins, params=params))
    new = jaxpr.replace(eqns=eqns)
    return core.ClosedJaxpr(new, program.consts) if getattr(program, "jaxpr", program) is not program else new


def _narrowed(atom: Any) -> Any:
    """A literal in float32, of the kind that it was: NumPy's, Python's, or JAX's with a dtype of its own."""
    value, number = atom.val, _narrow(atom)
    if isinstance(value, (np.generic, np.ndarray)):
        return core.Literal(np.asarray(number, value.dtype)[()], atom.aval)
    return core.Literal(type(value)(number, value.dtype) if hasattr(value, "dtype") else number, atom.aval)
