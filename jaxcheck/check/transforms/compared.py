"""A rule under JAX's transformations: each must give what the rule gives eagerly.

The reference is the vjp at a few points, traced and compiled once, in float64 where the rule allows it: there a
wrong result cannot hide behind rounding, nor rounding look like one. That the rule gives this eagerly too is
looked at in the caller's own dtypes, where what it runs is compiled anyway, operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.bars import FINE_UNIT
from jaxcheck.check.laws.rounding import allowed, at_points, settled
from jaxcheck.check.laws.run import Pulled
from jaxcheck.check.laws.site import (
    Arrays,
    Site,
    build,
    draw,
    finite,
    host,
    moved,
    natural,
    nearby,
    norm,
    reason,
    unit_in,
    unit_of,
    unsupported,
    worst,
)
from jaxcheck.check.transforms import dtype
from jaxcheck.check.transforms.batching import by_hand_too
from jaxcheck.check.transforms.eager import as_eagerly
from jaxcheck.check.transforms.known import BOTH, at_a_point, in_a_batch
from jaxcheck.check.transforms.partly import Eagerly
from jaxcheck.check.transforms.programs import BATCHES, SINGLE, TRANSFORMED, batch, stacked
from jaxcheck.check.transforms.second import astray
from jaxcheck.check.transforms.sharded import sharded
from jaxcheck.program.ask import Refused, ask, leaks
from jaxcheck.program.custom.strip import strip_rules
from jaxcheck.program.interpret import walk
from jaxcheck.program.run.by_pieces import pieces
from jaxcheck.program.run.compile import Program, execute
from jaxcheck.result import Row

POINTS = 3  # not 2: a batch of two is broadcast by mistake more easily, and found less


def transformations(f: Callable, args: Sequence[Any], kwargs: dict | None = None, *, argnums: Any = (0,),
                    seed: int = 0, wide: bool = True, iterative: bool = False) -> tuple[Row, ...]:  # fmt: skip
    """Test `f` with its rules under every transformation; status OK, WRONG or UNSUPPORTED.

    Args:
        wide: whether `f` may be called in the 64-bit mode: not where it holds NumPy data that JAX keeps as float32.
        iterative: `f` loops until a float is small; in a coarser dtype than the caller's it may never be.

    Returns:
        Rows of group "transformation". Where the eager gradient does not exist or is not finite, the
        others have nothing to be compared with and say so.

    Raises:
        ValueError: if an argnum is out of range or nothing is differentiable.
        Whatever `f` itself raises.
    """
    kwargs = kwargs or {}
    native = build(f, args, kwargs, argnums)
    jax.eval_shape(native.call, *native.live)  # what f itself raises is not about its rules
    with np.errstate(all="ignore"):  # what is not finite is said in the rows
        rows = as_eagerly(native, seed, _matrix(f, args, kwargs, argnums, seed, wide))
        return (*rows, *dtype.rows(f, args, kwargs, argnums, seed, wide, iterative))


def _matrix(f: Callable, args: Any, kwargs: dict, argnums: Any, seed: int, wide: bool = True) -> list[Row]:
    names = ("eager", *TRANSFORMED, "sharded")
    try:
        if wide:
            with jax.enable_x64(True):
                return Matrix(build(f, args, kwargs, argnums, np.float64), seed).rows()
    except Refused:  # written for one precision: then in that one
        pass
    try:
        return Matrix(build(f, args, kwargs, argnums), seed).rows()
    except Refused as no:
        return [unsupported("transformation", name, no.error) for name in names]


class Matrix:
    """The reference of one site, and the transformed programs to compare with it."""

    def __init__(self, site: Site, seed: int):
        self.site = site
        self.x = [list(site.live)]
        for k in range(1, POINTS):
            self.x.append(moved(site.live, [-k / 32] * len(site.live)))
        rule = self.rule = Pulled(site.call)
        outs = rule.values(site.live)
        if not outs:
            raise Refused(ValueError("the function has no differentiable result"))
        self.g = [draw(outs, seed, f"row{k}") for k in range(POINTS)]
        self.t = draw(site.live, seed, "second"), draw(outs, seed, "second g")
        eager = self.back = rule.back
        self.closed = rule.traced(self.x[0], self.g[0])
        first = [host(eager(self.x[0], g)) for g in self.g]
        self.reference = [first[0], *(host(eager(x, g)) for x, g in zip(self.x[1:], self.g[1:], strict=True))]
        self.cotangents = first
        if not all(map(finite, self.reference)):  # the neighbours lie outside the domain
            self.x, self.reference = self.x[:1] * POINTS, first
        self.primals = [first[0], *(host(eager(x, self.g[0])) for x in self.x[1:])]
        unit = unit_of(*(v.dtype for v in site.live))
        beside = nearby(site.live, 8 * unit, seed, "noise")
        noise = [norm(a - b) for a, b in zip(host(eager(beside, self.g[0])), first[0], strict=True)]
        residue = natural(outs, site.live, self.g[0])
        self.noise = [n + unit * r for n, r in zip(noise, residue, strict=True)]

    def rows(self) -> list[Row]:
        if not finite(self.reference[0]):
            bad = next(p for p, u in zip(self.site.paths, self.reference[0], strict=True) if not finite([u]))
            why = "the eager gradient is not finite"
            nan = any(np.isnan(u).any() for u in self.reference[0])  # an infinite slope can be right
            status = "WRONG" if nan else "UNSUPPORTED"
            eager = Row("transformation", "eager", status, float("nan"), f"leaf `{bad}`: not finite")
            return [eager, *(unsupported("transformation", n, why) for n in (*TRANSFORMED, "sharded"))]
        results = self._results()
        rows = [Row("transformation", "eager", "OK", 0.0), *(self._row(name, *results[name]) for name in TRANSFORMED)]
        one = Eagerly(self.site, self.x, self.g, self.rule, self.noise, self.closed)
        return by_hand_too(one, results.get("scan", (None, None))[1], [*rows, self._sharded()])

    def _results(self) -> dict[str, tuple[Any, Any]]:
        """What each transformation gives, or why it gives nothing, and its program; no result where it is known."""
        programs: dict[str, Any] = {}
        run, found = {}, {}
        for name, transform in TRANSFORMED.items():
            try:
                if name == "jit" and self._is_reference(transform):
                    programs[name], found[name] = self.closed, None
                    continue
                programs[name] = self._traced(transform, self.site.call)
                run[name] = Program(programs[name])
            except Refused as no:  # JAX's reason is the answer
                found[name] = no.error
        found |= self._run(run)
        if BOTH in programs and not isinstance(found[BOTH], BaseException):
            found[BOTH] = self._other_batches(found[BOTH], programs[BOTH])
        return {name: (found[name], programs.get(name)) for name in TRANSFORMED}

    def _is_reference(self, transform: Callable) -> bool:
        return self.closed is not None and at_a_point(transform, self.site.call, self.x[0], self.g[0], self.closed)

    def _other_batches(self, found: Any, closed: Any) -> Any:
        """The results in batches, one after the other; not in those whose program differs by its length alone."""
        batches = [found]
        for points in BATCHES:
            try:
                if in_a_batch(len(points), self.site.call, self.x[0], self.g[0], self.t, closed):
                    batches.append(None)
                    continue
                several = Program(self._traced(batch(points), self.site.call))
                batches.append(self._compiled({BOTH: several})[BOTH])
            except Refused as no:
                return no.error
        return batches

    def _row(self, name: str, found: Any, closed: Any) -> Row:
        if isinstance(found, BaseException):
            return self._failed(name, found)
        return Row("transformation", name, "OK", 0.0) if found is None else self._judge(name, found, closed)

    def _traced(self, transform: Callable, call: Callable) -> Any:
        return ask(jax.make_jaxpr(lambda x, g, t: transform(call, x, g, t)), *self._data())

    def _failed(self, name: str, error: BaseException) -> Row:
        """A tracer that outlived its trace is the rule's doing, unless JAX fails without the rule too."""
        if not leaks(error) or self._fails_without_rules(name):
            return unsupported("transformation", name, error)
        text = f"the rule uses a value from outside of it, made in f or kept from another call: {reason(error)}"
        return Row("transformation", name, "WRONG", float("nan"), text)

    def _fails_without_rules(self, name: str) -> bool:
        """Whether the program without the rules cannot be transformed either, or gives what is not finite."""
        try:
            traced = self._traced(TRANSFORMED[name], strip_rules(self.site.call))
            return not finite(self._compiled({name: Program(traced)})[name])
        except Refused:
            return True

    def _data(self) -> tuple[Any, Any, Any]:
        def stack(table):
            return [stacked(column) for column in zip(*table, strict=True)]

        return stack(self.x), stack(self.g), self.t

    def _run(self, programs: dict[str, Program]) -> dict[str, Any]:
        try:
            return self._compiled(programs)
        except Refused:
            results: dict[str, Any] = {}
            for name, program in programs.items():  # one by one, so that one failure is not everybody's
                try:
                    results |= self._compiled({name: program})
                except Refused as no:
                    results[name] = no.error
            return results

    def _compiled(self, programs: dict[str, Program]) -> dict[str, list[np.ndarray]]:
        data = jax.tree_util.tree_leaves(self._data())
        small = {n: one for n, p in programs.items() if (one := pieces(p)) is not None}
        known = {n: host(v) for n, one in small.items() if (v := one(*data)) is not None}
        programs = {n: p for n, p in programs.items() if n not in known}
        if not programs:
            return known

        def whole(calls, *flat):
            return [call(*flat) for call in calls]

        chosen = list(programs.values())
        work = sum(p.cost for p in chosen)
        found, _ = ask(execute, ("matrix", len(chosen)), whole, chosen, *data, work=work)
        return known | {n: host(v) for n, v in zip(programs, found, strict=True)}

    def _judge(self, name: str, found: list[Any], closed: Any) -> Row:
        unit = unit_in(closed)
        wanted = {"vmap over cotangents": self.cotangents, "vmap over primals": self.primals}.get(name, self.reference)
        if name in SINGLE:
            wanted = [self.reference[0]]
        count = len(self.site.live)
        whole = [np.stack([row[k] for row in wanted]) if name not in SINGLE else wanted[0][k] for k in range(count)]
        said = ""
        first, *others = found if name == BOTH else [found]
        compared = first[:count], whole, range(len(wanted))
        d, bad = self._differs(*compared[:2], unit)
        for points, other in zip(BATCHES, others, strict=False):
            if bad < 0 and other is not None:
                compared = other, [v[list(points)] for v in whole], points
                d, bad = self._differs(*compared[:2], unit)
                said = f" in a batch of {len(points)}"
        if bad >= 0:
            text = f"leaf `{self.site.paths[bad]}` differs from the eager gradient{said}"
            return self._settled(Row("transformation", name, "WRONG", d, text), *compared, unit)
        if name == "jvp of vjp" and any(eqn.primitive.name == "while" for eqn, _ in walk(closed)):
            return Row("transformation", name, "OK", d, "the derivative itself was not compared: it iterates")
        if name == "jvp of vjp" and unit_in(closed) > FINE_UNIT:
            return Row("transformation", name, "OK", d, "the derivative itself was not compared: low precision inside")
        if name == "jvp of vjp":
            return self._second(name, found[count:], d)
        return Row("transformation", name, "OK", d)

    def _differs(self, found: Sequence[Any], wanted: Sequence[Any], unit: float) -> tuple[float, int]:
        bars = [b + 64 * n for b, n in zip(allowed(wanted, unit), self.noise, strict=True)]
        return worst(found, wanted, bars, [norm(w) if finite([w]) else 0.0 for w in wanted])

    def _settled(self, row: Row, found: Any, wanted: Any, which: Sequence[int], unit: float) -> Row:
        """The row unless it is rounding, which is measured at every point that it is about."""
        x = [self.x[0 if row.name == "vmap over cotangents" else k] for k in which]
        g = [self.g[0 if row.name == "vmap over primals" else k] for k in which]
        points = [[*a, *b] for a, b in zip(x, g, strict=True)]
        measured = at_points(self.closed, points, row.name not in SINGLE)
        return settled(row, found, wanted, allowed(wanted, unit), measured, runs=2)

    def _second(self, name: str, tangents: list[np.ndarray], d: float) -> Row:
        if not finite(tangents):
            if self._fails_without_rules(name):
                return unsupported("transformation", name, "not finite without the rule either")
            return Row("transformation", name, "WRONG", float("nan"), "the derivative of the rule is not finite")
        if unit_of(*(v.dtype for v in self.site.live)) > FINE_UNIT:
            return Row("transformation", name, "OK", d, "the derivative itself was not compared: no float64")

        def back(x: Arrays, g: Arrays) -> list[np.ndarray]:
            return host(self.back(x, g))

        x, g = self.x[0], self.g[0]
        off, k = astray(tangents, back, x, g, self.t, self.reference[0], self.noise, (self.closed, [*x, *g]))
        if k < 0:
            return Row("transformation", name, "OK", d)
        text = f"leaf `{self.site.paths[k]}`: wrong at second order, against differences of the gradient"
        return Row("transformation", name, "WRONG", off, text, order=2)

    def _sharded(self) -> Row:
        name = "sharded"
        try:
            found, x = sharded(self.site.call, self.x[0], self.g[0])
        except Refused as no:
            return unsupported("transformation", name, no.error)
        if found is None:
            return unsupported("transformation", name, x)
        inside = () if self.closed is None else (unit_in(self.closed),)  # what is computed in less than was given
        d, bad = self._differs(host(found), self.reference[0], max([unit_of(*(v.dtype for v in x)), *inside]))
        text = "" if bad < 0 else f"leaf `{self.site.paths[bad]}` differs from the gradient on one device"
        return Row("transformation", name, "OK" if bad < 0 else "WRONG", d, text)
