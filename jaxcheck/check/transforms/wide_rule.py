"""A rule's gradient in float64, and whether the rule is the same, and keeps its digits, in a narrower dtype."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.bars import ALIKE, FINE_UNIT
from jaxcheck.check.laws.rounding import rounding, settled
from jaxcheck.check.laws.run import Once, Pulled
from jaxcheck.check.laws.site import Site, draw, finite, host, nearby, norm, pull, unit_in, unit_of, unsupported
from jaxcheck.check.transforms.formula import Formula
from jaxcheck.evidence.gradient_bars import least
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.converge import iterates
from jaxcheck.program.custom.strip import strip_rules
from jaxcheck.program.float64.shadow import lift, to_float64, uses_random_bits
from jaxcheck.program.mode import laid_out
from jaxcheck.program.rounding import round_off
from jaxcheck.program.run.compile import Program
from jaxcheck.program.run.eagerly import run_eagerly
from jaxcheck.program.ways.rounded import given_up
from jaxcheck.result import Row

# Below half of a float32's digits a rounding is so large that a wrong formula hides behind it.
HALF = 1e-4
FORMULA_ALONE = "its formula alone, before any rounding"
# Of two formulas of one derivative neither need lose what the other does; but of what autodiff keeps in the same dtype
# a rule keeps all but what this many spacings, or bars of measured rounding, explain.
KEPT, SPACINGS, BARS = 4.0, 16.0, 5.0
AS_GIVEN = "a part is computed in less, which is as precise as what was given"


def as_in(x: Any, dtype: np.dtype) -> Any:
    """To numbers that `dtype` can represent, in the dtype they have: both precisions then see the same point."""
    if not isinstance(x, (jax.Array, np.ndarray, np.generic)) or not jax.dtypes.issubdtype(x.dtype, np.inexact):
        return x
    value = np.asarray(x)
    if value.dtype.kind == "c":
        real, imag = (part.astype(dtype).astype(np.float64) for part in (np.real(value), np.imag(value)))
        value = (real + 1j * imag).astype(value.dtype)
    else:
        value = value.astype(dtype).astype(value.dtype)
    return laid_out(value, x) if isinstance(x, jax.Array) else value


def _explains(measured: np.ndarray, off: np.ndarray) -> bool:
    known = np.isfinite(measured)
    return bool(norm(off[known]) <= BARS * norm(measured[known]) and not off[~known].any())


class Wide:
    """The gradient in float64, and how it moves with the rounding of a narrower dtype.

    `given` is the unit of what the caller gave: a rule for float32 that says so, whatever comes in, keeps its digits.
    """

    def __init__(self, site: Site, seed: int, dtype: np.dtype, given: float):
        self.site, self.seed = site, seed
        rule = Pulled(site.call)
        self.call = rule.values
        outs = self.call(site.live)
        self.g = [as_in(g, dtype) for g in draw(outs, seed, "dtype")]
        self.back = rule.back
        self.closed = rule.traced(site.live, self.g) or ask(jax.make_jaxpr(pull(site.call)), list(site.live), self.g)
        self.unit = unit_in(self.closed)
        self.granted = self.unit if self.unit <= given else 0.0
        self.own = self.eager(site.live)
        # Where the rule (or f) computes in less than float64, that is lifted.
        self.exact = self.own if self.unit <= FINE_UNIT or not site.live else self._lifted(self.closed, True)
        self.value = host(outs)

    def draw_as(self, narrow: Site, g: Sequence[Any]) -> None:
        """Take the random numbers that the narrow program draws: by one key, other precisions draw others."""
        # The program without its rule says what the gradient is, where it does so in float64.
        rule = narrow.call if not self._plain_agrees else strip_rules(narrow.call)
        with jax.enable_x64(False):
            call = ask(jax.make_jaxpr(narrow.call), *narrow.live)
            back = ask(jax.make_jaxpr(pull(rule)), list(narrow.live), list(g))
        # Compiled as a whole: a generator of random numbers is many small operations.
        whole = jax.jit(lift(call, wide=False))
        self.call = lambda x: whole(*x)
        flat = jax.jit(lift(back, wide=False))
        self.back = lambda x, g: flat(*x, *g)
        with jax.enable_x64(True):
            self.own = self.exact = self.eager(self.site.live)
            self.value = host(self.call(self.site.live))

    @functools.cached_property
    def _plain_agrees(self) -> bool:
        """Whether autodiff without the rule gives in float64 what the rule does."""
        try:
            with jax.enable_x64(True):
                plain = host(Once(pull(strip_rules(self.site.call)))(list(self.site.live), self.g))
        except Refused:
            return False
        return all(norm(a - b) <= ALIKE * norm(b) for a, b in zip(plain, self.own, strict=True))

    def _lifted(self, closed: Any, wide: bool) -> list[np.ndarray]:
        return host(run_eagerly(lift(closed, wide=wide), *map(to_float64, [*self.site.live, *self.g])))

    def eager(self, x: Sequence[Any]) -> list[np.ndarray]:
        return host(ask(self.back, list(x), self.g))

    def noise(self, unit: float) -> tuple[list[float], list[float]]:
        """How far the gradient, and the value, move when the arguments do by some roundings."""
        grads, values = [0.0] * len(self.exact), [0.0] * len(self.value)
        with jax.enable_x64(True):
            for name in ("up", "down"):
                x = nearby(self.site.live, 4 * unit, self.seed, name)
                grads = [max(n, norm(a - b)) for n, a, b in zip(grads, self.eager(x), self.own, strict=True)]
                out = host(self.call(x))
                values = [max(n, norm(a - b)) for n, a, b in zip(values, out, self.value, strict=True)]
        return grads, values

    def formula(self, narrow: Site, dtype: np.dtype) -> Row:
        """Whether the rule's formula is the same in the dtype; nothing is run there."""
        off = self._formula(narrow, dtype)
        if off is None:
            return unsupported("transformation", dtype.name, "not run, and its formula cannot be told from rounding")
        if off[0] >= 0:
            return self._other(dtype, *off)
        return Row("transformation", dtype.name, "OK", off[1], FORMULA_ALONE)

    def _formula(self, narrow: Site, dtype: np.dtype) -> tuple[int, float] | None:
        one = Formula(
            self.site.call,
            list(self.site.live),
            self.g,
            self.closed,
            self.exact,
            self.value,
            lambda: self._plain_agrees,
        )
        return one.differs(narrow, unit_of(dtype))

    def _other(self, dtype: np.dtype, leaf: int, off: float) -> Row:
        text = f"leaf `{self.site.paths[leaf]}`: another formula than in float64, off by {off:.2g} before any rounding"
        return Row("transformation", dtype.name, "WRONG", off, text)

    def compare(self, narrow: Site, dtype: np.dtype, given: bool) -> Row:
        """`given`: the caller's own arguments all have this dtype, so that its gradients must have it too."""
        name = dtype.name
        rule = Pulled(narrow.call)
        out = rule.values(narrow.live)
        g = [laid_out(np.asarray(g).astype(o.dtype), o) for g, o in zip(self.g, out, strict=True)]
        grads = rule.back(narrow.live, g)
        said = ""
        for path, x, u in zip(narrow.paths, narrow.live, grads, strict=True):
            if u.dtype != x.dtype:
                said = f"leaf `{path}`: the gradient is {u.dtype}, the argument {x.dtype}"
                if given:
                    return Row("transformation", name, "WRONG", float("nan"), said)
                break  # promoted by a constant, or by an argument of the caller's: right for what it was written for
        if unit_of(dtype) > HALF and (off := self._formula(narrow, dtype)) is not None and off[0] >= 0:
            return self._other(dtype, *off)
        if uses_random_bits(self.closed):
            self.draw_as(narrow, g)
        if not finite(self.exact):
            return unsupported("transformation", name, "the gradient in float64 is not finite")
        unit = max(unit_of(dtype), self.inside(), self.granted)
        said = "; ".join([said] * bool(said) + [AS_GIVEN] * (unit > max(unit_of(dtype), self.inside())))
        noise, value_noise = self.noise(unit)
        values = zip(host(out), self.value, value_noise, strict=True)
        if not all(norm(a - b) <= 64 * unit * norm(b) + 16 * n for a, b, n in values):
            return unsupported("transformation", name, f"the function itself loses its digits in {name}")
        row = self._row(name, host(grads), unit, noise)
        measured = functools.cache(lambda: self._measured(rule.traced(narrow.live, g), [*narrow.live, *g], unit))
        if doubtful := row.status == "WRONG":
            row = settled(row, host(grads), self.exact, self._bars(unit, row.name), measured())
        if row.status == "OK" and (doubtful or unit > HALF):
            row = self._beside_autodiff(narrow, g, host(grads), unit, row, measured)
        return dataclasses.replace(row, detail="; ".join(x for x in (row.detail, said) if x))

    def _measured(self, closed: Any, values: Sequence[Any], unit: float) -> list[np.ndarray] | None:
        """What rounding in the dtype does to the rule, not in one, or to bits, that it chose to compute in."""
        chosen = closed is None or max(unit_in(closed), given_up(closed)) > unit
        return None if chosen else rounding(closed, values)

    def _beside_autodiff(
        self, narrow: Site, g: Sequence[Any], found: Sequence[Any], unit: float, row: Row, measured: Callable
    ) -> Row:
        """What the rule loses as it runs, and not by its own rounding, held to what autodiff without it keeps there: in
        y (1 - y) of a sigmoid that is nearly 1 less is left, and it is right."""
        sizes = [norm(w) for w in self.exact]
        doubtful = [
            k
            for k, (a, b, s) in enumerate(zip(found, self.exact, sizes, strict=True))
            if norm(a - b) > SPACINGS * unit * s and s > unit * max(sizes)
        ]
        if not doubtful or not self._plain_agrees:
            return row
        own = measured()
        doubtful = [k for k in doubtful if own is None or not _explains(own[k], found[k] - self.exact[k])]
        if not doubtful:
            return row
        try:
            back = pull(strip_rules(narrow.call))
            plain = host(ask(back, list(narrow.live), list(g)))
            program = Program.of(ask(jax.make_jaxpr(back), list(narrow.live), list(g)))
            ((_, bars),) = ask(
                round_off, "autodiff", [program], list, list, [*narrow.live, *g], [not iterates(program.closed)]
            )[0]
        except Refused:
            return row
        for k in doubtful:
            off, bar = norm(found[k] - self.exact[k]), BARS * norm(np.asarray(bars[k], np.float64))
            if norm(plain[k] - self.exact[k]) <= KEPT * unit * sizes[k] and off > max(SPACINGS * unit * sizes[k], bar):
                text = (
                    f"leaf `{self.site.paths[k]}`: off by {off / sizes[k]:.2g}, autodiff without the rule by "
                    f"{norm(plain[k] - self.exact[k]) / sizes[k]:.2g}"
                )
                return Row("transformation", row.name, "WRONG", off / sizes[k], text)
        return row

    def _row(self, name: str, found: Sequence[Any], unit: float, noise: Sequence[float]) -> Row:
        sizes = [norm(w) for w in self.exact]
        largest = 0.0
        bars = self._bars(unit, name)
        for path, a, b, s, n, bar in zip(self.site.paths, found, self.exact, sizes, noise, bars, strict=True):
            d = norm(a - b)
            relative = 0.0 if d == 0 else d / s if s else float("inf")
            if not d <= bar + 16 * n:
                text = f"leaf `{path}`: off by {relative:.2g}, the dtype's unit is {unit:.2g}"
                return Row("transformation", name, "WRONG", relative, text)
            largest = max(largest, relative if s > unit * max(sizes) else 0.0)
        return Row("transformation", name, "OK", largest)

    def _bars(self, unit: float, dtype: str) -> list[float]:
        sizes = [norm(w) for w in self.exact]
        # What is below the dtype's least number is zero there, of each entry of a cotangent's size.
        nothing = least(dtype) * max([1.0, *(float(np.abs(g).max(initial=0.0)) for g in self.g)])
        lost = [nothing * np.sqrt(np.size(w)) for w in self.exact]
        return [64 * unit * s + 16 * unit * max(sizes) + n for s, n in zip(sizes, lost, strict=True)]

    def inside(self) -> float:
        """Rounding unit of the coarsest precision that the function itself computes in when given float64."""
        with jax.enable_x64(True):
            return unit_in(ask(jax.make_jaxpr(self.site.call), *self.site.live))

    def row(self) -> Row:
        """In float64: whether what is computed narrower inside costs the rule its digits."""
        name = "float64"
        if not finite(self.exact):
            return unsupported("transformation", name, "the gradient in float64 is not finite")
        inside = self.inside()
        unit = unit_of(np.float64)
        if inside > FINE_UNIT:
            text = "the function itself computes in less than float64"
            row = self._row(name, self.own, inside, self.noise(inside)[0])
            return dataclasses.replace(row, status="OK", detail=text)
        row = self._row(name, self.own, 1024 * unit, self.noise(unit)[0])
        if row.status == "WRONG" and self.granted > unit:
            row = self._row(name, self.own, self.granted, self.noise(self.granted)[0])
            return row if row.status == "WRONG" else dataclasses.replace(row, detail=AS_GIVEN)
        return row
