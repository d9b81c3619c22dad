"""The witnesses at many points in one program, and which points clearly agree."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcheck import budget
from jaxcheck.bars import GROSS
from jaxcheck.evidence import blocks, rows, sketch
from jaxcheck.evidence.differences import Ladder, Slopes, slopes
from jaxcheck.options import Tolerance
from jaxcheck.problem.at_theta import gradient_of, outputs_of
from jaxcheck.problem.problem import Problem
from jaxcheck.program.objective import Traced
from jaxcheck.program.run import kept, spread
from jaxcheck.program.run.compile import execute
from jaxcheck.theta import Leaf

# Fewer, coarser rungs than a single check: enough for a bar near 1e-9, half the evaluations.
RUNGS = Ladder(first=0.02, ratio=8.0, count=6)
# Bars beyond which a coarse difference contradicts a gradient that nobody looks at again: four times what contradicts
# any (`bars.BARS`), so that a claim within those of it is much nearer to it.
SURE = 20.0
# And by how much of the leaf it must be off from autodiff. A choice: far above the rounding of float32 data.
APART = 1e-5
# Worse, where points are put in order, than any difference that is a number: those of formula (2) end at 1.
NOT_FINITE = 10.0


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Per point and leaf, relative: `difference` to N, its `bar`, `difference_a` to A (NaN without A),
    `zero` where M is exactly zero and `rest` where N is zero within its bars (relative, there, to what the
    other leaves do); `mixed` where the components have several units; `whole` is
    formula (2) over theta against A, or N without it. On a `kink` the difference is that to the range of N's one-sided
    slopes; at a `jump` there is none to speak of. `between` is how far A is from N, as `difference` is for M;
    `apart` is the norm of what M and A differ by, and `both` the sum of theirs, absolute (NaN without A)."""

    difference: np.ndarray
    bar: np.ndarray
    difference_a: np.ndarray
    between: np.ndarray
    apart: np.ndarray
    both: np.ndarray
    kink: np.ndarray
    jump: np.ndarray
    finite: np.ndarray
    zero: np.ndarray
    rest: np.ndarray
    mixed: np.ndarray
    whole: np.ndarray
    evaluations: int
    compiled: int

    def badness(self) -> np.ndarray:
        worst = np.fmax(np.nan_to_num(self.difference_a, nan=0.0), np.nan_to_num(self.difference, nan=1.0))
        return worst.max(axis=1, initial=0.0) + np.where(self.finite, 0.0, NOT_FINITE)


_OF_AUTODIFF = ("difference_a", "between", "apart", "both")
_BY_POINT = tuple(f.name for f in dataclasses.fields(Table) if f.name not in ("evaluations", "compiled"))


def first(table: Table, count: int) -> Table:
    """The table of the first points."""
    return dataclasses.replace(table, **{name: getattr(table, name)[:count] for name in _BY_POINT})


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """What is done at n points (n, P): along D `signs` (D, P), each `owner`'s of the leaves, times each point's own
    `scales` (n, P); `mixed` (n, L) says which leaf has several units there."""

    leaves: list[Leaf]
    owner: np.ndarray
    signs: np.ndarray
    points: np.ndarray
    scales: np.ndarray
    mixed: np.ndarray

    @property
    def rows(self) -> int:
        """Values of the function at one point."""
        return len(self.signs) * len(RUNGS.offsets)


def _planned(leaves: list[Leaf], points: np.ndarray, seed: int, directions: int) -> _Plan:
    signs = np.zeros((directions * len(leaves), points.shape[1]))
    owner = np.repeat(np.arange(len(leaves)), directions)
    for k, leaf in enumerate(leaves):
        signs[owner == k, leaf.start : leaf.stop] = sketch.directions(
            leaf, np.zeros(leaf.stop - leaf.start), directions, seed
        )
    # Each point has its own scales, and in a leaf of mixed units each unit has its own.
    scales, mixed = zip(*(sketch.own_scales(points[:, leaf.start : leaf.stop]) for leaf in leaves), strict=True)
    return _Plan(leaves, owner, signs, points, np.concatenate(scales, axis=1), np.stack(mixed, axis=1))


def measure(problem: Problem, points: np.ndarray, seed: int, directions: int, apart: str = "") -> Table:
    """Run the ladder along every leaf, M and A, at every point (n, P); at as many of the first ones as time allows.

    Args:
        apart: a name for other points than the caller's, under which what is measured there is kept.

    Raises:
        Stopped: before there was any.
    """
    plan = _planned([leaf for leaf in problem.theta.leaves if leaf.size], points, seed, directions)
    # A program whose rows vmap badly runs one point, and one row, after the other.
    group = 1 if problem.loss.program.sequential else rows.chunk_rows(plan.rows * problem.cost, len(points))
    with jax.enable_x64(True):
        found, compiled = blocks.within_memory(group, lambda group: _in_groups(problem, plan, group, apart))
    return Table(**dict(zip(_BY_POINT, found, strict=True)), evaluations=len(found[0]) * plan.rows, compiled=compiled)


def _program(problem: Problem, traced: list[Traced], inner: int) -> Callable:
    """What is run at points: (values of the outputs' first, gradients)."""

    def build(programs, points, scales, extras, signs, offsets, group):
        primal, *rest = programs

        def at(where):
            point, scale = where
            v = signs * scale
            samples = rows.sample(lambda x: outputs_of(problem, primal, x, extras), point, v, offsets, inner)
            grads = [gradient_of(problem, t, p, point, extras)[0] for t, p in zip(traced, rest, strict=True)]
            return samples[..., 0], grads

        where = (points, scales)
        return jax.lax.map(at, where, batch_size=group) if group > 1 else jax.lax.map(at, where)

    return build


def _in_groups(problem: Problem, plan: _Plan, group: int, apart: str) -> tuple[list[np.ndarray], int]:
    """(the columns of a `Table`, programs compiled), from calls of about a second each, all of one length: between
    them the clock is looked at."""
    traced = [t for t in (problem.manual, problem.autodiff) if t is not None]
    programs = [problem.loss.program, *(t.program for t in traced)]
    n, effort = len(plan.points), plan.rows * problem.loss.program.effort + 3 * sum(p.effort for p in programs[1:])
    shares = spread.shares(programs, effort * n, problem.extras, plan.signs)
    room, share = max(1, int(blocks.ONE_CALL / max(effort, 1.0))), -(-n // shares.width)
    group = min(group, share)
    each = shares.lanes * (share if share <= room else min(share, -(-room // group) * group))
    inner = rows.chunk_of(problem.loss.program, plan.rows)
    build, compiled, clock = functools.partial(_program(problem, traced, inner), group=group), 0, budget.current()
    name = ("batch", each, group, inner, tuple(problem.theta.leaves))
    spent: dict[str, Any] = dict(work=plan.rows * problem.cost * each, part=each / n)

    def measured(start: int) -> list[np.ndarray]:
        nonlocal compiled
        # Points past the end repeat the last one; they are cut off below.
        at = np.minimum(np.arange(start, start + each), n - 1)
        given = (plan.points[at], plan.scales[at], tuple(problem.extras), plan.signs, RUNGS.offsets)
        out, new = execute(name, build, programs, *given, over=shares.mesh, split=(0, 1), **spent)
        compiled += new
        return _columns(plan, start, problem.unit, *out)

    def work() -> list[list[np.ndarray]]:
        parts, shelf = [], kept.shelf((*name, apart), programs, (kept.problem(), plan.signs, RUNGS.offsets))
        with budget.cut_short():
            for start in shares.starts(n, each):
                clock.tell("points", start, n)
                parts.append(kept.once(shelf, start, functools.partial(measured, start)))
        return parts

    parts = shares.joined(f"{n} points, {each} at a time", work)
    if not parts:
        raise budget.Stopped(clock.stopped)
    return [np.concatenate(x) for x in zip(*parts, strict=True)], compiled


def _columns(plan: _Plan, start: int, unit: float, samples, grads) -> list[np.ndarray]:
    """The columns of a `Table`, in its order, of some points from `start` on."""
    here = slice(start, min(len(plan.points), start + len(samples)))
    count = here.stop - start
    found = slopes(np.moveaxis(np.asarray(samples)[:count], 1, 0), RUNGS, unit)  # (count, D)
    m, *others = (np.asarray(g)[:count] for g in grads)
    a, v = others[0] if others else None, plan.signs * plan.scales[here, None]
    with np.errstate(all="ignore"):
        each = []
        for k, leaf in enumerate(plan.leaves):
            where, mine = slice(leaf.start, leaf.stop), plan.owner == k
            each.append(_of_leaf(v[:, mine, where], found[:, mine], m[:, where], None if a is None else a[:, where]))
        columns = {name: np.stack([one[name] for one in each], axis=1) for name in each[0]}
        # A leaf without a gradient has no size of its own; it is held against what the others do.
        still = columns["zero"] & columns["rest"]
        influence = columns["moves"].max(axis=1, keepdims=True, initial=0.0)
        for name, absolute in (("difference", "moves"), ("bar", "faint")):
            relative = np.where(influence > 0, columns[absolute] / influence, np.inf)
            columns[name] = np.where(still, relative, columns[name])
        whole = np.nanmax(columns["difference"], axis=1) if a is None else _apart(m, a)
    columns |= {
        "finite": np.isfinite(m).all(axis=1) & np.isfinite(found.value).all(axis=1),
        "mixed": plan.mixed[here],
        "whole": whole,
    }
    return [np.asarray(columns[name]) for name in _BY_POINT]


def _of_leaf(v: np.ndarray, found: Slopes, m: np.ndarray, a: np.ndarray | None) -> dict[str, Any]:
    """What is known of one leaf at n points, from its directions (n, D, p), slopes (n, D) and gradients (n, p); in
    units of the output, besides, `moves`: how far it goes, and `faint`: the bar of that."""
    size = np.sqrt(np.einsum("ndp,np->nd", v**2, m**2)) + np.abs(found.value)
    claim = np.einsum("ndp,np->nd", v, m)
    off = np.abs(claim - found.value)
    low, high = np.minimum(found.left, found.right), np.maximum(found.left, found.right)
    off = np.where(found.kink, np.maximum(0.0, np.maximum(low - claim, claim - high)), off)
    unknown = np.full(len(m), np.nan)
    return {
        "difference": _most(off, size),
        "bar": _most(found.error, size),
        "kink": found.kink.any(axis=1),
        "jump": found.jump.any(axis=1),
        "zero": np.linalg.norm(m, axis=1) == 0,
        "rest": (np.abs(found.value) <= 5 * found.error).all(axis=1),
        "moves": size.max(axis=1),
        "faint": found.error.max(axis=1),
        **(dict.fromkeys(_OF_AUTODIFF, unknown) if a is None else _beside_autodiff(v, m, a)),
        **({} if a is None else {"between": _most(np.abs(np.einsum("ndp,np->nd", v, a) - found.value), size)}),
    }


def _most(off: np.ndarray, size: np.ndarray) -> np.ndarray:
    return np.max(np.where(size > 0, off / size, 0.0), axis=1)


def _beside_autodiff(v: np.ndarray, m: np.ndarray, a: np.ndarray) -> dict[str, np.ndarray]:
    both = np.linalg.norm(m, axis=1) + np.linalg.norm(a, axis=1)
    # And by what each component does to the output.
    parts = [np.sqrt(np.einsum("ndp,np->nd", v**2, x**2)) for x in (m - a, m, a)]
    weighed = np.where(parts[1] + parts[2] > 0, parts[0] / (parts[1] + parts[2]), 0.0).max(axis=1)
    return {
        "difference_a": np.maximum(_apart(m, a), weighed),
        "apart": np.linalg.norm(m - a, axis=1),
        "both": both,
    }


def _apart(m: np.ndarray, a: np.ndarray) -> np.ndarray:
    """(n,) formula (2)."""
    both = np.linalg.norm(m, axis=1) + np.linalg.norm(a, axis=1)
    return np.where(both > 0, np.linalg.norm(m - a, axis=1) / both, 0.0)


def clear(
    table: Table, tolerance: Tolerance, must_catch: float, sharp: bool, adjacent: np.ndarray | None = None
) -> np.ndarray:
    """(n,) points at which every leaf plainly passes; the others deserve a check of their own.

    Args:
        adjacent: (n,) where the gradient is that of a smooth piece next to the point.
    """
    rtol, atol = tolerance.bound, tolerance.atol
    with np.errstate(all="ignore"):
        near = table.difference <= 5 * table.bar + rtol
        seen = (5 * table.bar + rtol <= must_catch) & ~table.kink & ~table.jump & ~table.zero
        good = near & seen
        if not np.isfinite(table.difference_a).any():
            good &= ~table.mixed  # one direction does not see every unit
        else:
            # On a kink, M = A is a subgradient by JAX's own convention. What else the leaf holds is seen beside it
            # (`batched_beside`).
            good = (good | (table.kink & ~table.jump)) & (table.difference_a <= tolerance.between_programs(sharp))
            if adjacent is not None:
                good |= table.kink & ~table.jump & adjacent[:, None]
        # A dead leaf beside live ones: no gradient, and no difference either.
        still = table.zero & table.rest & ~(table.difference_a > 0)
        good |= still & (5 * table.bar + rtol <= must_catch) & (atol == 0)
        return good.all(axis=1) & table.finite & ~table.zero.all(axis=1)


def fails(table: Table, rtol: float, atol: float) -> np.ndarray:
    """(n,) points where M is contradicted by N beyond doubt: off by 20 bars and 1e-4 of the leaf, no kink; and by more
    than the caller grants."""
    with np.errstate(all="ignore"):
        gross = (table.difference > SURE * table.bar + max(GROSS, rtol)) & ~table.kink & ~table.jump
        if np.isfinite(table.difference_a).any():
            gross &= (table.difference_a > max(APART, rtol)) & (table.apart > rtol * table.both + atol)
        else:
            gross &= atol == 0  # of the whole leaf, which random directions do not see
        return gross.any(axis=1) & table.finite
