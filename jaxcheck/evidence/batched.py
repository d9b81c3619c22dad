"""The witnesses at many points in one program, and which points clearly agree."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck import budget
from jaxcheck.evidence import blocks, rows, sketch
from jaxcheck.evidence.differences import Ladder, slopes
from jaxcheck.evidence.problem import Problem
from jaxcheck.evidence.witnesses import gradient_of, outputs_of
from jaxcheck.options import Tolerance
from jaxcheck.program import kept, spread
from jaxcheck.program.compile import execute

# Fewer, coarser rungs than a single check: enough for a bar near 1e-9, half the evaluations.
RUNGS = Ladder(first=0.02, ratio=8.0, count=6)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Per point and leaf, relative: `difference` to N, its `bar`, `difference_a` to A (NaN without A),
    `zero` where M is exactly zero and `rest` where N is zero within its bars (relative, there, to what the
    other leaves do); `mixed` where the components have several units; `whole` is
    formula (2) over theta against A, or N without it."""

    difference: np.ndarray
    bar: np.ndarray
    difference_a: np.ndarray
    round_off: np.ndarray
    kink: np.ndarray
    finite: np.ndarray
    zero: np.ndarray
    rest: np.ndarray
    mixed: np.ndarray
    whole: np.ndarray
    evaluations: int
    compiled: int

    def badness(self) -> np.ndarray:
        worst = np.fmax(np.nan_to_num(self.difference_a, nan=0.0), np.nan_to_num(self.difference, nan=1.0))
        return worst.max(axis=1, initial=0.0) + np.where(self.finite, 0.0, 10.0)


_BY_POINT = tuple(f.name for f in dataclasses.fields(Table) if f.name not in ("evaluations", "compiled"))


def first(table: Table, count: int) -> Table:
    """The table of the first points."""
    return dataclasses.replace(table, **{name: getattr(table, name)[:count] for name in _BY_POINT})


def measure(problem: Problem, points: np.ndarray, seed: int, directions: int) -> Table:
    """Run the ladder along every leaf, M and A, at every point (n, P); at as many of the first ones as time allows.

    Raises:
        Stopped: before there was any.
    """
    theta = problem.theta
    leaves = [leaf for leaf in theta.leaves if leaf.size]
    n, size = points.shape
    signs = np.zeros((directions * len(leaves), size))
    owner = np.repeat(np.arange(len(leaves)), directions)
    for k, leaf in enumerate(leaves):
        signs[owner == k, leaf.start : leaf.stop] = sketch.directions(
            leaf, np.zeros(leaf.stop - leaf.start), directions, seed)
    # Each point has its own scales, and in a leaf of mixed units each unit has its own.
    scales = np.concatenate([np.stack([sketch.own_scale(x, 1.0) for x in points[:, leaf.start : leaf.stop]])
                             for leaf in leaves], axis=1)
    mixed = np.stack([[len(np.unique(sketch.units(x))) > 1 for x in points[:, leaf.start : leaf.stop]]
                      for leaf in leaves], axis=1)
    offsets = RUNGS.offsets
    per_point = len(signs) * len(offsets) * problem.cost
    # A program whose rows vmap badly runs one point, and one row, after the other.
    group = 1 if problem.loss.program.sequential else rows.chunk_rows(per_point, n)
    inner = rows.chunk_of(problem.loss.program, len(signs) * len(offsets))
    traced = [t for t in (problem.manual, problem.autodiff) if t is not None]

    def build(programs, points, scales, extras, signs, offsets, group):
        primal, *rest = programs

        def at(where):
            point, scale = where
            v = signs * scale
            samples = rows.sample(lambda x: outputs_of(problem, primal, x, extras), point, v, offsets, inner)
            grads = [gradient_of(problem, t, p, point, extras)[0] for t, p in zip(traced, rest, strict=True)]
            moved = point * (1 + 8.9e-16 * jnp.sign(signs.sum(axis=0) + 0.1))
            shifted = gradient_of(problem, traced[0], rest[0], moved, extras)[0]
            return samples[..., 0], grads, jnp.abs(shifted - grads[0])

        where = (points, scales)
        return jax.lax.map(at, where, batch_size=group) if group > 1 else jax.lax.map(at, where)

    programs = [problem.loss.program, *(t.program for t in traced)]
    effort = len(signs) * len(offsets) * problem.loss.program.effort + 3 * sum(p.effort for p in programs[1:])
    shares = spread.shares(programs, effort * n, problem.extras, signs)

    def run(group: int):
        # Calls of about a second each, all of one length: between them the clock is looked at.
        room, share = max(1, int(blocks.ONE_CALL / max(effort, 1.0))), -(-n // shares.width)
        group = min(group, share)
        each = shares.lanes * (share if share <= room else min(share, -(-room // group) * group))
        compiled, clock = 0, budget.current()

        def work() -> list:
            nonlocal compiled
            parts, name = [], ("batch", each, group, inner, tuple(theta.leaves))
            shelf = kept.shelf(name, programs, (kept.problem(), signs, offsets))
            try:
                for start in range(shares.process * each, n, shares.processes * each):
                    clock.tell("points", start, n)
                    earlier = shelf.take(start) if shelf is not None else None
                    if earlier is not None:
                        clock.ask()
                        parts.append(earlier.value)
                        continue
                    # Points past the end repeat the last one; they are cut off below.
                    at = np.minimum(np.arange(start, start + each), n - 1)
                    before = clock.run_seconds
                    out, new = execute(
                        name, functools.partial(build, group=group), programs, points[at], scales[at],
                        tuple(problem.extras), signs, offsets, work=per_point * each, part=each / n,
                        over=shares.mesh, split=(0, 1))
                    compiled += new
                    parts.append(rows_of(start, *out))
                    if shelf is not None:
                        shelf.put(parts[-1], clock.run_seconds - before)
            except (budget.Stopped, KeyboardInterrupt) as why:
                if isinstance(why, KeyboardInterrupt):
                    clock.pressed()
            return parts

        parts = shares.joined(f"{n} points, {each} at a time", work)
        if not parts:
            raise budget.Stopped(clock.stopped)
        return [np.concatenate(x) for x in zip(*parts, strict=True)], compiled

    def rows_of(start: int, samples, grads, scatter) -> list[np.ndarray]:
        here = slice(start, min(n, start + len(samples)))
        count = here.stop - start
        found = slopes(np.moveaxis(np.asarray(samples)[:count], 1, 0), RUNGS, problem.unit)  # (count, D)
        m, *a = (np.asarray(g)[:count] for g in grads)
        return _columns(leaves, owner, found, signs * scales[here, None], m, a[0] if a else None,
                        np.asarray(scatter)[:count], mixed[here])

    with jax.enable_x64(True):
        found, compiled = blocks.within_memory(group, run)
    return Table(**dict(zip(_BY_POINT, found, strict=True)), evaluations=len(found[0]) * len(signs) * len(offsets),
                 compiled=compiled)


def _columns(leaves, owner, found, v, m, a, scatter, mixed) -> list[np.ndarray]:
    """The columns of a `Table`, in its order, of n points."""
    n = len(m)
    shape = (n, len(leaves))
    columns = {name: np.full(shape, np.nan) for name in ("difference", "bar", "difference_a", "round_off")}
    kink, zero, rest = (np.zeros(shape, bool) for _ in range(3))
    moves, faint = np.zeros(shape), np.zeros(shape)
    with np.errstate(all="ignore"):
        for k, leaf in enumerate(leaves):
            where, mine = slice(leaf.start, leaf.stop), owner == k
            g, d = m[:, where], v[:, mine, where]
            projected = np.einsum("ndp,np->nd", d, g)
            norm = np.sqrt(np.einsum("ndp,np->nd", d**2, g**2))
            size = norm + np.abs(found.value[:, mine])
            off = np.abs(projected - found.value[:, mine])
            moves[:, k] = size.max(axis=1)
            faint[:, k] = found.error[:, mine].max(axis=1)
            columns["difference"][:, k] = np.max(np.where(size > 0, off / size, 0.0), axis=1)
            columns["bar"][:, k] = np.max(np.where(size > 0, found.error[:, mine] / size, 0.0), axis=1)
            kink[:, k] = (found.kink[:, mine] | found.jump[:, mine]).any(axis=1)
            length = np.linalg.norm(g, axis=1)
            zero[:, k] = length == 0
            rest[:, k] = (np.abs(found.value[:, mine]) <= 5 * found.error[:, mine]).all(axis=1)
            if a is not None:
                both = length + np.linalg.norm(a[:, where], axis=1)
                plain = np.where(both > 0, np.linalg.norm(g - a[:, where], axis=1) / both, 0.0)
                # And by what each component does to the output.
                parts = [np.sqrt(np.einsum("ndp,np->nd", d**2, x**2)) for x in (g - a[:, where], g, a[:, where])]
                weighed = np.where(parts[1] + parts[2] > 0, parts[0] / (parts[1] + parts[2]), 0.0).max(axis=1)
                columns["difference_a"][:, k] = np.maximum(plain, weighed)
                columns["round_off"][:, k] = np.where(both > 0, np.linalg.norm(scatter[:, where], axis=1) / both, 0.0)
        # A leaf without a gradient has no size of its own; it is held against what the others do.
        still, influence = zero & rest, moves.max(axis=1, keepdims=True, initial=0.0)
        for name, absolute in (("difference", moves), ("bar", faint)):
            relative = np.where(influence > 0, absolute / influence, np.inf)
            columns[name] = np.where(still, relative, columns[name])
        reference = a if a is not None else None
        if reference is None:
            whole = np.nanmax(columns["difference"], axis=1)
        else:
            both = np.linalg.norm(m, axis=1) + np.linalg.norm(reference, axis=1)
            whole = np.where(both > 0, np.linalg.norm(m - reference, axis=1) / both, 0.0)
    finite = np.isfinite(m).all(axis=1) & np.isfinite(found.value).all(axis=1)
    return [columns["difference"], columns["bar"], columns["difference_a"], columns["round_off"], kink, finite, zero,
            rest, mixed, whole]


def clear(table: Table, tolerance: Tolerance, must_catch: float, sharp: bool,
          adjacent: np.ndarray | None = None) -> np.ndarray:
    """(n,) points at which every leaf plainly passes; the others deserve a check of their own.

    Args:
        adjacent: (n,) where the gradient is that of a smooth piece next to the point.
    """
    rtol, atol = tolerance.bound, tolerance.atol
    with np.errstate(all="ignore"):
        near = table.difference <= 5 * table.bar + rtol
        seen = (5 * table.bar + rtol <= must_catch) & ~table.kink & ~table.zero
        good = near & seen
        if not np.isfinite(table.difference_a).any():
            good &= ~table.mixed  # one direction does not see every unit
        else:
            # On a kink, M = A is a subgradient by JAX's own convention; a point of its own would say no more.
            good = (good | table.kink) & (
                table.difference_a <= tolerance.between_programs(sharp))
            if adjacent is not None:
                good |= table.kink & adjacent[:, None]
        # A dead leaf beside live ones: no gradient, and no difference either.
        still = table.zero & table.rest & ~(table.difference_a > 0)
        good |= still & (5 * table.bar + rtol <= must_catch) & (atol == 0)
        return good.all(axis=1) & table.finite & ~table.zero.all(axis=1)


def fails(table: Table, rtol: float, atol: float) -> np.ndarray:
    """(n,) points where M is contradicted by N beyond doubt: off by 20 bars and 1e-4 of the leaf, no kink."""
    with np.errstate(all="ignore"):
        gross = (table.difference > 20 * table.bar + max(1e-4, rtol)) & ~table.kink
        if np.isfinite(table.difference_a).any():
            gross &= table.difference_a > max(1e-5, rtol)
        return gross.any(axis=1) & table.finite
