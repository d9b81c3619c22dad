"""Whether two programs are one formula, whatever dtypes it is computed in.

A function that is traced at the caller's own dtypes and in float64 gives two programs. Where these are made of the
same equations, up to conversions and to constants as far as the narrower of two dtypes can tell them apart, the
function chose nothing by its dtype, and what is known of the one formula is known of the other. That is cheap to
see, since nothing is run; where it cannot be seen nothing is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.program import interpret, jaxpr, units
from jaxcheck.program.mode import is_traced

# Conversions between floats, or between integers, keep what is computed; so does rounding, which is what is left out.
_CONVERSIONS = ("convert_element_type", "reduce_precision", "copy", "copy_p")
# Parameters that say in which dtype, how precisely or where something is computed, and how it is called.
_UNSEEN = frozenset({
    "new_dtype", "dtype", "weak_type", "preferred_element_type", "precision", "accuracy", "sharding", "out_sharding",
    "name", "debug_info", "index_dtype", "input_dtype",
})  # fmt: skip
_LOOPS = ("scan", "while", "cond")


class _Node:
    """A value: what made it and which of its results it is, or a constant, or a numbered input."""

    __slots__ = ("aval", "eqn", "inputs", "place", "value")

    def __init__(self, aval: Any, eqn: Any = None, inputs: Any = (), place: int = 0, value: Any = None):
        self.aval, self.eqn, self.inputs, self.place, self.value = aval, eqn, inputs, place, value


def _kind(aval: Any) -> str:
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return str(dtype)
    for kind in (np.complexfloating, np.floating, np.integer):
        if jax.dtypes.issubdtype(dtype, kind):
            return kind.__name__
    return str(dtype)


def _is_whole(program: Any) -> bool:
    """Whether a program holds its constants: one in the parameters of foreign code may lack them."""
    return len(interpret.opened(program).constvars) == len(interpret.constants(program))


def _graph(program: Any, inputs: list[_Node]) -> list[_Node]:
    """The results of a program as nodes; calls are opened, conversions within a kind are not there."""
    opened = interpret.opened(program)
    env: dict[Any, _Node] = dict(zip(opened.invars, inputs, strict=True))
    env |= {v: _Node(v.aval, value=c) for v, c in zip(opened.constvars, interpret.constants(program), strict=True)}

    def read(atom: Any) -> _Node:
        return _Node(atom.aval, value=atom.val) if interpret.is_literal(atom) else env[atom]

    for eqn in opened.eqns:
        operands = [read(a) for a in eqn.invars]
        inner = None if eqn.primitive.name in (*_LOOPS, "custom_linear_solve") else jaxpr.nested(eqn)
        if inner is not None and _is_whole(inner):
            results = _graph(inner, operands)
        elif eqn.primitive.name in _CONVERSIONS and _kind(eqn.invars[0].aval) == _kind(eqn.outvars[0].aval):
            results = operands[:1]
        else:
            results = [_Node(v.aval, eqn, operands, k) for k, v in enumerate(eqn.outvars)]
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(a) for a in opened.outvars]


@dataclasses.dataclass(frozen=True)
class _Given:
    """What `alike` is given, for programs at every depth."""

    unit: float = 0.0
    tolerances: bool = False
    sizes: tuple[int, int] = (1, 1)
    # Pairs of equations already compared, by how strictly: each has several results, and loops lie in loops.
    compared: dict[tuple[int, int, float], bool] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def same_size(self, m: Any, n: Any) -> bool:
        """Whether two lengths are equal, or the same number of batches each."""
        return m == n or (type(m) is type(n) is int and m * self.sizes[1] == n * self.sizes[0])

    def same_shape(self, a: _Node, b: _Node) -> bool:
        m, n = getattr(a.aval, "shape", None), getattr(b.aval, "shape", None)
        sized = m == n or (m is not None and n is not None and len(m) == len(n) and all(map(self.same_size, m, n)))
        return sized and _kind(a.aval) == _kind(b.aval)


def alike(one: Any, two: Any, unit: float = 0.0, tolerances: bool = False, sizes: tuple[int, int] = (1, 1)) -> bool:
    """Whether two closed jaxprs are one formula of their inputs, in whatever dtypes.

    False where that cannot be seen.

    Args:
        unit: to which constants are compared, where that is more than that of their own dtypes; infinite: floats
            are not compared at all.
        tolerances: whether the floats in the conditions of loops may differ: where the formula is the same and a
            loop stops earlier, what it gives is off by its stopping error.
        sizes: of a batch, in either program: lengths may differ as these do.
    """
    return _alike(one, two, _Given(unit, tolerances, sizes))


def alike_at(one: Any, values: Sequence[Any], two: Any) -> bool:
    """Whether a closed jaxpr at `values` of its inputs is the formula of one without inputs, which was traced for them:
    the function took them for numbers that it knows, and computed with them as it does with any."""
    inputs = [_Node(v.aval, value=x) for v, x in zip(interpret.opened(one).invars, values, strict=True)]
    return not interpret.opened(two).invars and _same_formula(one, two, inputs, [], _Given())


def _alike(one: Any, two: Any, given: _Given) -> bool:
    first, second = interpret.opened(one), interpret.opened(two)
    if len(first.invars) != len(second.invars):
        return False
    ins = [[_Node(v.aval, place=k) for k, v in enumerate(p.invars)] for p in (first, second)]
    return all(map(given.same_shape, *ins)) and _same_formula(one, two, ins[0], ins[1], given)


def _same_formula(one: Any, two: Any, first: list[_Node], second: list[_Node], given: _Given) -> bool:
    """Whether two programs are one formula of what stands for their inputs."""
    unit, tolerances = given.unit, given.tolerances
    if not (_is_whole(one) and _is_whole(two)):
        return False
    if len(interpret.opened(one).outvars) != len(interpret.opened(two).outvars):
        return False
    pending = list(zip(_graph(one, first), _graph(two, second), strict=True))
    done: dict[tuple[int, int], Any] = {}  # with the nodes, so that their ids stay their own
    while pending:
        a, b = pending.pop()
        if (id(a), id(b)) in done:
            continue
        done[id(a), id(b)] = a, b
        if not given.same_shape(a, b) or a.place != b.place or (a.eqn is None) != (b.eqn is None):
            return False
        if a.eqn is None:
            if (a.value is None) != (b.value is None) or not (a.value is None or _same_value(a, b, unit)):
                return False
        elif not _same_equation(a.eqn, b.eqn, given):
            return False
        else:
            asked = a.eqn.params["cond_nconsts"] if tolerances and a.eqn.primitive.name == "while" else 0
            pending += [
                (x, y)
                for k, (x, y) in enumerate(zip(a.inputs, b.inputs, strict=True))
                if k >= asked or x.value is None or y.value is None or _kind(x.aval) != "floating"
            ]
    return True


def _same_value(a: _Node, b: _Node, given: float) -> bool:
    """Constants, as far as the coarser of their dtypes can tell; what lies over devices is not gathered for it."""
    if a.value is b.value:
        return True
    if any(isinstance(x.value, jax.Array) and not is_traced(x.value) and len(x.value.devices()) > 1 for x in (a, b)):
        return False
    if any(is_traced(x.value) or "key" in str(getattr(x.value, "dtype", "")) for x in (a, b)):
        return a.value is b.value
    x, y = np.asarray(a.value), np.asarray(b.value)
    unit = max(units.unit(a.aval.dtype), units.unit(b.aval.dtype))
    unit = unit and max(unit, given)
    if not unit:
        return bool(np.array_equal(x, y))
    x, y = (v.astype(np.complex128 if "complex" in str(v.dtype) else np.float64) for v in (x, y))
    if unit == np.inf:
        return x.shape == y.shape
    with np.errstate(all="ignore"):
        near = np.abs(x - y) <= unit * np.maximum(np.abs(x), np.abs(y))
        return bool((near | (x == y) | (np.isnan(x) & np.isnan(y))).all())


def _same_equation(a: Any, b: Any, given: _Given) -> bool:
    """Of two programs that are held as long as they are compared, so that an id is one equation."""
    key = id(a), id(b), given.unit
    if key not in given.compared:
        given.compared[key] = a is b or _equations(a, b, given)
    return given.compared[key]


def _equations(a: Any, b: Any, given: _Given) -> bool:
    if a.primitive.name != b.primitive.name or len(a.invars) != len(b.invars):
        return False
    if a.effects or b.effects or a.params.keys() != b.params.keys():
        return False
    free = given.tolerances and a.primitive.name == "while"
    loose = dataclasses.replace(given, unit=np.inf)
    return all(
        _same_parameter(value, b.params[key], loose if free and key == "cond_jaxpr" else given)
        for key, value in a.params.items()
        if key not in _UNSEEN
    )


def _same_parameter(a: Any, b: Any, given: _Given) -> bool:
    if interpret.is_jaxpr(a) and interpret.is_jaxpr(b):
        return _alike(a, b, given)
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(_same_parameter(x, y, given) for x, y in zip(a, b, strict=True))
    if isinstance(a, (np.ndarray, jax.Array)) or isinstance(b, (np.ndarray, jax.Array)):
        return bool(np.array_equal(np.asarray(a), np.asarray(b)))
    return a is b or bool(_plain(a) and _plain(b) and given.same_size(a, b))


def _plain(x: Any) -> bool:
    # Dimension numbers and the like are tuples with names, enums, or frozen objects that compare by value.
    return not callable(x) or isinstance(x, type)
