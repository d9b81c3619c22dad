"""What a loop's condition is made of: which inputs it looks at, and which of its parts ended the loop."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
from jax.extend import core
from jax.extend.core import jaxpr_as_fun

from jaxcheck.program import interpret, jaxpr, rules


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
