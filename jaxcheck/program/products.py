"""Products that a compiler must not contract: rounded once, and the same wherever they are used.

LLVM makes one operation of a product and a sum, which rounds once where the two round twice, and XLA computes a cheap
value again in each loop that reads it. With little optimisation one of these copies is contracted and the other is
not, so that `x == max(x)` holds nowhere (jaxlib 0.10, CPU), and a right derivative of a maximum is zero or NaN. In a
program that compares floats the bits of every product are therefore changed where an argument says so, which the
compiler cannot foresee and nobody does. (A choice between the product and a constant is not enough: sums are moved into
such a choice.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcheck.program import interpret, jaxpr, rules

_PRODUCTS = ("mul", "integer_pow", "square")
# Comparisons by which equal numbers are told from others; against a constant those of order tell signs apart, and a
# number that is off by its rounding keeps its sign.
_EQUALITIES, _ORDERS = ("eq", "ne", "sign"), ("lt", "le", "gt", "ge")
ZERO = np.uint32(0)
_ELSEWHERE = ("shard_map", "xla_pmap")


def compares(program: Any) -> bool:
    """Whether a program holds products of floats, and comparisons that could tell two copies of a number apart."""
    found = [eqn for eqn, _ in interpret.walk(program)]
    return any(map(_is_product, found)) and any(map(_tells_apart, found))


def elsewhere(program: Any) -> bool:
    """Whether parts of it run where `rounded_once` does not reach."""
    return any(eqn.primitive.name in _ELSEWHERE for eqn, _ in interpret.walk(program))


def rounded_once(program: Any) -> Callable[..., list[Any]]:
    """A closed jaxpr as `run(zero, *args)`, its products not contracted; `zero` is `ZERO`, and must be an argument of
    what is compiled. It is not to be differentiated."""

    def run(zero: Any, *args: Any) -> list[Any]:
        return jaxpr.run(_Guarded(zero), program, args, None)[0]

    return run


class _Guarded(jaxpr.Way[None]):
    """The way. Values are arrays, and no state is carried."""

    def __init__(self, zero: Any):
        super().__init__()
        self._zero = zero

    def constant(self, value: Any, aval: Any) -> Any:
        return interpret.as_declared(value, aval)

    def plain(self, value: Any) -> Any:
        return value

    def general(self, value: Any, aval: Any) -> Any:
        return jaxpr.array(value, aval)

    def whole(self, eqn: Any, operands: list[Any]) -> bool:
        return not any(
            _is_product(e) for _, inner in interpret.sub_jaxprs(eqn.params) for e, _ in interpret.walk(inner)
        )

    def equation(self, eqn: Any, operands: list[Any], state: None) -> tuple[Sequence[Any], None]:
        out = interpret.bind(eqn, operands)
        return [self._guarded(out[0])] if _is_product(eqn) else out, state

    def _guarded(self, x: Any) -> Any:
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            return lax.complex(self._guarded(x.real), self._guarded(x.imag))
        bits = jnp.dtype(f"uint{jnp.finfo(x.dtype).bits}")
        changed = lax.bitcast_convert_type(x, bits) ^ self._zero.astype(bits)
        return lax.bitcast_convert_type(changed, x.dtype)


def _is_product(eqn: Any) -> bool:
    return eqn.primitive.name in _PRODUCTS and rules.is_inexact(eqn.outvars[0].aval)


def _tells_apart(eqn: Any) -> bool:
    name = eqn.primitive.name
    if name not in (*_EQUALITIES, *_ORDERS) or not rules.is_inexact(eqn.invars[0].aval):
        return False
    return name in _EQUALITIES or not any(map(interpret.is_literal, eqn.invars))


__all__ = ["ZERO", "compares", "elsewhere", "rounded_once"]
