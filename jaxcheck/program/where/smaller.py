"""Programs whose arrays are too large, or whose loops are too long, to be searched: the same equations at small sizes.

The jaxpr is written anew, not traced: so lines stay known, and what the caller's functions hold, arrays that they close
over and the lengths of their loops, is cut as well. Axes of equal size are cut alike, so that what was square stays
square, and each to a prime, so that a constant still tells of which axis it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxcheck.program import interpret

# Numbers that programs may make, all their values together, and operations, to be searched as they are.
LARGE, LONG = 300_000, 3_000
# Axes up to this size are left as they are, and what the longer ones are cut to.
SHORT = 12
_PRIMES = (7, 11, 13, 17, 19, 23, 29, 31)
# What the loops of a program are cut to where a search of them as they are takes long: a first turn and a last one.
TURNS = 2
# Parameters of equations that hold sizes, or places along an axis.
_SIZED = ("shape", "new_sizes", "sizes", "slice_sizes", "start_indices", "limit_indices", "length")
# What is next to the end of an axis.
_BESIDE = (1, 2, -1)


def is_large(*programs: Any) -> bool:
    """Whether programs make too much to be searched."""
    operations, numbers = (sum(each) for each in zip(*map(weight, programs), strict=True))
    return operations > LONG or numbers > LARGE


def weight(closed: Any) -> tuple[int, int]:
    """How many operations a program does and how many numbers they make, a loop's once for each of its turns where
    their number is known."""
    operations = numbers = 0
    for eqn in interpret.opened(closed).eqns:
        inside = [weight(interpret.closed(inner)) for _, inner in interpret.sub_jaxprs(eqn.params)]
        turns = int(eqn.params.get("length", 1) or 1)
        operations += 1 + turns * sum(n for n, _ in inside)
        numbers += sum(_size(v) for v in eqn.outvars) + turns * sum(n for _, n in inside)
    return operations, numbers


def _size(var: Any) -> int:
    return math.prod(getattr(var.aval, "shape", ()))


def cuts(programs: tuple[Any, ...], count: int) -> Iterator[dict[int, int]]:
    """What the sizes of axes may be cut to, the most promising first: all long ones, those of no parameter, those of
    loops alone.

    Args:
        count: the first inputs, which are the parameters.
    """
    loops = {n for program in programs for n in lengths(program)}
    inputs = [v.aval for program in programs for v in (*program.jaxpr.invars, *program.jaxpr.constvars)]
    taken = {n for aval in inputs for n in getattr(aval, "shape", ())} | loops
    own = {n for v in programs[0].jaxpr.invars[:count] for n in v.aval.shape}
    primes = [p for p in _PRIMES if p not in taken]
    seen = []
    for chosen in (taken, taken - own, loops):
        products = {n * m for n in taken for m in taken if min(n, m) > 1}
        long = sorted(n for n in chosen - products if n > SHORT)
        sizes = {n: to for n, to in zip(long, primes, strict=False) if to < n}
        if sizes and sizes not in seen:
            seen.append(sizes)
            yield sizes


def lengths(program: Any) -> Iterator[int]:
    """How long the loops of a program are."""
    for eqn in interpret.opened(program).eqns:
        if eqn.primitive.name == "scan":
            yield int(eqn.params["length"])
        for _, inner in interpret.sub_jaxprs(eqn.params):
            yield from lengths(inner)


def _derived(sizes: Mapping[int, int]) -> dict[int, int]:
    """The sizes, and what is made of them: products, also with a short axis, and what is next to an end; of a few turns
    of a loop nothing, for any axis may be as long as that."""
    if min(sizes.values()) <= TURNS:
        return dict(sizes)
    kept = [(n, n) for n in range(2, SHORT + 1)]
    found = {n * m: a * b for n, a in sizes.items() for m, b in (*sizes.items(), *kept)}
    return found | {n - d: to - d for n, to in sizes.items() for d in _BESIDE} | dict(sizes)


def cut(x: Any, sizes: Mapping[int, int]) -> Any:
    """An array with its axes cut; whole numbers that may point into an axis are taken modulo what it became."""
    if not hasattr(x, "dtype") or jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended):
        return x
    reach = min(sizes.values())
    whole = _derived(sizes)
    small = np.asarray(x)[tuple(slice(whole.get(n, n)) for n in np.shape(x))]
    return small % reach if small.dtype.kind in "iu" and small.size and small.max() >= reach else small


def resized(closed: Any, sizes: Mapping[int, int], numbers: bool = True) -> Any:
    """The program with its axes cut, and what is made of their sizes: products, what is next to an end, numbers that
    stand in it for them.

    Args:
        numbers: whether fractions are taken for what stands for a size. A loss and its backward pass are as right
            with the old ones, and of a small size many a power and a step is one by chance.
    """
    return _Resizing(sizes, numbers).closed(closed)


class _Resizing:
    def __init__(self, sizes: Mapping[int, int], numbers: bool):
        self.sizes = dict(sizes)
        self.kinds = "iuf" if numbers else "iu"
        self.whole = _derived(sizes)
        alike = [*self.whole.items(), *((n**0.5, to**0.5) for n, to in sizes.items())]
        parts = (1.0, 2.0, 0.5)
        self.numbers = [(c * x**power, c * y**power) for x, y in alike for power in (1, -1) for c in parts]
        self.known: dict[int, Any] = {}

    def closed(self, closed: Any) -> Any:
        consts = [cut(x, self.sizes) for x in interpret.constants(closed)]
        return core.ClosedJaxpr(self.opened(interpret.opened(closed)), consts)

    def opened(self, jaxpr: Any) -> Any:
        if id(jaxpr) in self.known:
            return self.known[id(jaxpr)][0]
        made: dict[Any, Any] = {}

        def atom(a: Any) -> Any:
            if interpret.is_literal(a):
                return core.Literal(self.number(a.val, a.aval), self.aval(a.aval))
            if not interpret.is_variable(a) or a in made:
                return made.get(a, a)
            made[a] = core.Var(self.aval(a.aval))
            return made[a]

        fields = {name: [atom(v) for v in getattr(jaxpr, name)] for name in ("constvars", "invars")}
        eqns = []
        for eqn in jaxpr.eqns:
            ins, outs = [atom(v) for v in eqn.invars], [atom(v) for v in eqn.outvars]
            eqns.append(eqn.replace(invars=ins, outvars=outs, params=self.params(eqn.params)))
        new = jaxpr.replace(**fields, outvars=[atom(v) for v in jaxpr.outvars], eqns=eqns)
        self.known[id(jaxpr)] = new, jaxpr  # kept, so that the id stays its own
        return new

    def aval(self, aval: Any) -> Any:
        shape = getattr(aval, "shape", ())
        return aval.update(shape=tuple(self.whole.get(n, n) for n in shape)) if shape else aval

    def number(self, value: Any, aval: Any) -> Any:
        """A number that stands in the program for a size."""
        if np.ndim(value) or np.asarray(value).dtype.kind not in self.kinds:
            return value
        if np.asarray(value).dtype.kind in "iu":
            return np.asarray(self.whole.get(int(value), value), aval.dtype)
        x = float(value)
        near = [new for old, new in self.numbers if abs(abs(x) - old) <= 1e-6 * old]  # it may be a float32's
        return np.asarray(np.copysign(near[0], x), aval.dtype) if near else value

    def params(self, params: dict[str, Any]) -> dict[str, Any]:
        return {key: self.param(key, value) for key, value in params.items()}

    def param(self, key: str, value: Any) -> Any:
        if interpret.is_jaxpr(value):
            return self.closed(value) if hasattr(value, "jaxpr") else self.opened(value)
        if isinstance(value, (tuple, list)) and any(map(interpret.is_jaxpr, value)):
            return type(value)(self.param(key, x) for x in value)
        if key not in _SIZED:
            return value
        if isinstance(value, int):
            return self.whole.get(value, value)
        many = isinstance(value, (tuple, list))
        return type(value)(self.whole.get(x, x) if isinstance(x, int) else x for x in value) if many else value


def as_written(c: float, sizes: Mapping[int, int]) -> float:
    """A constant of the small program as it is in the large one: what is made of a prime is of the axis cut to it."""
    for root in (1, 2):
        near = Fraction(abs(c) ** root).limit_denominator(100_000)
        if near and abs(float(near) - abs(c) ** root) <= 1e-11 * abs(c) ** root:
            power = 1.0
            for whole, prime in sizes.items():
                power *= (whole / prime) ** (_times(near.numerator, prime) - _times(near.denominator, prime))
            return c * power ** (1 / root)
    return c


def _times(n: int, prime: int) -> int:
    count = 0
    while n and n % prime == 0:
        n, count = n // prime, count + 1
    return count
