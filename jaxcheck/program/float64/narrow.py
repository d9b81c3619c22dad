"""What keeps a program from float64: narrow values, random bits, and what cannot be emitted again."""

from __future__ import annotations

import operator
import weakref
from typing import Any

import jax

from jaxcheck.program import asides, draws, interpret
from jaxcheck.program.custom import owner, rules
from jaxcheck.program.float64 import lifting, own_bits
from jaxcheck.program.float64.widths import is_low
from jaxcheck.program.mode import is_wide

# The programs of a rule, as long as the function is there that it was written for: programs that are made of one
# another hold the same rules, diffrax's hundreds of them, at some 5 ms each.
_OF_RULES: weakref.WeakKeyDictionary[Any, list[tuple[Any, list[Any]]]] = weakref.WeakKeyDictionary()


def programs_of(closed_jaxpr: Any) -> tuple[Any, ...]:
    """The program and the programs of the custom rules in it.

    JAX's own rules are left out: they follow their operands' dtype, and tracing each takes time.
    """
    found = [closed_jaxpr]
    with jax.enable_x64(interpret.has_64_bits(closed_jaxpr)):
        for eqn, _ in interpret.walk(closed_jaxpr):
            if rules.rule_kind(eqn) is not None and owner.owner(eqn).origin != "jax":
                found += _of_rule(eqn)
    return tuple(found)


def _of_rule(eqn: Any) -> list[Any]:
    """The programs of one rule, made once for the same functions, operands and mode."""
    primal = eqn.params.get("call_jaxpr")
    if primal is None:
        return rules.rule_programs(eqn)
    parts = tuple(x for name, x in eqn.params.items() if name != "call_jaxpr")
    rest = tuple(str(v.aval) for v in (*eqn.invars, *eqn.outvars)), is_wide(), eqn.primitive.name
    known = _OF_RULES.setdefault(primal, [])
    for (those, other), made in known:
        if other == rest and len(those) == len(parts) and all(map(operator.is_, those, parts)):
            return made
    known.append(((parts, rest), rules.rule_programs(eqn)))
    return known[-1][1]


def low_precision(closed_jaxpr: Any) -> tuple[str, ...]:
    """What keeps a program out of pure float64: its narrow values, by the equation that makes them.

    Empty means that the program, and every custom rule in it, computes in float64 throughout.
    """
    return narrow(programs_of(closed_jaxpr))


def narrow(programs: tuple[Any, ...]) -> tuple[str, ...]:
    reasons: dict[str, None] = {}
    for program in programs:
        for jaxpr in map(interpret.opened, interpret.walk_jaxprs(program)):
            for role, atoms in (("input", jaxpr.invars), ("constant", jaxpr.constvars)):
                for atom in atoms:
                    if is_low(getattr(atom.aval, "dtype", None)):
                        reasons[f"{role} {atom.aval.dtype}"] = None
            for eqn in jaxpr.eqns:
                if own_bits.rounds(eqn):
                    reasons[f"{eqn.primitive.name} to {eqn.params['mantissa_bits']} bits"] = None
                for atom in (*eqn.outvars, *filter(interpret.is_literal, eqn.invars)):
                    if is_low(getattr(atom.aval, "dtype", None)):
                        reasons[f"{eqn.primitive.name} {atom.aval.dtype}"] = None
    return tuple(reasons)


def uses_random_bits(closed_jaxpr: Any) -> bool:
    """Whether the program draws random numbers, which the 64-bit mode would draw differently."""
    return any(map(draws.draws, programs_of(closed_jaxpr)))


def islands(closed_jaxpr: Any, unheard: frozenset[Any] = frozenset()) -> tuple[str, ...]:
    """The primitives which cannot be lifted: kernels, foreign functions, callbacks but for those `unheard`."""
    return stuck_in(programs_of(closed_jaxpr), unheard)


def stuck_in(programs: tuple[Any, ...], unheard: frozenset[Any] = frozenset()) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for program in programs:
        for eqn, _ in interpret.walk(program):
            if lifting.is_island(eqn) and not asides.is_unheard(eqn, unheard):
                names[eqn.primitive.name] = None
    return tuple(names)
