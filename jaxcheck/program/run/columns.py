"""One component of one leaf moved: what does not change with it is computed once, not once per component.

Moving W[k, j] changes x @ W in column j alone, and elementwise functions keep it there; the next matrix
product is then what it was plus an outer product. So each value of a program is one of three: unmoved,
moved in one slice (it is pinned: along some axes, only one index moves), or moved everywhere. Only the
second and the third are computed for every component, the second on its slice. Any equation that is not
known to keep a slice takes whole values, so a program that this file does not understand is still right.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.program import interpret
from jaxcheck.program.custom import rules
from jaxcheck.program.run.pinned import Pins, Step, rule

# Calls that are nothing but what they call.
_CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "remat2",
    "checkpoint",
    rules.FORWARD,
)
# Below this gain the plain way is taken: it is simpler, and compiles faster.
_GAIN = 0.8


@dataclasses.dataclass(frozen=True, eq=False)
class _Literal:
    value: Any
    aval: Any


@dataclasses.dataclass(frozen=True, eq=False)
class _Line:
    """An equation of the program with all calls opened; values are numbered."""

    eqn: Any
    ins: tuple[Any, ...]  # numbers, or _Literal
    outs: tuple[int, ...]
    step: Step | None = None  # None: whole values


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """How to evaluate a program with one component of leaf `which` moved; `cost`: elements per component."""

    lines: tuple[_Line, ...]
    pins: dict[int, Pins]  # of the values that move; no pins: they move everywhere
    outs: tuple[Any, ...]
    consts: int
    which: int
    cost: float

    def evaluator(self, consts: Sequence[Any], flat: Sequence[Any]) -> Callable:
        """`row(index, step)`: the outputs with component `index` moved by `step`. Traced code: what does not move
        is computed here, outside of the rows."""
        base = dict(enumerate([*consts, *flat]))
        for line in self.lines:
            moving = line.outs[0] in self.pins
            if not moving or any(self.pins[n] for n in line.outs):
                base.update(zip(line.outs, interpret.bind(line.eqn, [_read(base, a) for a in line.ins]), strict=True))
            elif line.step is not None and line.step.linear:
                base.update(zip(line.outs, interpret.bind(line.eqn, [_read(base, a) for a in line.ins]), strict=True))
        leaf = self.consts + self.which

        def row(index: Any, step: Any) -> list[Any]:
            where = jnp.unravel_index(index, base[leaf].shape)
            value = base[leaf].ravel()[index] + step
            return self._row(base, {leaf: value.reshape((1,) * base[leaf].ndim)}, where)

        return row

    def _row(self, base: dict[int, Any], moved: dict[int, Any], where: Sequence[Any]) -> list[Any]:
        def at(atom: Any, pins: Pins) -> Any:
            """A value, moved or not, on the slice that `pins` names; axes of length 1 stay as they are."""
            if isinstance(atom, _Literal) or atom not in self.pins:
                return _slice(_read(base, atom), pins, where)
            own = self.pins[atom]
            return moved[atom] if own == pins else _fill(base[atom], moved[atom], own, pins, where)

        for line in self.lines:
            if line.outs[0] not in self.pins:
                continue
            step = line.step
            if step is None:
                out = interpret.bind(line.eqn, [at(a, {}) for a in line.ins])
            elif step.linear:
                args = [
                    _slice(_read(base, a), p, where)
                    if a not in self.pins
                    else _change(at(a, p), _slice(base[a], p, where))
                    for a, p in zip(line.ins, step.pins, strict=True)
                ]
                out = [_slice(base[line.outs[0]], step.out, where) + step.bind(line.eqn, args)[0]]
            else:
                out = step.bind(line.eqn, [at(a, p) for a, p in zip(line.ins, step.pins, strict=True)])
            moved.update(zip(line.outs, out, strict=True))
        return [at(a, {}) for a in self.outs]


def plan(program: Any, which: int) -> Plan | None:
    """The plan for moving input `which` of a `Program`, or None where the plain way is as good or the only one."""
    closed = program.closed
    leaf = closed.in_avals[which]
    if program.lifted or leaf.dtype != np.float64:
        return None
    lines: list[_Line] = []
    count = len(closed.consts)
    avals = [v.aval for v in (*closed.jaxpr.constvars, *closed.jaxpr.invars)]
    outs = _open(closed.jaxpr, list(range(len(avals))), avals, lines)
    pins: dict[int, Pins] = {count + which: {a: a for a, n in enumerate(leaf.shape) if n > 1}}
    planned, cost, plain = [], float(leaf.size > 1), 0.0
    for line in lines:
        moving = [n for n in line.ins if not isinstance(n, _Literal) and n in pins]
        if moving:
            operands = [None if isinstance(n, _Literal) else pins.get(n) for n in line.ins]
            step = rule(line.eqn, operands, [n.aval if isinstance(n, _Literal) else avals[n] for n in line.ins])
            line = dataclasses.replace(line, step=step)
            for n in line.outs:
                pins[n] = step.out if step else {}
                plain += _size(avals[n], {})
                cost += _size(avals[n], pins[n])
            if step is None:
                cost += sum(_size(avals[n], {}) for n in moving if pins[n])
        planned.append(line)
    if cost > _GAIN * plain:
        return None
    return Plan(tuple(planned), pins, tuple(outs), count, which, cost)


def _size(aval: Any, pins: Pins) -> int:
    return math.prod(1 if axis in pins else n for axis, n in enumerate(getattr(aval, "shape", ())))


def _open(jaxpr: Any, numbers: Sequence[Any], avals: list[Any], lines: list[_Line]) -> list[Any]:
    """Append the equations of a jaxpr to `lines`, those of the programs it calls in their place."""
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), numbers, strict=True))

    def number(atom: Any) -> Any:
        return _Literal(interpret.literal_value(atom), atom.aval) if interpret.is_literal(atom) else env[atom]

    for eqn in jaxpr.eqns:
        ins = [number(a) for a in eqn.invars]
        inner = _called(eqn)
        if inner is not None:
            consts = [
                _Literal(value, v.aval)
                for value, v in zip(interpret.constants(inner), interpret.opened(inner).constvars, strict=True)
            ]
            outs = _open(interpret.opened(inner), [*consts, *ins], avals, lines)
        else:
            outs = list(range(len(avals), len(avals) + len(eqn.outvars)))
            avals += [v.aval for v in eqn.outvars]
            lines.append(_Line(eqn, tuple(ins), tuple(outs)))
        env.update(zip(eqn.outvars, outs, strict=True))
    return [number(a) for a in jaxpr.outvars]


def _called(eqn: Any) -> Any | None:
    if eqn.primitive.name not in _CALLS:
        return None
    found = [
        inner
        for _, inner in interpret.sub_jaxprs(eqn.params)
        if len(interpret.opened(inner).invars) == len(eqn.invars)
        and len(interpret.opened(inner).outvars) == len(eqn.outvars)
    ]
    return found[0] if len(found) == 1 else None


def _read(base: dict[int, Any], atom: Any) -> Any:
    return atom.value if isinstance(atom, _Literal) else base[atom]


def _slice(value: Any, pins: Pins, where: Sequence[Any]) -> Any:
    """The slice where the pinned axes are at the moved index, with its axes kept."""
    shape = np.shape(value)
    if not any(shape[a] > 1 for a in pins if a < len(shape)):
        return value
    at = [a in pins and n > 1 for a, n in enumerate(shape)]
    starts = [where[pins[a]] if on else 0 for a, on in enumerate(at)]
    return jax.lax.dynamic_slice(value, starts, [1 if on else n for on, n in zip(at, shape, strict=True)])


def _fill(value: Any, part: Any, own: Pins, wanted: Pins, where: Sequence[Any]) -> Any:
    """A moved slice `part` put into its unmoved value, on the wider slice that `wanted` names."""
    rest = [axis for axis in own if axis not in wanted]
    if not rest:
        return part
    whole = _slice(value, wanted, where)
    here = jnp.array(True)
    for axis in rest:
        shape = [-1 if a == axis else 1 for a in range(whole.ndim)]
        here = here & (jnp.arange(whole.shape[axis]) == where[own[axis]]).reshape(shape)
    # Chosen, not scattered: on CPU a scatter is a loop, and this goes into the loop of what comes next.
    return jnp.where(here, part, whole)


def _change(new: Any, old: Any) -> Any:
    # Equal infinities, as in a mask, have not moved.
    return jnp.where(new == old, 0.0, new - old)
