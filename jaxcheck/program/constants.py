"""The constants of a program, at every depth: of the type that the program declares, and in one place.

Since JAX 0.10 closed-over NumPy arrays stay NumPy in a jaxpr, and what JAX makes of an array is remembered
per object for as long as some program holds it, whatever the mode: see `mistyped`.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxcheck.program import interpret
from jaxcheck.program.mistyped import retyped
from jaxcheck.program.mode import is_traced, is_wide

_ROUNDED = {"float64": np.float32, "complex128": np.complex64}


def as_seen(x: Any, wide: bool | None = None) -> Any:
    """A value as a program of the caller's sees it: float64 NumPy data is rounded to float32 once, in the
    32-bit mode of JAX. `wide` says whether the mode is the 64-bit one (default: the mode now).

    A Python number is weakly typed there, and comes back as the float (or complex) nearest to what JAX makes of it.
    """
    if is_wide() if wide is None else wide:
        return x
    if isinstance(x, (float, complex)) and not isinstance(x, np.generic):
        with np.errstate(over="ignore"):
            return type(x)(np.asarray(x).astype(np.complex64 if isinstance(x, complex) else np.float32)[()])
    if isinstance(x, (np.ndarray, np.generic)) and str(x.dtype) in _ROUNDED:
        with np.errstate(over="ignore"):
            return np.asarray(x).astype(_ROUNDED[str(x.dtype)])
    return x


def own(x: Any, wide: bool | None = None) -> Any:
    """A leaf as an array that is ours alone, of the numbers that the caller's program sees; JAX arrays, which nobody
    can write into, as they are. NumPy's are copied: the caller may write into them, and JAX remembers by object
    what it made of an array in another mode."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np.array(as_seen(x, wide))
    return as_seen(x, wide)


class Settler:
    """Casts every constant and literal of a program, nested ones included, to the dtype of its variable.

    With `wide`, the program was traced in the 64-bit mode. With `rounded`, float64 arrays are rounded to float32 on
    the way: the caller's own program runs in the 32-bit mode. Numbers written in the program (scalars) keep all their
    digits. A program that occurs twice is settled once.
    """

    def __init__(self, wide: bool, rounded: bool = False):
        self.wide = wide
        self.rounded = rounded
        self._done: dict[int, tuple[Any, Any]] = {}

    def closed(self, program: Any) -> Any:
        """The program settled, of the same kind (with its constants or without); itself where nothing changes."""
        key = id(program)
        if key not in self._done:  # kept with its result, so that the id stays its own
            self._done[key] = (program, self._settle(program))
        return self._done[key][1]

    def _settle(self, program: Any) -> Any:
        program = retyped(program) if self.wide else program
        jaxpr = interpret.opened(program)
        eqns = [self._equation(eqn) for eqn in jaxpr.eqns]
        outs = [self._atom(a) for a in jaxpr.outvars]
        same = all(new is old for new, old in zip([*eqns, *outs], [*jaxpr.eqns, *jaxpr.outvars], strict=True))
        changed = jaxpr if same else jaxpr.replace(eqns=eqns, outvars=outs)
        given = interpret.constants(program)
        consts = [self.value(c, v.aval) for c, v in zip(given, jaxpr.constvars, strict=False)]
        if changed is jaxpr and all(new is old for new, old in zip(consts, given, strict=True)):
            return program
        # Since JAX 0.11 a program and its constants are one object; before, one without them was another kind.
        closed = bool(given) or (hasattr(program, "jaxpr") and program.jaxpr is not program)
        return core.ClosedJaxpr(changed, consts) if closed else changed

    def _equation(self, eqn: Any) -> Any:
        ins = [self._atom(a) for a in eqn.invars]
        params = interpret.map_jaxprs(eqn.params, self.closed)
        kept = all(
            params[k] is v or (isinstance(v, (tuple, list)) and all(x is y for x, y in zip(params[k], v, strict=True)))
            for k, v in eqn.params.items()
        )
        if kept and all(new is old for new, old in zip(ins, eqn.invars, strict=True)):
            return eqn
        return eqn.replace(invars=ins, params=eqn.params if kept else params)

    def _atom(self, atom: Any) -> Any:
        if not interpret.is_literal(atom):
            return atom
        value = self.value(atom.val, atom.aval)
        return atom if value is atom.val else core.Literal(value, atom.aval)

    def value(self, value: Any, aval: Any) -> Any:
        """One constant. Its bytes are what its variable declares; only NumPy's are ever rounded."""
        wanted = getattr(aval, "dtype", None)
        if wanted is None or jax.dtypes.issubdtype(wanted, jax.dtypes.extended) or is_traced(value):
            return value
        own = getattr(value, "dtype", None)
        if own is None:  # a Python number: as it was written
            return value
        if isinstance(value, np.ndarray) and self.rounded and value.ndim and str(wanted) in _ROUNDED:
            with np.errstate(over="ignore"):
                return np.asarray(value).astype(_ROUNDED[str(wanted)]).astype(wanted)
        return value if own == wanted else np.asarray(value).astype(wanted)


def settled(program: Any, wide: bool, rounded: bool = False) -> Any:
    """See `Settler`."""
    return Settler(wide, rounded).closed(program)
