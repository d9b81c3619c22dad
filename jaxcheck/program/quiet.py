"""A program without its prints and logs: callbacks whose results nothing uses."""

from __future__ import annotations

from typing import Any

from jax.extend import core

from jaxcheck.program import interpret

_CALLS = ("debug_callback", "debug_print", "io_callback")


def quiet(program: Any) -> Any:
    """The program without callbacks that only tell (prints, logs); the same object where there are none.

    Their results are unused, so no number changes; and what is left can be differentiated, batched and repeated.
    """
    if not interpret.opened(program).effects:
        return program
    return _quiet(program)


def _quiet(program: Any) -> Any:
    jaxpr = interpret.opened(program)
    used = {a for a in jaxpr.outvars if not interpret.is_literal(a)}
    kept, changed = [], False
    for eqn in reversed(jaxpr.eqns):
        if eqn.primitive.name in _CALLS and not any(v in used for v in eqn.outvars):
            changed = True
            continue
        if eqn.effects and any(True for _ in interpret.sub_jaxprs(eqn.params)):
            inner: list[Any] = []

            def change(sub: Any, inner: list[Any] = inner) -> Any:
                inner.append(_quiet(sub))
                return inner[-1]

            params = interpret.map_jaxprs(eqn.params, change)
            # What an equation does beside computing is what the programs in it do; a custom rule has one program
            # in its parameters, and keeps the rest to itself.
            effects = frozenset().union(*(interpret.opened(j).effects for j in inner)) if inner else eqn.effects
            eqn, changed = eqn.replace(params=params, effects=effects), True
        kept.append(eqn)
        used.update(a for a in eqn.invars if not interpret.is_literal(a))
    if not changed:
        return program
    kept.reverse()
    effects = frozenset().union(*(eqn.effects for eqn in kept)) if kept else frozenset()
    new = jaxpr.replace(eqns=kept, effects=effects)
    if hasattr(program, "jaxpr") and program.jaxpr is not program:
        return core.ClosedJaxpr(new, program.consts)
    return new
