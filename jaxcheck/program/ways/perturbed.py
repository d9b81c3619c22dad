"""Monte Carlo arithmetic: how far a program's results may be off by rounding, found by rounding otherwise.

Every inexact result is multiplied by 1 + u xi, xi = +-1, u the unit round-off of its dtype, a few times over;
the scatter of what comes out is the bar (Parker 1997; Verificarlo: Denis, de Oliveira Castro and Petit 2016).
Sums, products and factorisations move what goes into them as well, as backward stability has it. Whatever
decides (comparisons, indices, counts, permutations, signs, roundings to integers) follows the plain run, which
is carried along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcheck.program import interpret, jaxpr, units
from jaxcheck.program.custom import rules
from jaxcheck.program.run.factors import factor_unit
from jaxcheck.program.ways import rounded
from jaxcheck.program.ways.noise import PLACES, Noise, signs

__all__ = ["Bars", "Perturbed", "of_constants", "perturbed", "scatter", "signs"]

UnitOf = Callable[[Any, Any], float]


class Pair(NamedTuple):
    """A value of the plain run and of the perturbed one; None: the same."""

    plain: Any
    noisy: Any = None

    @property
    def moved(self) -> Any:
        return self.plain if self.noisy is None else self.noisy


class Still(Pair):
    """A value that every run has: made of constants alone, it is rounded alike in all that is compared."""


class Perturbed(jaxpr.Way[Any]):
    """The way. Its state is a part of the offset at which signs are read: 0, or in a loop its iteration's. With `still`
    what is made of `Still` values is not perturbed, nor are constants. Without `factors` those of a product are rounded
    to no less than its dtype (see `program.factors`)."""

    def __init__(self, noise: Noise, unit_of: UnitOf, still: bool = False, factors: bool = True):
        super().__init__()
        self.noise = noise
        self.unit_of = unit_of
        self.factors = factors
        self._constant = Still if still else Pair
        self.unseen: dict[str, None] = {}  # run once, on plain operands, since they act on the world
        self._loops = 0

    def constant(self, value: Any, aval: Any) -> Pair:
        return self._constant(interpret.as_declared(value, aval))

    def plain(self, value: Pair) -> Any:
        return value.plain

    def general(self, value: Pair, aval: Any) -> Pair:
        plain = jaxpr.array(value.plain, aval)
        return Pair(plain, jaxpr.array(value.moved, aval)) if rules.is_inexact(aval) else Pair(plain)

    def whole(self, eqn: Any, operands: list[Pair]) -> bool:
        return not any(rules.is_inexact(v.aval) for v in eqn.outvars)

    def begin(self, eqn: Any, state: Any, index: Any = None) -> Any:
        if index is not None:
            return state
        self._loops += 1
        return jnp.int32(state * 31 + 1 + 977 * self._loops) % PLACES

    def turn(self, eqn: Any, state: Any) -> Any:
        return state if isinstance(state, int) else (state + np.int32(1237)) % np.int32(PLACES)

    def end(self, eqn: Any, before: Any, after: Any) -> Any:
        return before

    def equation(self, eqn: Any, operands: list[Pair], state: Any) -> tuple[list[Pair], Any]:
        if eqn.effects:
            self.unseen[eqn.primitive.name] = None
            return [Pair(r) for r in interpret.bind(eqn, [v.plain for v in operands])], state
        if self._constant is Still and all(isinstance(v, Still) for v in operands):
            return [Still(r) for r in interpret.bind(eqn, [v.plain for v in operands])], state
        plain, noisy = rounded.results(_Step(self, eqn, operands, state))
        return [Pair(p, n) for p, n in zip(plain, noisy, strict=True)], state


class Free(Perturbed):
    """Decisions follow the perturbed run: what is next to a threshold may fall on its other side."""

    def equation(self, eqn: Any, operands: list[Pair], state: Any) -> tuple[list[Pair], Any]:
        results, state = super().equation(eqn, operands, state)
        return [Pair(r.moved) for r in results], state


class Constants(Perturbed):
    """Nothing is rounded but the constants that a program holds, to a unit; what few bits can say is exact. Where what
    it is given is rounded `alone`, not even those."""

    def __init__(self, noise: Noise, unit: float, alone: bool = False):
        super().__init__(noise, lambda eqn, dtype: 0.0)
        self._unit, self._alone = unit, alone

    def constant(self, value: Any, aval: Any) -> Pair:
        if self._alone:
            return super().constant(value, aval)
        return self.rounded(interpret.as_declared(value, aval), aval)

    def rounded(self, plain: Any, aval: Any) -> Pair:
        if not rules.is_inexact(aval) or not np.size(plain):
            return Pair(plain)
        moved = self.noise.move(jnp.asarray(plain), 1.0, self._unit, 0)
        return Pair(plain, jnp.where(_short(plain, self._unit), plain, moved))


def _short(x: Any, unit: float) -> Any:
    """Where a number takes no more than half of the bits that the unit leaves: 2, 0.75 and 10, not 0.1."""
    real = jnp.real(x)
    spare = jnp.finfo(real.dtype).nmant + 1 - round(-math.log2(unit) / 2)
    if spare <= 0:
        return jnp.imag(x) == 0
    # The upper bits by Veltkamp's splitting: what it leaves is the number itself where the lower ones are zeros.
    far = real * np.asarray(2.0**spare + 1, real.dtype)
    return (far - (far - real) == real) & (jnp.imag(x) == 0)


class _Step(rounded.Step):
    """One equation, seen by the rules that say how it rounds."""

    def __init__(self, way: Perturbed, eqn: Any, operands: list[Pair], salt: Any):
        self.eqn = eqn
        self.plain = [v.plain for v in operands]
        self.noisy = [v.moved for v in operands]
        self.same = all(v.noisy is None for v in operands)
        self._way, self._salt = way, salt

    def unit(self, x: Any) -> float:
        return self._way.unit_of(self.eqn, x.dtype)

    def factor_unit(self, own: float) -> float:
        return factor_unit(self.eqn, own) if self._way.factors else 0.0

    def move(self, x: Any, count: float = 1.0) -> Any:
        x = jnp.asarray(x)
        return self._way.noise.move(x, count, self.unit(x), self._salt) if rules.is_inexact(x) else x

    def spread(self, x: Any, size: Any) -> Any:
        return self._way.noise.add(x, size, self.unit(x), self._salt)


def _own_unit(eqn: Any, dtype: Any) -> float:
    return units.unit(dtype)


def _dtypes(program: Any) -> set[np.dtype]:
    """The real dtypes of all inexact values of a program."""
    found = set()
    for inner in map(interpret.opened, interpret.walk_jaxprs(program)):
        atoms = [*inner.invars, *inner.constvars, *(v for e in inner.eqns for v in (*e.invars, *e.outvars))]
        found |= {np.dtype(a.aval.dtype) for a in atoms if rules.is_inexact(a.aval)}
    return {np.zeros((), d).real.dtype for d in found}


def perturbed(
    program: Any, unit_of: UnitOf = _own_unit, free: bool = False, still: Sequence[bool] = (), factors: bool = True
) -> Callable[..., tuple[list[Any], list[Any], tuple[str, ...]]]:
    """A closed jaxpr as `run(row, *args) -> (results, perturbed results, names)`; jit and vmap it over `row`.

    `row` is one row of `signs(...)`. `unit_of(eqn, dtype)` says what a unit is in an equation, if it is not
    that of the dtype: float32's, say, throughout a program that was lifted from float32. With `free` decisions
    follow the perturbed run, and both results are its. `still` marks arguments which all that is compared shares: what
    is made of them and of constants alone is left as it is; absent, nothing is. Without `factors` a device that rounds
    those of products to less is taken for one that does not. `names` are the
    primitives that act on the world, which were run once and whose results were left as they are.
    """
    dtypes = _dtypes(program)

    def run(row: Any, *args: Any) -> tuple[list[Any], list[Any], tuple[str, ...]]:
        way = (Free if free else Perturbed)(Noise(row, dtypes), unit_of, bool(still), factors)
        marks = still or [False] * len(args)
        out, _ = jaxpr.run(way, program, [Still(a) if m else Pair(a) for a, m in zip(args, marks, strict=True)], 0)
        return [v.plain for v in out], [v.moved for v in out], tuple(way.unseen)

    return run


class Bars(NamedTuple):
    """Results, how far each entry of each may be off by rounding (NaN where that is unknown), and `unseen`."""

    results: list[Any]
    bars: list[Any]
    unseen: tuple[str, ...]


# Rows at once would make a grouped convolution of each, or ask a foreign function for what it cannot do.
_ONE_BY_ONE = ("conv_general_dilated", "pure_callback", "ffi_call", "pallas_call", "shard_map")


def scatter(
    program: Any,
    args: Sequence[Any],
    rows: Any,
    unit_of: UnitOf = _own_unit,
    free: bool = False,
    still: Sequence[bool] = (),
    factors: bool = True,
) -> Bars:
    """The results of a closed jaxpr, and per entry the largest deviation over the rows of signs; traceable.

    With `free`, decisions may fall either way as rounding has it: a relu next to zero is on in one run and off in
    another. Not for loops that run until a float is small, which might never be.

    Single entries may be off by up to 14 bars, as four draws of a sum can nearly cancel: a bar of an entry
    wants the root mean square of its leaf's bars beside it.
    """
    run = perturbed(program, unit_of, free, still, factors)
    rows = jnp.asarray(rows)
    if free:  # a row of no signs is the plain run
        rows = jnp.concatenate([jnp.zeros_like(rows[:1]), rows])
    unseen: tuple[str, ...] = ()

    def one(row: Any) -> tuple[list[Any], list[Any]]:
        nonlocal unseen
        plain, noisy, unseen = run(row, *args)
        return plain, noisy

    if any(eqn.primitive.name in _ONE_BY_ONE for eqn, _ in interpret.walk(program)):
        plain, noisy = lax.map(one, rows)
        plain = [p[0] for p in plain]
    elif free:
        noisy = jax.vmap(lambda row: one(row)[1])(rows)
    else:
        plain, noisy = jax.vmap(one, out_axes=(None, 0))(rows)
    if free:
        plain = [n[0] for n in noisy]
    return Bars(plain, [_largest(p, n) for p, n in zip(plain, noisy, strict=True)], unseen)


def of_constants(
    program: Any,
    consts: Sequence[Any],
    args: Sequence[Any],
    rows: Any,
    unit: float,
    those: Sequence[bool] | None = None,
) -> Bars:
    """How far a float64 program may be off since its constants were rounded to `unit`, and nothing else was.

    Its literals are constants, and its first inputs, `consts`; or, where they are named, `those` of the inputs alone.
    """
    dtypes = _dtypes(program)

    def one(row: Any) -> tuple[list[Any], list[Any]]:
        way = Constants(Noise(row, dtypes), unit, alone=those is not None)
        which = [True] * len(consts) if those is None else those
        moved = [
            way.rounded(jnp.asarray(c), jax.typeof(c)) if w else Pair(c) for c, w in zip(consts, which, strict=True)
        ]
        out, _ = jaxpr.run(way, program, [*moved, *(Pair(a) for a in args)], 0)
        return [v.plain for v in out], [v.moved for v in out]

    if any(eqn.primitive.name in _ONE_BY_ONE for eqn, _ in interpret.walk(program)):
        plain, noisy = lax.map(one, jnp.asarray(rows))
        plain = [p[0] for p in plain]
    else:
        plain, noisy = jax.vmap(one, out_axes=(None, 0))(jnp.asarray(rows))
    return Bars(plain, [_largest(p, n) for p, n in zip(plain, noisy, strict=True)], ())


def _largest(plain: Any, noisy: Any) -> Any:
    plain = jnp.asarray(plain)
    if not rules.is_inexact(plain):
        return jnp.zeros(plain.shape)
    bar = jnp.max(jnp.abs(noisy - plain), axis=0)
    return jnp.where(jnp.isfinite(plain), bar, jnp.nan)
