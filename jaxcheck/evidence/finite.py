"""Whether what is right in float64 is a number as the caller runs it: nothing that overflows there passes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxcheck.problem.map import Map
from jaxcheck.program.ask import ask
from jaxcheck.program.custom.rules import is_inexact
from jaxcheck.program.derived import own_values
from jaxcheck.program.objective import as_function
from jaxcheck.program.run.by_numpy import all_known
from jaxcheck.program.run.cache import compiled
from jaxcheck.program.run.eagerly import as_it_is
from jaxcheck.program.tame import stays_within


def is_finite(native: Map) -> bool:
    """Whether a map that was traced natively, and its derivatives, are numbers at its point: an operation at a time, or
    as one program, which JAX may compute in fewer steps.

    Where NumPy knows every operation that takes little. Where some have to be compiled, one program is compiled sooner
    than each of them (fft: 0.06 s for 0.32 s; solve: 0.11 for 0.26).
    """
    traced = [t.closed for t in (native.primal, native.tangent, native.cotangent) if t is not None]
    if all(stays_within(closed, native.point) for closed in traced):
        return True
    ones = [np.ones(a.shape, a.dtype) for a in native.primal.closed.out_avals]
    along = [np.ones_like(x) for x in own_values(native.primal.closed, native.point)]
    asked = ((native.primal, []), (native.tangent, along), (native.cotangent, ones))
    programs = [(as_function(t.closed), [*native.point, *more]) for t, more in asked if t is not None]

    def finite(run: Any) -> bool:
        return all(map(_is_number, jax.tree.leaves([run(f, *values) for f, values in programs])))

    def whole(given: list[Any]) -> list[Any]:
        return [f(*values) for (f, _), values in zip(programs, given, strict=True)]

    def at_once() -> bool:
        given = [values for _, values in programs]
        found = jax.tree.leaves(ask(lambda: compiled(jax.jit(whole).lower(given))(given)))
        return all(map(_is_number, found))

    quick = all(all_known(t.closed) for t, _ in asked if t is not None)
    first, then = (lambda: as_it_is(finite), at_once) if quick else (at_once, lambda: as_it_is(finite))
    return first() or then()


def _is_number(x: Any) -> bool:
    return not is_inexact(jax.typeof(x)) or bool(np.isfinite(np.asarray(x, np.complex128)).all())
