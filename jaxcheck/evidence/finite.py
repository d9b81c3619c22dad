"""Whether what is right in float64 is a number as the caller runs it: nothing that overflows there passes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxcheck.evidence.maps import Map
from jaxcheck.program.ask import ask
from jaxcheck.program.derived import own_values
from jaxcheck.program.eagerly import as_it_is
from jaxcheck.program.objective import as_function
from jaxcheck.program.rules import is_inexact
from jaxcheck.program.tame import stays_within


def is_finite(native: Map) -> bool:
    """Whether a map that was traced natively, and its derivatives, are numbers at its point. An operation at a time,
    which takes little; where that overflows, as one program, which JAX may compute in fewer steps."""
    traced = [t.closed for t in (native.primal, native.tangent, native.cotangent) if t is not None]
    if all(stays_within(closed, native.point) for closed in traced):
        return True
    ones = [np.ones(a.shape, a.dtype) for a in native.primal.closed.out_avals]
    along = [np.ones_like(x) for x in own_values(native.primal.closed, native.point)]
    asked = ((native.primal, []), (native.tangent, along), (native.cotangent, ones))
    programs = [(as_function(t.closed), [*native.point, *more]) for t, more in asked if t is not None]

    def finite(run: Any) -> bool:
        found = jax.tree.leaves([run(f, *values) for f, values in programs])
        return all(bool(np.isfinite(np.asarray(x, np.complex128)).all()) for x in found if is_inexact(jax.typeof(x)))

    return as_it_is(finite) or finite(lambda f, *values: ask(jax.jit(f), *values))
