"""A program as it was traced, made fit to be differentiated, batched and run in another mode."""

from __future__ import annotations

from typing import Any

from jax.extend import core
from jax.sharding import NamedSharding, PartitionSpec

from jaxcheck.program import constants, interpret, thresholds
from jaxcheck.program.quiet import quiet


def tidy(program: Any, wide: bool, rounded: bool = False) -> Any:
    """The program with its constants settled (`constants.settled`, whose arguments these are), numbers that decide as
    they are where it runs (`thresholds`), without what only tells (`quiet`), and every placement spelled out for each
    axis; the same object where nothing is to be done."""
    program = constants.settled(program, wide, rounded)
    return _whole_specs(quiet(thresholds.as_run(program) if rounded or not wide else program))


def _whole_specs(program: Any) -> Any:
    """The program with every spec of a product as long as its result has axes: JAX 0.10 does not batch one that is
    shorter (`jax.vmap` of `dot_general(..., out_sharding=P())` fails by an assertion)."""
    if not any(_is_short(eqn) for eqn, _ in interpret.walk(program)):
        return program
    return _whole(program)


def _is_short(eqn: Any) -> bool:
    asked = eqn.params.get("out_sharding")
    return isinstance(asked, NamedSharding) and len(asked.spec) < len(getattr(eqn.outvars[0].aval, "shape", ()))


def _whole(program: Any) -> Any:
    jaxpr = interpret.opened(program)
    eqns = []
    for eqn in jaxpr.eqns:
        params = interpret.map_jaxprs(eqn.params, _whole)
        if _is_short(eqn):
            asked = params["out_sharding"]
            rest = [None] * (len(eqn.outvars[0].aval.shape) - len(asked.spec))
            params = {**params, "out_sharding": NamedSharding(asked.mesh, PartitionSpec(*asked.spec, *rest))}
        eqns.append(eqn.replace(params=params))
    new = jaxpr.replace(eqns=eqns)
    if hasattr(program, "jaxpr") and program.jaxpr is not program:
        return core.ClosedJaxpr(new, program.consts)
    return new
