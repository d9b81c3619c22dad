"""Primitives of other libraries: what they do where they are run, in JAX's own."""

from __future__ import annotations

from typing import Any

import jax

from jaxcheck.program import interpret
from jaxcheck.program.ask import Refused, ask


def opened(eqn: Any, wide: bool) -> Any | None:
    """The closed jaxpr of what an equation's primitive does where it is run; None where it is JAX's own, or where that
    cannot be traced.

    Args:
        wide: whether the equation belongs to a program of the 64-bit mode.
    """
    primitive = eqn.primitive
    if not _is_foreign(primitive):
        return None

    def run(*args: Any) -> list[Any]:
        out = primitive.impl(*args, **eqn.params)
        return list(out) if primitive.multiple_results else [out]

    def trace() -> Any:
        with jax.enable_x64(wide):
            return jax.make_jaxpr(run)(*(jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars))

    try:
        found = ask(trace)
    except Refused:
        return None
    same = len(found.out_avals) == len(eqn.outvars)
    return found if same and all(e.primitive is not primitive for e, _ in interpret.walk(found)) else None


def _is_foreign(primitive: Any) -> bool:
    impl = getattr(primitive.impl, "func", primitive.impl)
    module = str(getattr(impl, "__module__", None) or "jax")
    return module.split(".")[0] not in ("jax", "jaxlib", "functools")
