"""What a rule remembers beside its residuals: of other values, and of another shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.check.laws.rounding import of_leaf
from jaxcheck.check.laws.run import Job, run
from jaxcheck.check.laws.site import Arrays, Site, draw, finite, moved, norm, pull, unit_of
from jaxcheck.program.alike import alike
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.converge import iterates
from jaxcheck.program.custom.strip import count_rules, strip_rules

# Far enough that a value of the first call is told from one of this point, in any dtype.
ELSEWHERE = 0.75
# Relative difference up to which two formulas of one derivative are the same, or this many spacings of a coarse dtype;
# where the first point's agree to a quarter of that, and the second's do not, the first was special.
SAME, SPACINGS = 1e-3, 16.0
# Part of the largest leaf that is nothing in another. A choice.
BESIDE = 1e-6


def elsewhere(x: Sequence[Any]) -> Arrays:
    """Another point, as far as the other call of an eager pair goes."""
    return moved(x, [ELSEWHERE - 1] * len(x))


def of_values(site: Site, seed: int, mine: Sequence[Sequence[np.ndarray]]) -> tuple[float, int]:
    """(relative difference, leaf) where an eager call with other values does not give their gradient, leaf -1 where it
    does, or nobody can say: autodiff without the rule must say what the rule did at the first point.

    Args:
        mine: the rule's eager gradients for "g1" at the point and, after that, at `elsewhere`.
    """
    x = list(site.live)
    closed = ask(jax.make_jaxpr(site.call), *x)
    if not count_rules(closed, "user") or iterates(closed):
        return 0.0, -1
    g = draw(closed.out_avals, seed, "g1")
    other = elsewhere(x)
    n, plain = len(x), pull(strip_rules(site.call))
    answer = run({"plain": Job(lambda _, row: plain(row[:n], row[n:]), [], [[*x, *g], [*other, *g]])})["plain"]
    if answer.error is not None or not all(map(finite, answer.rows)):
        return 0.0, -1
    same = max(SAME, SPACINGS * max(unit_of(*(v.dtype for v in x)), answer.unit))
    off = [[norm(a - b) for a, b in zip(*pair, strict=True)] for pair in zip(mine, answer.rows, strict=True)]
    sizes = [[norm(v) for v in row] for row in answer.rows]
    largest = [max(row, default=0.0) for row in sizes]
    if any(not d <= same / 4 * s + BESIDE * largest[0] for d, s in zip(off[0], sizes[0], strict=True)):
        return 0.0, -1
    for k, (d, s) in enumerate(zip(off[1], sizes[1], strict=True)):
        bar = same * s + BESIDE * largest[1]
        if not d <= bar and not d <= bar + sum(
            of_leaf(k, ask(jax.make_jaxpr(one), other, g), [*other, *g]) for one in (pull(site.call), plain)
        ):
            return d / s if s else float("inf"), k
    return 0.0, -1


def of_shape(site: Site, seed: int) -> tuple[float, int] | None:
    """The same of two calls in one program, of which the second has a row less; None where `site` takes none."""
    x = list(site.live)
    if not x or any(not v.ndim for v in x) or len({v.shape[0] for v in x}) > 1 or x[0].shape[0] < 2:
        return None
    try:
        closed = ask(jax.make_jaxpr(site.call), *x)
        less = [v[:-1] for v in map(np.asarray, x)]
        out = ask(jax.eval_shape, site.call, *less)
        g = [*draw(closed.out_avals, seed, "g1"), *draw(out, seed, "g1")]
        first, second = (ask(jax.make_jaxpr(_two(site, together)), x, g) for together in (True, False))
    except Refused:
        return None
    if alike(first, second):
        return 0.0, -1
    rows = [
        run({"pair": Job(lambda _, row, t=t: _two(site, t)(row[: len(x)], row[len(x) :]), [], [[*x, *g]])})["pair"]
        for t in (True, False)
    ]
    if any(r.error is not None for r in rows) or not all(finite(r.rows[0]) for r in rows):
        return None
    for k, (a, b) in enumerate(zip(rows[0].rows[0], rows[1].rows[0], strict=True)):
        if not norm(a - b) <= SPACINGS * rows[0].unit * norm(b):
            return norm(a - b) / norm(b) if norm(b) else float("inf"), k % len(x)
    return 0.0, -1


def _two(site: Site, together: bool):
    """(x, cotangents of both) -> the gradients of a call and of one with a row less; with `together` both forward
    passes come first."""

    def both(x: Sequence[Any], g: Sequence[Any]) -> Arrays:
        half = len(g) // 2
        _, first = jax.vjp(site.call, *x)
        found = [] if together else list(first(list(g[:half])))
        _, second = jax.vjp(site.call, *(v[:-1] for v in x))
        return [*(first(list(g[:half])) if together else found), *second(list(g[half:]))]

    return both
