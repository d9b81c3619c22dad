"""A program whose arrays are too large to be searched, at the same program's small arrays: axes of equal size are cut
alike, so that what was square stays square, and each to a prime, so that a constant still tells of which axis it is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from jaxcheck.program import interpret

# Numbers that programs may make, all their values together, and operations, to be searched as they are.
LARGE, LONG = 300_000, 3_000
# Axes up to this size are left as they are, and what the longer ones are cut to.
SHORT = 12
_PRIMES = (7, 11, 13, 17, 19, 23, 29, 31)


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


def cuts(trees: Any, args: Any) -> Iterator[dict[int, int]]:
    """What the sizes of axes may be cut to, the most promising first: all long ones, the rows of the arguments alone.

    Args:
        trees: all arrays there are.
        args: those that are not differentiated, whose leading axes are rows.
    """
    taken = {n for x in jax.tree.leaves(trees) for n in np.shape(x)}
    long = sorted(n for n in taken if n > SHORT)
    primes = [p for p in _PRIMES if p not in taken]
    shrunk = dict(zip(long, primes, strict=False))
    if len(long) > len(primes) or any(to >= n for n, to in shrunk.items()):
        shrunk = {n: to for n, to in shrunk.items() if to < n}
    rows = {np.shape(x)[0] for x in jax.tree.leaves(args) if np.ndim(x)}
    for chosen in (shrunk, {n: to for n, to in shrunk.items() if n in rows}):
        if chosen:
            yield chosen


def cut(tree: Any, sizes: Mapping[int, int]) -> Any:
    """The arrays with their axes cut; whole numbers that may point into an axis are taken modulo what it became."""
    reach = min(sizes.values())

    def one(x: Any) -> Any:
        if not hasattr(x, "dtype") or jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended):
            return x
        small = np.asarray(x)[tuple(slice(sizes.get(n, n)) for n in np.shape(x))]
        if small.dtype.kind in "iu" and small.size and small.max() >= reach:
            small = small % reach
        return jax.numpy.asarray(small, x.dtype) if isinstance(x, jax.Array) else small

    return jax.tree.map(one, tree)


def same_program(large: Any, small: Any, sizes: Mapping[int, int]) -> bool:
    """Whether the small program is the large one at other sizes: the same operations, and no number in it that was
    written for an axis that was cut."""
    a, b = list(_steps(large)), list(_steps(small))
    if [name for name, _ in a] != [name for name, _ in b]:
        return False
    told = _told(sizes)
    pinned = [x for (_, xs), (_, ys) in zip(a, b, strict=True) for x, y in zip(xs, ys, strict=False) if x == y]
    return not any(_near(abs(x), told) for x in pinned if x)


def _steps(closed: Any) -> Iterator[tuple[str, list[float]]]:
    """Each operation with the numbers that stand in it, those of loops and calls among them."""
    program = interpret.opened(closed)
    consts = [x for x in getattr(closed, "consts", ()) if np.ndim(x) == 0]
    yield "consts", [float(x) for x in consts if np.asarray(x).dtype.kind in "fi"]
    for eqn in program.eqns:
        literals = [v.val for v in eqn.invars if hasattr(v, "val") and np.ndim(v.val) == 0]
        yield eqn.primitive.name, [float(x) for x in literals if np.asarray(x).dtype.kind in "fi"]
        for _, inner in interpret.sub_jaxprs(eqn.params):
            yield from _steps(interpret.closed(inner))


def _told(sizes: Mapping[int, int]) -> list[float]:
    """Numbers that speak of the size of an axis."""
    long = [float(n) for n in sizes]
    found = [*long, *(n**0.5 for n in long), *(n * m for n, m in itertools.combinations_with_replacement(long, 2))]
    found += [n - 1 for n in long]
    return [y for x in found for y in (x, 1 / x, 2 / x, 0.5 / x)]


def _near(x: float, told: Sequence[float]) -> bool:
    return any(abs(x - n) <= 1e-5 * n for n in told)  # a literal may be a float32's


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
