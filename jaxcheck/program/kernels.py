"""Pallas kernels opened: what a kernel computes, as an ordinary program of JAX's.

A kernel can be run in the precision that it was written for alone, and autodiff does not go through it. JAX's
interpret mode has its meaning as a loop over the grid, blocks cut out and put back; traced, that loop is a program
which can be emitted in float64, counted through and differentiated like any other. A grid has a fixed size, so the
loop is a scan.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core
from jax.extend.core import primitives

from jaxcheck.program import interpret
from jaxcheck.program.ask import Refused, ask

# Kernels that are remembered opened; each is a program in memory.
_KEPT = 64
_seen: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
NAME = "pallas_call"


def is_kernel(eqn: Any) -> bool:
    return eqn.primitive.name == NAME


def opened(eqn: Any) -> Any | None:
    """What a kernel's equation computes, as a closed jaxpr of its operands; None where JAX's interpreter cannot say
    (kernels made of a machine's own instructions, say)."""
    key = id(eqn.params["jaxpr"])
    known = _seen.get(key)
    if known is None or known[0] is not eqn.params:
        known = _seen[key] = (eqn.params, _traced(eqn))
        while len(_seen) > _KEPT:
            _seen.popitem(last=False)
    return known[1]


def without_kernels(program: Any) -> Any:
    """The program with every kernel that can be opened as a call of what it computes, through every nesting; the same
    object where there is none."""
    return interpret.replaced(program, is_kernel, _open)


def _open(eqn: Any) -> Any:
    program = opened(eqn)
    if program is None:
        return eqn
    return eqn.replace(
        primitive=primitives.closed_call_p, params={"call_jaxpr": program}, effects=interpret.opened(program).effects
    )


def _traced(eqn: Any) -> Any | None:
    try:
        # A part of JAX that is not promised to stay: without it a kernel is run as it is.
        from jax._src.pallas.hlo_interpreter import pallas_call_hlo_interpret as interpreted
    except ImportError:
        return None
    known = inspect.signature(interpreted).parameters
    params: dict[str, Any] = {k: v for k, v in eqn.params.items() if k in known and k != "debug"}
    params |= {"debug": False} if "debug" in known else {}
    avals = [v.aval for v in eqn.invars]
    try:
        with jax.enable_x64(interpret.is_64_bits([*eqn.invars, *eqn.outvars])):
            program = ask(jax.make_jaxpr(functools.partial(interpreted, **params)), *avals)
            return ask(jax.make_jaxpr(_counted(program, eqn.params["grid_mapping"].grid)), *avals)
    except Refused:  # what the interpreter does not know
        return None


def _counted(program: Any, grid: tuple[Any, ...]) -> Callable:
    """The program with its loop over a grid of known size as a scan."""
    jaxpr = interpret.opened(program)
    loops = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "while"]
    known = len(loops) == 1 and all(isinstance(n, int) for n in grid)

    def run(*args: Any) -> list[Any]:
        env: dict[Any, Any] = dict(zip(jaxpr.constvars, interpret.constants(program), strict=True))
        env |= dict(zip(jaxpr.invars, args, strict=True))
        for eqn in jaxpr.eqns:
            given = [x.val if interpret.is_literal(x) else env[x] for x in eqn.invars]
            found = _scanned(eqn, given, math.prod(grid)) if known and eqn in loops else interpret.bind(eqn, given)
            env |= dict(zip(eqn.outvars, found, strict=True))
        return [x.val if interpret.is_literal(x) else env[x] for x in jaxpr.outvars]

    return run


def _scanned(eqn: Any, given: list[Any], length: int) -> list[Any]:
    ahead, count = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    fixed, carry = given[ahead : ahead + count], tuple(given[ahead + count :])
    body = core.jaxpr_as_fun(eqn.params["body_jaxpr"])
    if length == 1:
        return list(body(*fixed, *carry))
    return list(jax.lax.scan(lambda c, _: (tuple(body(*fixed, *c)), None), carry, None, length=length)[0])
