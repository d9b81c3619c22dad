"""What a loop's condition is made of: which inputs it looks at, and which of its parts ended the loop."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
from jax.extend import core
from jax.extend.core import jaxpr_as_fun

from jaxcheck.program import interpret, jaxpr
from jaxcheck.program.custom import rules


def sources(program: Any, outputs: Iterable[int]) -> set[int]:
    """Which inputs of a program its chosen outputs are computed from."""
    program = interpret.opened(program)
    needed = {program.outvars[i] for i in outputs if not interpret.is_literal(program.outvars[i])}
    for eqn in reversed(program.eqns):
        hit = {i for i, v in enumerate(eqn.outvars) if v in needed}
        if not hit:
            continue
        inner = jaxpr.nested(eqn) if eqn.primitive.name != "custom_linear_solve" else None
        read = range(len(eqn.invars)) if inner is None else sources(inner, hit)
        needed |= {eqn.invars[i] for i in read if not interpret.is_literal(eqn.invars[i])}
    return {i for i, v in enumerate(program.invars) if v in needed}


def only_scales(body: Any, consts: int, outputs: Iterable[int]) -> bool:
    """Whether all that a loop's body remembers in floats is kept as it is, or multiplied by a constant in every turn: a
    step that is halved until it is short enough. That is no iteration that comes closer to anything, but a count.

    Args:
        consts: how many inputs of the body come before what is carried; outputs: the carried values that matter.
    """
    body = interpret.opened(body)
    made = {v: eqn for eqn in body.eqns for v in eqn.outvars}
    still = {v for i, v in enumerate(body.invars) if i < consts} | set(body.constvars)
    for eqn in body.eqns:
        if all(interpret.is_literal(v) or v in still for v in eqn.invars):
            still.update(eqn.outvars)

    def factors(i: int) -> int | None:
        """How often the value carried at a place is multiplied; None where something else is done to it."""
        atom, count = body.outvars[i - consts], 0
        while not interpret.is_literal(atom) and atom is not body.invars[i]:
            eqn = made.get(atom)
            name = "" if eqn is None else eqn.primitive.name
            if eqn is None or name not in ("convert_element_type", "copy", "mul", "div"):
                return None
            moving = [k for k, v in enumerate(eqn.invars) if not (interpret.is_literal(v) or v in still)]
            if len(moving) != 1 or (name == "div" and moving[0] == 1):
                return None
            atom, count = eqn.invars[moving[0]], count + (name in ("mul", "div"))
        return None if interpret.is_literal(atom) else count

    remembered = [i for i in sources(body, outputs) if i >= consts and rules.is_inexact(body.invars[i].aval)]
    found = [factors(i) for i in remembered]
    return None not in found and any(found)


def capped(condition: Any, asked: list[Any], stopped: list[Any]) -> Any:
    """Whether a loop ended although its floats were to go on, per row: at a number of iterations, beyond which the
    program as written never goes."""
    floats = [v for v in _conjuncts(condition) if _on_floats(condition, v)]
    if not floats:
        return False
    program = interpret.opened(condition).replace(outvars=floats)
    wanted = jaxpr_as_fun(core.ClosedJaxpr(program, interpret.constants(condition)))(*asked, *stopped)
    return functools.reduce(jnp.logical_and, wanted)


def _conjuncts(condition: Any) -> list[Any]:
    """The variables of a condition that all must be true for it to be."""
    program = interpret.opened(condition)
    made = {v: eqn for eqn in program.eqns for v in eqn.outvars}
    found, rest = [], [v for v in program.outvars if not interpret.is_literal(v)]
    while rest:
        v = rest.pop()
        if v in made and made[v].primitive.name == "and":
            rest += [x for x in made[v].invars if not interpret.is_literal(x)]
        else:
            found.append(v)
    return found


def _on_floats(condition: Any, variable: Any) -> bool:
    program = interpret.opened(condition)
    return any(rules.is_inexact(program.invars[i].aval) for i in sources(program.replace(outvars=[variable]), {0}))
