"""Whether what is right in float64 is a number as the caller runs it: nothing that overflows there passes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence.maps import Map
from jaxcheck.program.ask import ask
from jaxcheck.program.derived import own_values
from jaxcheck.program.eagerly import as_it_is
from jaxcheck.program.interpret import constants as constants_of
from jaxcheck.program.interpret import is_literal, walk, walk_jaxprs
from jaxcheck.program.objective import as_function
from jaxcheck.program.rules import is_inexact

# Operations that keep numbers of ordinary size finite: sums and products, what only moves numbers about, and functions
# that are bounded. In a program of these alone nothing overflows that was not large; and half precision is not trusted.
_TAME = frozenset(
    "add sub mul neg add_any dot_general conv_general_dilated reduce_sum reduce_max reduce_min max min abs sign "
    "reduce_window_sum reduce_window_max select_and_scatter_add select_and_gather_add reduce_window cumsum cummax "
    "argmax argmin sort top_k gather scatter scatter-add scatter_add dynamic_slice dynamic_update_slice fft "
    "tanh logistic sin cos erf clamp select_n eq ne lt le gt ge and or not xor convert_element_type "
    "reshape broadcast_in_dim transpose squeeze slice concatenate pad rev iota copy split stop_gradient real imag "
    "complex conj reduce_precision jit custom_jvp_call custom_vjp_call square scan".split()
)
# Sizes, and powers, that are ordinary.
_ORDINARY, _POWERS = 1e3, 4


def _stays_within(native: Map) -> bool:
    """Whether a map's programs cannot overflow in float32, as far as a look at them tells."""
    programs = [t.closed for t in (native.primal, native.tangent, native.cotangent) if t is not None]
    values = [*native.point, *(c for closed in programs for p in walk_jaxprs(closed) for c in constants_of(p))]
    narrow = any(getattr(x, "dtype", None) in (jnp.float16, jnp.bfloat16) for x in values)
    tame = all(_is_tame(eqn) for closed in programs for eqn, _ in walk(closed))
    sizes = [np.abs(np.asarray(x)).max(initial=0.0) for x in values if is_inexact(jax.typeof(x))]
    return tame and not narrow and max(sizes, default=0.0) <= _ORDINARY


def _is_tame(eqn: Any) -> bool:
    name = eqn.primitive.name
    if name == "div":
        by = eqn.invars[1]
        return is_literal(by) and abs(float(by.val)) * _ORDINARY >= 1
    return name in _TAME or (name == "integer_pow" and 0 <= eqn.params["y"] <= _POWERS)


def is_finite(native: Map) -> bool:
    """Whether a map that was traced natively, and its derivatives, are numbers at its point. An operation at a time,
    which takes little; where that overflows, as one program, which JAX may compute in fewer steps."""
    if _stays_within(native):
        return True
    ones = [np.ones(a.shape, a.dtype) for a in native.primal.closed.out_avals]
    along = [np.ones_like(x) for x in own_values(native.primal.closed, native.point)]
    asked = ((native.primal, []), (native.tangent, along), (native.cotangent, ones))
    programs = [(as_function(t.closed), [*native.point, *more]) for t, more in asked if t is not None]

    def finite(run: Any) -> bool:
        found = jax.tree.leaves([run(f, *values) for f, values in programs])
        return all(bool(np.isfinite(np.asarray(x, np.complex128)).all()) for x in found if is_inexact(jax.typeof(x)))

    return as_it_is(finite) or finite(lambda f, *values: ask(jax.jit(f), *values))
