"""The constants of a program, at every depth: of the type that the program declares, and in one place.

Since JAX 0.10 closed-over NumPy arrays stay NumPy in a jaxpr, and what JAX makes of an array is remembered
per object for as long as some program holds it, whatever the mode. So a float64 array that was met in the
32-bit mode stands in a trace of the 64-bit mode as a float32 constant, in equations that were traced for
float64: such a program is not well typed, and cannot be evaluated before it is mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxcheck.program import interpret
from jaxcheck.program.mode import is_traced, is_wide

_ROUNDED = {"float64": np.float32, "complex128": np.complex64}
_WIDENED = {"float32": np.dtype(np.float64), "complex64": np.dtype(np.complex128)}
# Whole numbers (labels, as NumPy draws them) stand likewise; nothing is rounded in them.
_RETYPED = {**_WIDENED, "int32": np.dtype(np.int64), "uint32": np.dtype(np.uint64)}
_WIDE = frozenset(map(str, _RETYPED.values()))


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


def retyped(program: Any) -> Any:
    """A program of the 64-bit mode in which each use of a narrow NumPy constant has the type that it was traced for."""
    jaxpr = interpret.opened(program)
    narrow = {
        v: c
        for v, c in zip(jaxpr.constvars, interpret.constants(program), strict=False)
        if isinstance(c, np.ndarray) and str(v.aval.dtype) in _RETYPED
    }
    wide: dict[Any, Any] = {}
    eqns = []
    for eqn in jaxpr.eqns:
        at = [i for i, a in enumerate(eqn.invars) if not interpret.is_literal(a) and a in narrow]
        ins = list(eqn.invars)
        for i in _wide_operands(eqn, at) if at else ():
            atom = ins[i]
            if atom not in wide:
                wide[atom] = core.Var(atom.aval.update(dtype=_RETYPED[str(atom.aval.dtype)]))
            ins[i] = wide[atom]
        eqns.append(eqn.replace(invars=ins) if at else eqn)
    if not wide:
        return program
    used = {a for eqn in eqns for a in eqn.invars if not interpret.is_literal(a)}
    used |= {a for a in jaxpr.outvars if not interpret.is_literal(a)}
    consts = dict(zip(jaxpr.constvars, interpret.constants(program), strict=True))
    consts = {v: c for v, c in consts.items() if v in used}
    consts |= {w: np.asarray(narrow[v]).astype(w.aval.dtype) for v, w in wide.items()}
    return core.ClosedJaxpr(jaxpr.replace(eqns=eqns, constvars=list(consts)), list(consts.values()))


def _wide_operands(eqn: Any, suspects: Sequence[int]) -> Sequence[int]:
    """Which of the narrow constants an equation may have been traced for as float64: those from which, made
    float64, it gives what it is said to give."""
    if any(True for _ in interpret.sub_jaxprs(eqn.params)):
        found = []
        for role, inner in interpret.sub_jaxprs(eqn.params):
            places = ((i, place(eqn, role, inner, i)) for i in suspects)
            found += [
                i for i, at in places if at is not None and str(interpret.opened(inner).invars[at].aval.dtype) in _WIDE
            ]
        return sorted(set(found))
    tried = [list(suspects), *([i] for i in suspects if len(suspects) > 1)]
    return next((wide for wide in tried if _fits(eqn, wide)), [])


def _fits(eqn: Any, wide: Sequence[int] = ()) -> bool:
    """Whether an equation gives the types that it is said to give, the operands `wide` being float64."""

    def run(*moving: Any) -> list[Any]:
        values = iter(moving)
        return interpret.bind(eqn, [a.val if interpret.is_literal(a) else next(values) for a in eqn.invars])

    avals = [
        jax.ShapeDtypeStruct(a.aval.shape, _RETYPED[str(a.aval.dtype)] if i in wide else a.aval.dtype)
        for i, a in enumerate(eqn.invars)
        if not interpret.is_literal(a)
    ]
    try:
        with jax.enable_x64(True):
            found = jax.eval_shape(run, *avals)
    except (TypeError, ValueError):  # operands of two types
        return False
    return all(f.dtype == v.aval.dtype for f, v in zip(found, eqn.outvars, strict=True))


def mixed(program: Any, narrow: Sequence[int] = ()) -> bool:
    """Whether a program of the 64-bit mode has narrow NumPy constants in equations that were traced for float64.

    Such constants may have gone into nested programs as operands; so it must be emitted again as a whole
    (`lift`), not mended equation by equation. `narrow` are the inputs that hold such constants.
    """
    jaxpr = interpret.opened(program)
    held = {
        v
        for v, c in zip(jaxpr.constvars, interpret.constants(program), strict=False)
        if isinstance(c, np.ndarray) and str(getattr(v.aval, "dtype", "")) in _WIDENED
    }
    held |= {jaxpr.invars[i] for i in narrow}
    for eqn in jaxpr.eqns:
        at = [i for i, a in enumerate(eqn.invars) if not interpret.is_literal(a) and a in held]
        inner = list(interpret.sub_jaxprs(eqn.params))
        if inner:
            for role, sub in inner:
                places = (place(eqn, role, sub, i) for i in at)
                if mixed(sub, [place for place in places if place is not None]):
                    return True
        elif at and (_mixes(eqn) or not _fits(eqn)):
            return True
    return False


def _mixes(eqn: Any) -> bool:
    """Whether 64-bit floats come out of an equation into which a narrow constant goes: JAX itself converts first, also
    where a primitive (a product of matrices) would take operands of two types."""
    return eqn.primitive.name != "convert_element_type" and interpret.is_64_bits(eqn.outvars)


def place(eqn: Any, role: str, inner: Any, position: int) -> int | None:
    """Which parameter of a nested program an operand becomes, or None where it is none."""
    invars = interpret.opened(inner).invars
    if eqn.primitive.name == "while":
        first, both = eqn.params["cond_nconsts"], eqn.params["cond_nconsts"] + eqn.params["body_nconsts"]
        if role == "body":
            return position - first if position >= first else None
        return position if position < first else position - both + first if position >= both else None
    shift = len(eqn.invars) - len(invars)
    return position - shift if shift in (0, 1) and position >= shift else None  # the index of a cond comes first
