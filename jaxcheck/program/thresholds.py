"""Numbers written in a program that decide something, as the caller's own run sees them.

`t >= 0.9` on float32 data compares with the float32 that is nearest to 0.9, and so takes t = float32(0.9); in float64
it would not. So a number that is compared with is rounded as it is where it runs, wherever it stands in the program:
what is one number there stays one here. All others keep their digits, and what is off by that is less than any bar.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.extend import core

from jaxcheck.program import interpret
from jaxcheck.program.constants import place

_COMPARE = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "max", "min", "clamp", "lt_to", "le_to", "eq_to"})
# What hands a number on as it is.
_PASS = frozenset({"broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "copy", "copy_p"})
_FLOATS = ("float64", "float32")


def as_run(program: Any) -> Any:
    """The program with numbers that decide rounded to float32; the same object where there are none to round."""
    numbers: set[float] = set()
    _deciding(program, numbers, {})
    narrow = {x: _narrow(x) for x in numbers}
    narrow = {x: y for x, y in narrow.items() if y != x and np.isfinite(y)}
    return _rounded(program, narrow, {}) if narrow else program


def _narrow(x: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(x))


def _number(atom: Any) -> float | None:
    """The number that a literal is, if it is a float."""
    if str(getattr(atom.aval, "dtype", "")) not in _FLOATS or np.ndim(atom.val):
        return None
    return float(atom.val)


def _deciding(program: Any, numbers: set[float], known: dict[int, tuple[Any, frozenset[int]]]) -> frozenset[int]:
    """The parameters of a program that are compared inside; `numbers` are added to."""
    if id(program) in known:  # kept with what was found, so that the id stays its own
        return known[id(program)][1]
    jaxpr, wanted = interpret.opened(program), set()
    for eqn in reversed(jaxpr.eqns):
        for atom in _compared(eqn, wanted, numbers, known):
            if not interpret.is_literal(atom):
                wanted.add(atom)
            elif (number := _number(atom)) is not None:
                numbers.add(number)
    found = frozenset(k for k, v in enumerate(jaxpr.invars) if v in wanted)
    known[id(program)] = program, found
    return found


def _compared(eqn: Any, wanted: set[Any], numbers: set[float], known: dict) -> list[Any]:
    """The operands of an equation that are compared in it, or as what it hands on."""
    name = eqn.primitive.name
    if name in _COMPARE or (name in _PASS and eqn.outvars[0] in wanted):
        return list(eqn.invars)
    found = []
    for role, inner in interpret.sub_jaxprs(eqn.params):
        inside = _deciding(inner, numbers, known)
        found += [a for k, a in enumerate(eqn.invars) if inside and place(eqn, role, inner, k) in inside]
    return found


def _rounded(program: Any, narrow: dict[float, float], done: dict[int, tuple[Any, Any]]) -> Any:
    if id(program) not in done:
        done[id(program)] = program, _replaced(program, narrow, done)
    return done[id(program)][1]


def _replaced(program: Any, narrow: dict[float, float], done: dict[int, tuple[Any, Any]]) -> Any:
    jaxpr = interpret.opened(program)

    def atom(a: Any) -> Any:
        number = _number(a) if interpret.is_literal(a) else None
        return core.Literal(_like(a.val, narrow[number]), a.aval) if number in narrow else a

    eqns, same = [], True
    for eqn in jaxpr.eqns:
        ins, params = [atom(a) for a in eqn.invars], eqn.params
        if any(True for _ in interpret.sub_jaxprs(params)):
            params = interpret.map_jaxprs(params, lambda inner: _rounded(inner, narrow, done))
        kept = all(map(_is, ins, eqn.invars)) and all(
            params[k] is v or (isinstance(v, (tuple, list)) and all(map(_is, params[k], v)))
            for k, v in eqn.params.items()
        )
        eqns.append(eqn if kept else eqn.replace(invars=ins, params=params))
        same &= kept
    if same:
        return program
    new = jaxpr.replace(eqns=eqns)
    return core.ClosedJaxpr(new, program.consts) if getattr(program, "jaxpr", program) is not program else new


def _like(value: Any, number: float) -> Any:
    """A number of the kind that a literal's value is: NumPy's, Python's, or JAX's with a dtype of its own."""
    if isinstance(value, (np.generic, np.ndarray)):
        return np.asarray(number, value.dtype)[()]
    return type(value)(number, value.dtype) if hasattr(value, "dtype") else number


def _is(one: Any, other: Any) -> bool:
    return one is other
