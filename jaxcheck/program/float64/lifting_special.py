"""Equations that are emitted again in float64 in a way of their own, each a function of the `Lifter` that does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxcheck.program import interpret
from jaxcheck.program.custom import rules
from jaxcheck.program.float64.widths import cast, lifted_dtype


def _remat(lifter: Any, eqn: Any, operands: list[Any]) -> list[Any]:
    program = interpret.closed(eqn.params["jaxpr"])
    new = lifter.program(program, tuple(v.moving for v in operands))
    # An open program has no room for constants: they go in by the front door.
    jaxpr = interpret.opened(new)
    consts = list(interpret.constants(new))
    if consts:
        jaxpr = core.Jaxpr([], [*jaxpr.constvars, *jaxpr.invars], jaxpr.outvars, jaxpr.eqns,
                           jaxpr.effects, jaxpr.debug_info._replace(arg_names=None))  # fmt: skip
    return interpret.bind(eqn, [*consts, *(v.array for v in operands)], {**eqn.params, "jaxpr": jaxpr})


def _identity(lifter: Any, eqn: Any, operands: list[Any]) -> list[Any]:
    return [cast(operands[0].array, lifted_dtype(eqn.params.get("new_dtype")))]  # a rounding or a conversion


def _bitcast(lifter: Any, eqn: Any, operands: list[Any]) -> list[Any]:
    # Bits mean something in their own width only; the cast to float64 comes after.
    return lifter.native(eqn, [v.array for v in operands])


def _linear_call(lifter: Any, eqn: Any, operands: list[Any]) -> list[Any]:
    args = [v.array for v in operands]
    n = eqn.params.get("num_res", 0) + eqn.params.get("num_callee_consts", 0)
    live = tuple(range(n, len(args)))
    outs = tuple(range(len(eqn.outvars)))
    call = lifter.function(interpret.closed(eqn.params["callee"]))

    def transpose(residuals: list[Any], cotangents: list[Any]) -> list[Any]:
        with jax.enable_x64(lifter.wide):
            program = rules.vjp_program(eqn, live, outs)
        zeros = [jnp.zeros(args[i].shape, args[i].dtype) for i in live]
        return lifter.function(program)(*residuals, *zeros, *cotangents)

    return list(jax.custom_derivatives.linear_call(
        lambda residuals, linear: call(*residuals, *linear), transpose, args[:n], args[n:]
    ))  # fmt: skip


SPECIAL: dict[str, Callable[[Any, Any, list[Any]], list[Any]]] = {
    "remat": _remat,
    "remat2": _remat,
    "checkpoint": _remat,
    "reduce_precision": _identity,
    "convert_element_type": _identity,
    "bitcast_convert_type": _bitcast,
    "linear_call": _linear_call,
}
