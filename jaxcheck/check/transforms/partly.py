"""A rule in a batch of some of its arguments, the others the same for every row, and in a batch of batches.

JAX's own batching rules are trusted with that, for each of these is a program to compile. A batching rule of somebody
else's is called with what is batched and what is not, and may be wrong for one of the ways alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.check.laws.rounding import allowed, at_points, settled
from jaxcheck.check.laws.run import Once, Pulled
from jaxcheck.check.laws.site import Arrays, Site, finite, host, norm, pull, unit_in, unsupported, worst
from jaxcheck.check.transforms.programs import stacked
from jaxcheck.program.ask import Refused
from jaxcheck.result import Row

SOME, NESTED = "vmap over some arguments", "vmap of vmap"
# Up to so many arguments each is batched alone.
FEW = 3
# Rows of the outer one of two batches: not as many as of the inner one, so that axes that are exchanged show.
OUTER = 2

Part = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Eagerly:
    """What the rows of batches are compared with: the rule at points and cotangents, and how far its gradient
    scatters. `forward` and `back` are the programs of its results and its gradient, None where they are not known."""

    site: Site
    x: Sequence[Arrays]
    g: Sequence[Arrays]
    rule: Pulled
    noise: Sequence[float]
    back: Any
    forward: Any = None


@dataclasses.dataclass(frozen=True)
class Way:
    """Which leaves are batched: by each of the batches, the outermost first; `said` in words."""

    levels: tuple[Part, ...]
    said: str

    def sizes(self, rows: int) -> tuple[int, ...]:
        return (OUTER, rows)[-len(self.levels) :]

    def of_leaf(self, leaf: int, index: Sequence[int], rows: int) -> int:
        """The point that a leaf comes from in a row, which is that of each batch."""
        return sum(i for i, level in zip(index, self.levels, strict=True) if leaf in level) % rows

    def mapped(self, call: Callable, leaves: int, cotangents: bool) -> Callable:
        """`call(x, g)` in these batches; g is in all of them, or in none."""
        for level in reversed(self.levels):
            axes = [0 if k in level else None for k in range(leaves)]
            call = jax.vmap(call, in_axes=(axes, 0 if cotangents else None))
        return call


def partly(one: Eagerly) -> list[Row]:
    """The row of batches of some arguments, where there are several, and that of batches of batches."""
    groups = _arguments(one.site.paths)
    everything = tuple(range(len(one.site.live)))
    nested = [Way((everything, everything), "in a batch of batches")]
    if len(groups) > 1:
        first, part = next(iter(groups.items()))
        rest = tuple(k for k in everything if k not in part)
        nested.append(Way((part, rest), f"in a batch over `{first}` of batches over the others"))
    found = [(NESTED, nested)] if len(groups) == 1 else [(SOME, _some(groups, everything)), (NESTED, nested)]
    return [_worst([_row(name, one, way) for way in ways]) for name, ways in found]


def _arguments(paths: Sequence[str]) -> dict[str, Part]:
    """The leaves of each argument, or each leaf of the only one: `in_axes` says of both what is batched."""
    heads = [path.split("]")[0] + "]" for path in paths]
    names = heads if len(set(heads)) > 1 else paths
    return {name: tuple(k for k, n in enumerate(names) if n == name) for name in dict.fromkeys(names)}


def _some(groups: dict[str, Part], everything: Part) -> list[Way]:
    """Each of a few alone; of many the first and the last, for what is the same in every row, mostly parameters, comes
    first or last; and all but the first. Every way is a program to compile."""
    names = list(groups)
    alone = names if len(names) <= FEW else [names[0], names[-1]]
    ways = [Way((groups[n],), f"with `{n}` alone in a batch") for n in alone]
    if len(names) > 2:
        rest = tuple(k for k in everything if k not in groups[names[0]])
        ways.append(Way((rest,), f"with all but `{names[0]}` in a batch"))
    return ways


def _worst(rows: list[Row]) -> Row:
    """One row for all: the first that is wrong, and OK where each that could be run is."""
    wrong = [r for r in rows if r.status == "WRONG"]
    fine = [r for r in rows if r.status == "OK"]
    return wrong[0] if wrong else max(fine, key=lambda r: r.difference, default=rows[0])


def _row(name: str, one: Eagerly, way: Way) -> Row:
    try:
        return _compared(name, one, way)
    except Refused as no:
        return unsupported("transformation", name, no.error)


def _compared(name: str, one: Eagerly, way: Way) -> Row:
    """The results, the gradients for a cotangent in each row, as in a loss, and in one batch those for the same one in
    all, as in a Jacobian, beside those of the rule alone."""
    rows, leaves = len(one.x), len(one.site.live)
    where = list(itertools.product(*map(range, way.sizes(rows))))
    x = [[one.x[way.of_leaf(k, at, rows)][k] for k in range(leaves)] for at in where]
    own, same = [one.g[sum(at) % rows] for at in where], [one.g[0]] * len(where)
    asked = [None, own] if len(way.levels) > 1 else [None, own, same]
    wanted = [[host(one.rule.values(v)) for v in x], *(_gradients(one, x, g) for g in asked[1:])]
    known = [all(map(finite, those)) for those in wanted]
    if not all(known) and any(v is not one.x[0] for v in one.x):  # the points between the others lie outside the domain
        return _compared(name, dataclasses.replace(one, x=[one.x[0]] * rows), way)

    def values(x: Arrays, _: Any) -> Arrays:
        return one.site.call(*x)

    def run(x: Arrays, one_g: Arrays, g: Arrays) -> Arrays:
        back = pull(one.site.call)
        out = [*way.mapped(values, leaves, False)(x, one_g), *way.mapped(back, leaves, True)(x, g)]
        return [*out, *way.mapped(back, leaves, False)(x, one_g)] if len(asked) > 2 else out

    batched = [_laid(x, k, way, rows) for k in range(leaves)]
    found = host(Once(run)(batched, one.g[0], [_whole(column, way, rows) for column in zip(*own, strict=True)]))
    rest = iter([v.reshape(-1, *v.shape[len(way.levels) :]) for v in found])
    told = []
    for k, g in enumerate(asked):
        mine = list(itertools.islice(rest, leaves if k else len(one.g[0])))
        if known[k]:
            told.append(_judged(name, one, way, mine, wanted[k], x, g, " and the cotangent" * (g is own)))
    return _worst(told) if told else unsupported("transformation", name, "neither results nor gradients are finite")


def _gradients(one: Eagerly, x: Sequence[Arrays], g: Sequence[Arrays]) -> list[list[np.ndarray]]:
    return [host(one.rule.back(a, b)) for a, b in zip(x, g, strict=True)]


def _laid(x: Sequence[Arrays], leaf: int, way: Way, rows: int) -> Any:
    """What a leaf is in the rows of the batches that it takes part in."""
    takes = [n for n, level in zip(way.sizes(rows), way.levels, strict=True) if leaf in level]
    if not takes:
        return x[0][leaf]
    at = np.arange(len(x)).reshape(way.sizes(rows))
    # One row of each batch that it takes no part in stands for all of them.
    at = at[tuple(slice(None) if leaf in level else 0 for level in way.levels)]
    return _in_batches([x[i][leaf] for i in at.ravel().tolist()], tuple(takes))


def _whole(values: Sequence[Any], way: Way, rows: int) -> Any:
    return _in_batches(values, way.sizes(rows))


def _in_batches(values: Sequence[Any], sizes: tuple[int, ...]) -> Any:
    if len(sizes) == 1:
        return stacked(values)
    length = sizes[-1]
    return stacked([stacked(values[i : i + length]) for i in range(0, len(values), length)])


def _judged(
    name: str,
    one: Eagerly,
    way: Way,
    found: list[np.ndarray],
    eager: Sequence[Sequence[np.ndarray]],
    x: Sequence[Arrays],
    g: Sequence[Arrays] | None,
    more: str,
) -> Row:
    """The row of the results, where there is no `g`, or of the gradients."""
    closed = one.forward if g is None else one.back
    unit = unit_in(closed)
    wanted = [np.stack(column) for column in zip(*eager, strict=True)]
    bars = allowed(wanted, unit)
    if g is not None:
        bars = [b + 64 * n for b, n in zip(bars, one.noise, strict=True)]
    d, bad = worst(found, wanted, bars, [norm(w) for w in wanted])
    if bad < 0:
        return Row("transformation", name, "OK", d)
    words = f"leaf `{one.site.paths[bad]}` differs from the eager gradient"
    if g is None:
        words = f"result {bad} differs" if len(wanted) > 1 else "the results differ"
        words += " from the eager one" + "s" * (len(wanted) == 1)
    row = Row("transformation", name, "WRONG", d, f"{words} {way.said}{more}")
    points = x if g is None else [[*a, *b] for a, b in zip(x, g, strict=True)]
    return settled(row, found, wanted, allowed(wanted, unit), at_points(closed, points, True), runs=2)
