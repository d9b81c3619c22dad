"""Programs that only hand out numbers which were computed before: `lambda params: gradient`."""

from __future__ import annotations

from typing import Any

from jaxcheck.program import interpret
from jaxcheck.program.custom import rules

# These move numbers, or hold them in another dtype.
_MOVES = frozenset(
    {"reshape", "broadcast_in_dim", "squeeze", "expand_dims", "transpose", "convert_element_type", "copy"}
)


def handed_out(closed: Any) -> list[bool]:
    """Which results of a closed jaxpr are arrays that it holds, no scalars, as they are. Whoever computed them rounded
    them to the dtype that they have."""
    held = {v for v in closed.jaxpr.constvars if v.aval.shape and rules.is_inexact(v.aval)}
    for eqn in closed.jaxpr.eqns:
        if eqn.primitive.name in _MOVES and all(not interpret.is_literal(v) and v in held for v in eqn.invars):
            held.update(eqn.outvars)
    return [not interpret.is_literal(v) and v in held for v in closed.jaxpr.outvars]


__all__ = ["handed_out"]
