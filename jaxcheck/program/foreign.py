"""Primitives of other libraries: what they do where they are run, in JAX's own.

Under vmap they may do something else (equinox's `select_if_vmap` makes rows of a loop that are done stand still), and
they may keep programs of one dtype among their parameters (lineax's `linear_solve`). What the caller runs without vmap
and in their own dtypes is looked at in rows and in float64, so it is opened first.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.extend.core import primitives

from jaxcheck.program import interpret
from jaxcheck.program.ask import Refused, ask


def opened(eqn: Any, wide: bool) -> Any | None:
    """The closed jaxpr of what an equation's primitive does where it is run; None where it is JAX's own, or where that
    cannot be traced.

    Args:
        wide: whether the equation belongs to a program of the 64-bit mode.
    """
    primitive = eqn.primitive
    if not is_foreign(primitive):
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


def without_foreign(program: Any) -> Any:
    """The program with what other libraries' primitives do in their place, through every nesting; the same object where
    there is none."""
    if not holds_foreign(program):
        return program
    wide = interpret.has_64_bits(program)

    def change(eqn: Any) -> Any:
        inner = opened(eqn, wide)
        if inner is None:
            return eqn
        effects = interpret.opened(inner).effects
        return eqn.replace(primitive=primitives.closed_call_p, params={"call_jaxpr": inner}, effects=effects)

    return interpret.replaced(program, lambda eqn: is_foreign(eqn.primitive), change)


def holds_foreign(program: Any) -> bool:
    """Whether a program holds another library's primitive at any depth."""
    return any(is_foreign(primitive) for primitive in {e.primitive for e, _ in interpret.walk(program)})


def is_foreign(primitive: Any) -> bool:
    """Whether a primitive is not JAX's own: by the module of what runs it."""
    impl = getattr(primitive.impl, "func", primitive.impl)
    module = str(getattr(impl, "__module__", None) or "jax")
    return module.split(".")[0] not in ("jax", "jaxlib", "functools")
