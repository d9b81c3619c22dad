"""How far programs may be off by rounding, as traced, compiled and kept like any other program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.program import units
from jaxcheck.program.custom import rules
from jaxcheck.program.run import factors as products
from jaxcheck.program.run.by_pieces import once
from jaxcheck.program.run.compile import Program, execute
from jaxcheck.program.run.hoisting import as_inputs
from jaxcheck.program.ways.perturbed import of_constants, scatter, signs

DRAWS = 8


def round_off(
    name: Any,
    programs: Sequence[Program],
    inputs: Callable[[Any], Sequence[Any]],
    results: Callable[[list[Any]], Any],
    values: Any,
    free: Sequence[bool],
    unit: float = 0.0,
    constants: bool | tuple[bool, ...] = False,
    factors: bool = True,
) -> tuple[list[tuple[Any, Any]], int]:
    """([(result, how far it may be off)] of every program, programs compiled), by Monte Carlo arithmetic.

    Args:
        name: hashable, of what `inputs` and `results` do.
        inputs: from `values` to the flat inputs of a program.
        results: from the flat results of a program, or their bars, to what is wanted.
        free: per program, whether decisions may fall otherwise: see `scatter`.
        unit: of every operation, where that is more than its dtype's own.
        constants: nothing is rounded but the programs' constants, to `unit`; or of the one program those of what it
            holds that are named.
        factors: whether those of products are rounded to what this device rounds them to.
    """

    def unit_of(eqn: Any, dtype: Any) -> float:
        return max(units.unit(dtype), unit)

    def build(_, consts, values, rows):
        found = []
        for program, own, either in zip(programs, consts, free, strict=True):
            closed = as_inputs(program.closed)
            flat = [
                jnp.asarray(x).astype(a.dtype) if rules.is_inexact(a) else x
                for x, a in zip(inputs(values), program.closed.in_avals, strict=True)
            ]
            if constants:
                bars = of_constants(closed, own, flat, rows, unit, constants if isinstance(constants, tuple) else None)
            else:
                bars = scatter(closed, [*own, *flat], rows, unit_of, either, factors=factors)
            found.append((results(bars.results), results(bars.bars)))
        return found

    device = factors and products.accelerator()
    key = ("round-off", name, tuple(p.identity for p in programs), tuple(free), unit, constants, device)
    consts = [tuple(p.closed.consts) for p in programs]
    with jax.enable_x64(True):
        args = consts, values, signs(DRAWS).astype(np.float64)
        found, compiled = once(key, functools.partial(build, None), args, programs, DRAWS), 0
        if found is None:
            found, compiled = execute(key, build, [], consts, values, signs(DRAWS))
        return jax.tree_util.tree_map(np.asarray, found), compiled
