"""Calls of Python that are made only where something is amiss: in a branch that is not taken at the point.

Code that looks for errors calls Python in a branch (equinox's `error_if`, which lineax, optimistix and diffrax do
everywhere). Such a call keeps the precision that it was written for, and all that passes the branch would have to be
taken for what that precision makes of it. Where it is not made at the point, it is left out: its floats are NaN, so
that nothing that would have needed them is judged by anything else. Calls that give no float are made as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxcheck.program import interpret
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.custom import rules
from jaxcheck.program.mode import is_traced
from jaxcheck.program.run.cache import compiled


def silent(program: Any, values: Sequence[Any], wide: bool) -> frozenset[Any]:
    """The host functions, by their code, that a closed jaxpr calls in branches alone, and does not call at the point.

    Args:
        values: of its flat inputs.
        wide: whether it belongs to the 64-bit mode.
    """
    calls = [(eqn, "cond" in path) for eqn, path in interpret.walk(program) if _is_call(eqn)]
    known = {_code(e) for e, inside in calls if inside and _gives_floats(e)} - {
        _code(e) for e, inside in calls if not inside
    }
    if not known or any(map(is_traced, values)):
        return frozenset()
    made: set[Any] = set()
    try:
        with jax.enable_x64(wide):
            given = [np.asarray(x, v.dtype) for x, v in zip(values, program.in_avals, strict=True)]
            run = jaxpr_as_fun(_noted(program, made))
            jax.block_until_ready(ask(lambda: compiled(jax.jit(run).lower(*given))(*given)))
    except (Refused, TypeError, ValueError):
        return frozenset()
    return frozenset(known - made)


def is_unheard(eqn: Any, unheard: frozenset[Any]) -> bool:
    """Whether an equation is a call of one of these host functions, of which floats come back."""
    return bool(unheard) and _is_call(eqn) and _code(eqn) in unheard and _gives_floats(eqn)


def _is_call(eqn: Any) -> bool:
    return eqn.primitive.name == "pure_callback"


def _gives_floats(eqn: Any) -> bool:
    return any(rules.is_inexact(v.aval) for v in eqn.outvars)


def _code(eqn: Any) -> Any:
    """What tells a host function: rules are traced anew, with new closures of the same code."""
    function = eqn.params["callback"]
    function = getattr(function, "callback_func", function)
    return getattr(function, "__code__", id(function))


def _noted(program: Any, made: set[Any]) -> Any:
    """The program, which notes whose host functions it calls."""

    def noted(eqn: Any) -> Any:
        function, code = eqn.params["callback"], _code(eqn)

        def call(*args: Any) -> Any:
            made.add(code)
            return function(*args)

        return eqn.replace(params={**eqn.params, "callback": call})

    return interpret.replaced(program, _is_call, noted)


__all__ = ["is_unheard", "silent"]
