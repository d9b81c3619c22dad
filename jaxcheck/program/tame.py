"""Programs that a look shows to overflow nowhere in float32: they need not be run to be known to be finite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxcheck.program import interpret
from jaxcheck.program.custom import rules

# Operations that keep numbers of ordinary size finite: sums and products, what only moves numbers about, and functions
# that are bounded. In a program of these alone nothing overflows that was not large.
_TAME = frozenset(
    "add sub mul neg add_any dot_general conv_general_dilated reduce_sum reduce_max reduce_min max min abs sign "
    "reduce_window_sum reduce_window_max select_and_scatter_add select_and_gather_add reduce_window cumsum cummax "
    "argmax argmin sort top_k gather scatter scatter-add scatter_add dynamic_slice dynamic_update_slice fft "
    "tanh logistic sin cos erf clamp select_n eq ne lt le gt ge and or not xor convert_element_type "
    "reshape broadcast_in_dim transpose squeeze slice concatenate pad rev iota copy split stop_gradient real imag "
    "complex conj reduce_precision jit custom_jvp_call custom_vjp_call square scan".split()
)
# Sizes, and powers, that are ordinary: choices, far from where float32 ends.
_SIZE, _POWER = 1e3, 4
_HALF = ("float16", "bfloat16")


def stays_within(program: Any, values: Iterable[Any]) -> bool:
    """Whether a closed jaxpr cannot overflow at `values`, as far as a look tells; half precision is not trusted."""
    eqns = [eqn for eqn, _ in interpret.walk(program)]
    held = [c for inner in interpret.walk_jaxprs(program) for c in interpret.constants(inner)]
    return all(map(_is_small, (*values, *held))) and all(map(_is_tame, eqns))


def _is_tame(eqn: Any) -> bool:
    name, numbers = eqn.primitive.name, [v.val for v in eqn.invars if interpret.is_literal(v)]
    if any(str(getattr(v.aval, "dtype", "")) in _HALF for v in eqn.outvars) or not all(map(_is_small, numbers)):
        return False
    if name == "div":
        by = eqn.invars[1]
        return interpret.is_literal(by) and bool(abs(by.val) * _SIZE >= 1)
    return name in _TAME or (name == "integer_pow" and 0 <= eqn.params["y"] <= _POWER)


def _is_small(value: Any) -> bool:
    if str(getattr(value, "dtype", "")) in _HALF:
        return False
    if hasattr(value, "dtype") and not rules.is_inexact(value):
        return True
    size = np.abs(np.asarray(value)).max(initial=0.0)
    return bool(size <= _SIZE or size == np.inf)
