"""Constants of another mode in a trace of the 64-bit mode, and programs that are well typed again.

What JAX makes of a NumPy array is remembered per object for as long as some program holds it, whatever the mode. So an
array of float64, or of NumPy's default integers, that was met in the 32-bit mode stands in a trace of the 64-bit mode
as a constant of 32 bits, in equations that were traced for 64: such a program is not well typed, and cannot be
evaluated before it is mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import core

from jaxcheck.program import interpret

_WIDENED = {"float32": np.dtype(np.float64), "complex64": np.dtype(np.complex128)}
# Whole numbers (labels, as NumPy draws them) stand likewise; nothing is rounded in them.
_WHOLE = {"int32": np.dtype(np.int64), "uint32": np.dtype(np.uint64)}
_RETYPED = {**_WIDENED, **_WHOLE}
_WIDE = frozenset(map(str, _RETYPED.values()))


def retyped(program: Any) -> Any:
    """A program of the 64-bit mode in which each use of a narrow NumPy constant has the type that it was traced for;
    whole numbers also where the constant comes into a nested program as an argument."""
    program = _widened_within(program)
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


def _widened_within(program: Any) -> Any:
    """The program with its narrow whole arguments made wide, where it uses them so."""
    jaxpr = interpret.opened(program)
    narrow = {v for v in jaxpr.invars if str(getattr(v.aval, "dtype", "")) in _WHOLE}
    if not narrow:
        return program
    wide: dict[Any, Any] = {}
    eqns = []
    for eqn in jaxpr.eqns:
        at = [i for i, a in enumerate(eqn.invars) if not interpret.is_literal(a) and a in narrow]
        ins = list(eqn.invars)
        for i in _wide_operands(eqn, at) if at and _is_mistyped(eqn) else ():
            ins[i] = wide.setdefault(ins[i], core.Var(ins[i].aval.update(dtype=_WHOLE[str(ins[i].aval.dtype)])))
        eqns.append(eqn.replace(invars=ins) if any(a is not b for a, b in zip(ins, eqn.invars, strict=True)) else eqn)
    if not wide:
        return program
    new = jaxpr.replace(eqns=[*(_conversion(v, w) for v, w in wide.items()), *eqns])
    closed = hasattr(program, "jaxpr") and program.jaxpr is not program
    return core.ClosedJaxpr(new, program.consts) if closed else new


def _is_mistyped(eqn: Any) -> bool:
    """Whether an equation was traced for wider operands, perhaps; of a nested program its arguments tell which."""
    if any(True for _ in interpret.sub_jaxprs(eqn.params)):
        return True
    return interpret.is_64_bits([*eqn.invars, *eqn.outvars]) and not _fits(eqn)


def _conversion(narrow: Any, wide: Any) -> Any:
    """The equation that makes one value of another."""
    with jax.enable_x64(True):
        made = jax.make_jaxpr(lambda x: lax.convert_element_type(x, wide.aval.dtype))(
            jax.ShapeDtypeStruct(narrow.aval.shape, narrow.aval.dtype)
        )
    return made.eqns[0].replace(invars=[narrow], outvars=[wide])


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
