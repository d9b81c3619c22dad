"""The constants of a program as its own, or as its inputs: what is compiled of it then holds no data."""

from __future__ import annotations

from typing import Any

from jax.extend import core
from jax.extend.core import primitives

from jaxcheck.program import interpret


def hoisted(program: Any) -> Any:
    """The closed jaxpr with the constants of the `jit` calls in it among its own, an array that occurs twice once.

    A compiled program takes its own constants as arguments; so new data in a jitted function needs no new
    compilation. Calls with shardings of their own are left as they are.
    """
    consts = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    known = {id(value): var for var, value in consts.items()}
    jaxpr = _hoist(program.jaxpr, consts, known)
    if jaxpr is program.jaxpr:
        return program
    return core.ClosedJaxpr(jaxpr.replace(constvars=list(consts)), list(consts.values()))


def _hoist(jaxpr: Any, consts: dict[Any, Any], known: dict[int, Any]) -> Any:
    """The jaxpr with constants of calls taken out into `consts`; its new free variables are keys there."""
    eqns, changed = [], False
    for eqn in jaxpr.eqns:
        new = _hoist_call(eqn, consts, known) if eqn.primitive.name in ("jit", "pjit") else eqn
        changed |= new is not eqn
        eqns.append(new)
    return jaxpr.replace(eqns=eqns) if changed else jaxpr


def _hoist_call(eqn: Any, consts: dict[Any, Any], known: dict[int, Any]) -> Any:
    inner = eqn.params.get("jaxpr")
    if not interpret.is_jaxpr(inner) or not hasattr(inner, "consts") or not _unsharded(eqn):
        return eqn
    own: dict[Any, Any] = {}
    body = _hoist(inner.jaxpr, own, {})
    own = dict(zip(inner.jaxpr.constvars, inner.consts, strict=True)) | own
    if not own:
        return eqn
    outer = []
    for var, value in own.items():
        at = known.get(id(value))
        if at is None:
            # A variable of its own out here: the same call may stand here twice.
            at = known[id(value)] = core.Var(var.aval)
            consts[at] = value
        outer.append(at)
    called = body.replace(constvars=[], invars=[*own, *body.invars], debug_info=_unnamed(body.debug_info))
    return eqn.replace(
        primitive=primitives.closed_call_p,
        invars=[*outer, *eqn.invars],
        params={"call_jaxpr": core.ClosedJaxpr(called, [])},
        effects=called.effects,
    )


def _unnamed(info: Any) -> Any:
    # Names of arguments are for as many arguments as there were.
    return info._replace(arg_names=None) if hasattr(info, "_replace") else info


def _unsharded(eqn: Any) -> bool:
    keys = ("in_shardings", "out_shardings", "in_layouts", "out_layouts")
    values = [v for key in keys for v in eqn.params.get(key, ())]
    return not eqn.effects and all(v is None or "Unspecified" in type(v).__name__ for v in values)


def as_inputs(program: Any) -> Any:
    """The closed jaxpr with its own constants as its first inputs: what is compiled from it holds no data."""
    jaxpr = program.jaxpr
    return core.ClosedJaxpr(
        jaxpr.replace(constvars=[], invars=[*jaxpr.constvars, *jaxpr.invars], debug_info=_unnamed(jaxpr.debug_info)), []
    )
