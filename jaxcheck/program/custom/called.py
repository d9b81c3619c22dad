"""A program as it is called: what `custom_vmap` holds ready for a batch is no part of it.

Rows are run in batches because that is fast, and a batch of rows is not what the caller asked about: the function in a
`custom_vmap` computes what the caller gets, while its batching rule, made by hand and perhaps wrong, would compute what
the differences are taken of. Where the caller's own code batches, JAX has put the rule in place when it traced.
"""

from __future__ import annotations

from typing import Any

from jax.extend.core import primitives

from jaxcheck.program import interpret

_BATCHED_BY_HAND = "custom_vmap_call"


def as_called(program: Any) -> Any:
    """The program with each function in a `custom_vmap` as a plain call, through every nesting; the same object where
    there is none. JAX differentiates that in reverse, too, as it refuses to do with a `custom_vmap`."""
    return interpret.replaced(program, is_by_hand, _plain)


def is_by_hand(eqn: Any) -> bool:
    """Whether an equation calls a function with a batching rule of its own."""
    return eqn.primitive.name == _BATCHED_BY_HAND


def _plain(eqn: Any) -> Any:
    program = as_called(interpret.closed(eqn.params["call"]))
    return eqn.replace(
        primitive=primitives.closed_call_p, params={"call_jaxpr": program}, effects=interpret.opened(program).effects
    )
