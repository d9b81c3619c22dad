"""Terms that were forgotten: products, and what sums over axes: the mean that layer norm takes off, the sum of
softmax's backward pass, `- x * (g * x).sum(-1, keepdims=True)`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from jaxcheck.bars import SAME_VALUE
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.projections import Projections
from jaxcheck.program.where.sites import Group, Site

FORMS = ("plus sum", "plus mean", "plus times sum", "plus times mean")
# What such a change is called as it is weighed: a sum of one value, of a product, or times another.
KINDS = ("plus sum", "plus sum of product")
# Operations through which a term comes to the sum that it is part of.
_PASS = ("mul", "div", "neg", "broadcast_in_dim", "reshape", "expand_dims", "convert_element_type")
# Numbers that a table of products, and one of sums, may take to make.
MOST, MOST_SUMMED = 50_000_000, 20_000_000


class Values(Protocol):
    """What a search brings in, see `search.Search`."""

    p: Problem
    sources: list[Group]
    projections: Projections

    def slots(self, site: Site) -> range: ...

    def olds(self, site: Site, slot: int) -> list[np.ndarray]: ...

    def given(self, group: Group, site: Site, olds: list[np.ndarray], backwards: bool) -> list[np.ndarray] | None: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Sums of values and of products of two: `sums` a row for each, of the values numbered `first` and `second`, which
    are one where it is no product, or a square."""

    first: np.ndarray
    second: np.ndarray
    squared: np.ndarray
    sums: np.ndarray


class Terms:
    """The terms `c * p * q`, `c * u * sum(p * q)` and shorter sums, of a backward pass's own values.

    Args:
        search: whose values and projections they are made of.
    """

    def __init__(self, search: Values):
        self.search = search
        self.p = search.p
        self._tables: dict[Any, Table] = {}

    def products(self, site: Site) -> Iterator[Edit]:
        """Plus a product of two values, and a product in its place."""
        required = self.search.projections.required
        for slot in self.search.slots(site) if len(site.ops) == 1 else ():
            weights, olds = self.search.projections.slot(site, slot), self.search.olds(site, slot)
            if weights is None or not olds[0].ndim:
                continue
            pairs = [
                (g, x[0])
                for g in self.search.sources
                if g.what == "own" and (x := self.search.given(g, site, olds, False)) is not None
            ]
            if not pairs or len(pairs) ** 2 * olds[0].size > MOST:
                continue
            table = np.stack([x for _, x in pairs])
            products = np.real(np.einsum("rs,is,js->ijr", weights[0], table, table, optimize=True))
            now = np.real(weights[0] @ olds[0].ravel())
            for form, wanted in (("plus product", required), ("product", required + now)):
                with np.errstate(all="ignore"):
                    c = (products @ wanted) / (products**2).sum(-1)
                    off = np.linalg.norm(c[..., None] * products - wanted, axis=-1)
                for i, j in zip(*np.nonzero(off <= SAME_VALUE * np.linalg.norm(wanted)), strict=True):
                    c = self.search.projections.solve(products[i, j], wanted) if i <= j else None
                    nice = None if c is None else self.p.constants.nice(c)
                    if nice is not None:
                        yield Edit(site, slot, form, (pairs[i][0], pairs[j][0]), factor=nice)

    def sums(self, site: Site, later: Sequence[Group]) -> Iterator[Edit]:
        """Changes of a site that the projections allow, without their constants.

        Args:
            later: values that depend on what the site gives.
        """
        for slot in self._slots(site):
            olds, weights = self.search.olds(site, slot), self.search.projections.slot(site, slot)
            if weights is None or not olds[0].ndim or len({x.ndim for x in olds}) > 1 or np.iscomplexobj(weights[0]):
                continue
            outer: list[tuple[Group | None, list[np.ndarray]]] = [(None, [np.ones(x.size) for x in olds])]
            for g in self.search.sources:
                if g.what != "own" or g in later or (x := self.search.given(g, site, olds, False)) is None:
                    continue
                if any(np.ptp(each) for each in x):  # else it is a constant's part
                    outer.append((g, x))
            for axes in _axes(olds[0].ndim):
                yield from self._over(site, slot, axes, olds, weights, outer, later)

    def _slots(self, site: Site) -> Iterator[int]:
        """What a site gives, and what it takes from other lines."""
        tape = self.p.tape
        yield OUT
        for slot, i in enumerate(tape.ops[site.ops[0]].ins):
            k = tape.makers.get(i)
            stack = tape.ops[k].stack if k is not None else ()
            if not stack or stack[0][:2] != site.place[:2]:
                yield slot

    def _over(
        self, site: Site, slot: int, axes: tuple[int, ...], olds: Any, weights: Any, outer: Any, later: Any
    ) -> Iterator[Edit]:
        """The terms that sum over `axes`. What the projections move by is bilinear in `u` and the sum."""
        shapes = [x.shape for x in olds]
        us = [each for _, each in outer]
        moved = _bilinear([w[:2] for w in weights], us, shapes, axes)
        required = self.search.projections.required
        for groups, table in self._tables_of(site, axes, shapes):
            there = np.array([self._ready(site, slot, g, later) for g in groups])
            ready = there[table.first] & there[table.second]
            if not ready.any() or len(us) * table.sums.size > MOST_SUMMED:
                continue
            first, second = moved[:, 0] @ table.sums.T, moved[:, 1] @ table.sums.T
            with np.errstate(all="ignore"):
                off, size = np.abs(first * required[1] - second * required[0]), np.hypot(first, second)
                close = (off <= SAME_VALUE * np.linalg.norm(required[:2]) * size) & (size > 0)
            for i, j in zip(*np.nonzero(close & ready), strict=True):
                term = tuple(groups[n] for n in dict.fromkeys((table.first[j], table.second[j])))
                if table.squared[j]:
                    term *= 2
                every = _bilinear(weights, us[i : i + 1], shapes, axes)[0]
                yield from self._fitting(site, slot, axes, outer[i][0], term, every @ table.sums[j], shapes)

    def _fitting(
        self, site: Site, slot: int, axes: tuple[int, ...], u: Group | None, term: Any, moved: np.ndarray, shapes: Any
    ) -> Iterator[Edit]:
        c = self.search.projections.solve(moved, self.search.projections.required)
        if c is None:
            return
        count = float(np.prod([self._shape(term[0], 0)[a] for a in axes]))
        groups, form = (term, "plus ") if u is None else ((u, *term), "plus times ")
        nice = {f: self.p.constants.nice(x) for f, x in (("sum", c), ("mean", c * count))}
        plain = {f: self.p.constants.plainness(x) for f, x in nice.items() if x is not None}
        if plain:
            best = min(plain, key=lambda f: plain[f])
            yield Edit(site, slot, form + best, groups, factor=nice[best] or 0.0, axes=axes)

    def _ready(self, site: Site, slot: int, group: Group, later: Any) -> bool:
        """Whether a value is there when a site is run, and does not depend on it; its own result is, as it was."""
        if any(group is g for g in later):
            return False
        return all(m < k + (slot == OUT) for m, k in zip(group.made, site.ops, strict=True))

    def _shape(self, group: Group, n: int) -> tuple[int, ...]:
        return self.p.runs[0][group.ids[n]].shape

    @functools.cached_property
    def _alike(self) -> dict[tuple[tuple[int, ...], ...], list[Group]]:
        """The backward pass's own values by the shapes of their instances."""
        found: dict[Any, list[Group]] = {}
        for g in self.search.sources:
            if g.what == "own" and self.p.runs[0][g.ids[0]].dtype.kind == "f":
                found.setdefault(tuple(self._shape(g, n) for n in range(len(g.ids))), []).append(g)
        return found

    def _tables_of(self, site: Site, axes: tuple[int, ...], shapes: Any) -> Iterator[tuple[list[Group], Table]]:
        """Values of every shape whose sum goes with the instances' shapes, and their table."""
        for each, groups in self._alike.items():
            if len(each) != len(site.ops):
                continue
            if all(_without(s, axes) == _without(t, axes) for s, t in zip(each, shapes, strict=True)):
                key = (each, axes)
                if key not in self._tables:
                    self._tables[key] = self._table(groups, axes)
                yield groups, self._tables[key]

    def _table(self, groups: list[Group], axes: tuple[int, ...]) -> Table:
        values, rows, terms = self.p.runs[0], [], []
        most = MOST_SUMMED / max(sum(values[i].size for i in groups[0].ids), 1)
        count = len(groups)
        pairs = [(a, b) for a in range(count) for b in range(a, count)] if count**2 <= most else []
        for term in [*((a,) for a in range(count)), *pairs]:
            each = [
                np.prod([values[i] for i in ids], axis=0) for ids in zip(*(groups[n].ids for n in term), strict=True)
            ]
            row = np.concatenate([x.sum(axis=axes).ravel() for x in each])
            if np.isfinite(row).all():
                rows.append(row)
                terms.append(term)
        return Table(
            np.array([t[0] for t in terms], int),
            np.array([t[-1] for t in terms], int),
            np.array([len(t) > 1 and t[0] == t[1] for t in terms], bool),
            np.stack(rows) if rows else np.zeros((0, 0)),
        )


def _bilinear(weights: Any, us: Any, shapes: Any, axes: tuple[int, ...]) -> np.ndarray:
    """(of u, projections, numbers of a sum) how the projections move with each number of a sum that `u` is times."""
    parts = []
    for n, (w, shape) in enumerate(zip(weights, shapes, strict=True)):
        u = np.stack([each[n] for each in us]).reshape(-1, *shape)
        inner = list(range(2, 2 + len(shape)))
        kept = [a + 2 for a in range(len(shape)) if a not in axes]
        found = np.einsum(u, [0, *inner], w.reshape(-1, *shape), [1, *inner], [0, 1, *kept])
        parts.append(found.reshape(*found.shape[:2], -1))
    return np.concatenate(parts, axis=2)


def stands_beside(problem: Problem, edit: Edit) -> bool:
    """Whether a change adds to a sum of which another term sums over the same axes."""
    tape, line = problem.tape, edit.site.place[:2]
    op = tape.ops[edit.site.ops[0]]
    queue = list(op.ins) if op.name in ("add", "sub", "add_any") else []
    while queue:
        k = tape.makers.get(queue.pop())
        term = None if k is None else tape.ops[k]
        if term is None or not term.stack or term.stack[0][:2] != line:
            continue
        if term.name == "reduce_sum" and tuple(term.eqn.params["axes"]) == edit.axes:
            return True
        queue += term.ins if term.name in _PASS else ()
    return False


def of_operand(problem: Problem, edit: Edit) -> bool:
    """Whether a change brings in the sum of an operand that another line makes for this one alone."""
    tape = problem.tape
    ids = {g.ids[0] for g in edit.groups}
    i = next(iter(ids))
    k = tape.makers.get(i)
    if len(ids) > 1 or k is None or i not in tape.ops[edit.site.ops[0]].ins or not tape.ops[k].stack:
        return False
    return len(problem.users.get(i, ())) == 1 and tape.ops[k].stack[0][:2] != edit.site.place[:2]


def _axes(ndim: int) -> list[tuple[int, ...]]:
    """Axes that a backward pass sums over: one, all, all but the last."""
    return list(dict.fromkeys([*((a,) for a in range(ndim)), tuple(range(ndim)), tuple(range(ndim - 1)) or (0,)]))


def _without(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...] | None:
    return tuple(n for a, n in enumerate(shape) if a not in axes) if max(axes) < len(shape) else None
