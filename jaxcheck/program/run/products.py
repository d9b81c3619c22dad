"""Products that a compiler must not contract: rounded once, and the same wherever they are used.

LLVM makes one operation of a product and a sum, which rounds once where the two round twice, and XLA computes a cheap
value again in each loop that reads it. With little optimisation one of these copies is contracted and the other is
not, so that `x == max(x)` holds nowhere (jaxlib 0.10, CPU), and a right derivative of a maximum is zero or NaN. In a
program that compares floats the bits of every product, and of whatever may end in one, are therefore changed where an
argument says so, which the compiler cannot foresee and nobody does. (A choice between the product and a constant is not
enough: sums are moved into such a choice.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcheck.program import interpret, jaxpr
from jaxcheck.program.custom import rules

# What gives a product of nothing. All else may: XLA divides by a constant with a product, and squares for a power.
_NO_PRODUCTS = frozenset({
    "add", "add_any", "sub", "neg", "abs", "max", "min", "clamp", "sign", "floor", "ceil", "round", "select_n", "copy",
    "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "rev", "concatenate", "pad", "iota", "sort",
    "slice", "dynamic_slice", "dynamic_update_slice", "gather", "scatter", "split", "convert_element_type", "copy_p",
    "reduce_precision", "reduce_max", "reduce_min", "reduce_sum", "cumsum", "cummax", "cummin", "stop_gradient",
    "top_k", "real", "imag", "conj", "complex", "bitcast_convert_type", "nextafter", "argmax", "argmin", "scan",
    "while", "cond", "jit", "pjit", "optimization_barrier", "reduce_window_max", "reduce_window_min",
    "select_and_gather_add", "scatter_max", "scatter_min", "random_bits", "random_wrap", "random_unwrap",
})  # fmt: skip
# Comparisons by which equal numbers are told from others. Those of order tell a number from itself only where it was
# chosen among others; and signs apart, which a number that is off by its rounding keeps.
_EQUALITIES, _ORDERS = ("eq", "ne", "sign"), ("lt", "le", "gt", "ge")
_CHOICES = frozenset({
    "reduce_max", "reduce_min", "cummax", "cummin", "sort", "top_k", "argmax", "argmin", "reduce_window_max",
    "reduce_window_min", "pmax", "pmin",
})  # fmt: skip
ZERO = np.uint32(0)
# Series of products and sums, contracted inside, and one way in one copy: only with all optimisation are copies alike.
# Seen off with little of it beneath a maximum: lgamma, igamma, erf_inv, both Bessel functions and products of complex
# numbers, of 40 functions (`ordinary/test_max_pooling.py` holds some); the others here are taken for alike.
_SERIES = frozenset({
    "lgamma", "digamma", "polygamma", "zeta", "igamma", "igammac", "igamma_grad_a", "random_gamma_grad", "erf_inv",
    "bessel_i0e", "bessel_i1e", "regularized_incomplete_beta",
})  # fmt: skip
_ELSEWHERE = ("shard_map", "xla_pmap")


def compares(program: Any) -> bool:
    """Whether a program may hold products of floats, and comparisons that could tell two copies of a number apart."""
    found = [eqn for eqn, _ in interpret.walk(program)]
    if not any(map(_may_multiply, found)):
        return False
    chosen = any(eqn.primitive.name in _CHOICES for eqn in found)
    return any(_tells_apart(eqn, chosen) for eqn in found)


def holds_series(program: Any) -> bool:
    """Whether a program holds what is made of several products: a special function, or a product of complex numbers."""
    return any(eqn.primitive.name in _SERIES or _is_complex_product(eqn) for eqn, _ in interpret.walk(program))


def elsewhere(program: Any) -> bool:
    """Whether parts of it run where `rounded_once` does not reach."""
    return any(eqn.primitive.name in _ELSEWHERE for eqn, _ in interpret.walk(program))


def rounded_once(program: Any) -> Callable[..., list[Any]]:
    """A closed jaxpr as `run(zero, *args)`, its products not contracted; `zero` is `ZERO`, and must be an argument of
    what is compiled. It is not to be differentiated."""

    def run(zero: Any, *args: Any) -> list[Any]:
        return jaxpr.run(_Guarded(zero), program, args, None)[0]

    return run


class _Guarded(jaxpr.OfArrays):
    """The way."""

    def __init__(self, zero: Any):
        super().__init__()
        self._zero = zero

    def whole(self, eqn: Any, operands: list[Any]) -> bool:
        return not any(
            _may_multiply(e) for _, inner in interpret.sub_jaxprs(eqn.params) for e, _ in interpret.walk(inner)
        )

    def equation(self, eqn: Any, operands: list[Any], state: None) -> tuple[Sequence[Any], None]:
        out = interpret.bind(eqn, operands)
        return [self._guarded(x) if _is_float(x) else x for x in out] if _may_multiply(eqn) else list(out), state

    def _guarded(self, x: Any) -> Any:
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            return lax.complex(self._guarded(x.real), self._guarded(x.imag))
        bits = jnp.dtype(f"uint{jnp.finfo(x.dtype).bits}")
        changed = lax.bitcast_convert_type(x, bits) ^ self._zero.astype(bits)
        return lax.bitcast_convert_type(changed, x.dtype)


def _may_multiply(eqn: Any) -> bool:
    return eqn.primitive.name not in _NO_PRODUCTS and any(rules.is_inexact(v.aval) for v in eqn.outvars)


def _is_complex_product(eqn: Any) -> bool:
    return _may_multiply(eqn) and any(
        jnp.issubdtype(v.aval.dtype, jnp.complexfloating)
        for v in (*eqn.invars, *eqn.outvars)
        if rules.is_inexact(v.aval)
    )


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _tells_apart(eqn: Any, chosen: bool) -> bool:
    name = eqn.primitive.name
    if name not in (*_EQUALITIES, *_ORDERS) or not rules.is_inexact(eqn.invars[0].aval):
        return False
    return name in _EQUALITIES or (chosen and not any(map(interpret.is_literal, eqn.invars)))


__all__ = ["ZERO", "compares", "elsewhere", "holds_series", "rounded_once"]
