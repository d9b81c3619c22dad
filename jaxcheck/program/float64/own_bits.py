"""Numbers of a program's own type, held in float64: rounded as it would round them, and by nobody otherwise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcheck.program.custom import rules


def rounded_to(value: Any, aval: Any) -> Any:
    """A value rounded to the bits of the type that the aval declares, and left in its own."""
    if not rules.is_inexact(aval) or aval.dtype == np.float64 or jnp.issubdtype(aval.dtype, jnp.complexfloating):
        return value
    bits = jnp.finfo(aval.dtype)
    return lax.reduce_precision(value, bits.nexp, bits.nmant)


def shut(values: list[Any]) -> list[Any]:
    """The values, behind a barrier: what is known of floats is not folded into what is made of them."""
    floats = [i for i, x in enumerate(values) if rules.is_inexact(jax.typeof(x))]
    if not floats:
        return values
    shut = dict(zip(floats, lax.optimization_barrier([jnp.asarray(values[i]) for i in floats]), strict=True))
    return [shut.get(i, x) for i, x in enumerate(values)]


def rounds(eqn: Any) -> bool:
    """Whether an equation rounds its operand to fewer bits than a float64 has."""
    bits = eqn.params.get("mantissa_bits", 52) if eqn.primitive.name == "reduce_precision" else 52
    return bits < 52
