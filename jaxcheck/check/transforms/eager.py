"""A rule outside of a trace, beside the same compiled."""

from __future__ import annotations

import jax

from jaxcheck.check.laws.rounding import rounding, settled
from jaxcheck.check.laws.run import Pulled
from jaxcheck.check.laws.site import Site, draw, finite, host, nearby, norm, pull, unit_in, worst
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.converge import iterates
from jaxcheck.program.run.eagerly import run_eagerly
from jaxcheck.result import Row


def as_eagerly(site: Site, seed: int, rows: list[Row]) -> list[Row]:
    """The rows, that of "jit" wrong where the rule gives something else outside of a trace, at the caller's dtypes."""
    at = next((k for k, r in enumerate(rows) if r.name == "jit"), None)
    if at is None or rows[at].status != "OK":
        return rows
    try:
        # One way after the other: what a rule keeps aside is looked at elsewhere.
        g = draw(ask(jax.eval_shape, site.call, *site.live), seed, "row0")
        eager = host(run_eagerly(pull(site.call), list(site.live), g))
        rule = Pulled(site.call)
        found = host(rule.back(list(site.live), g))
        if not finite(eager) and not finite(found):
            return rows
        closed = rule.traced(list(site.live), g) or ask(jax.make_jaxpr(pull(site.call)), list(site.live), g)
        sizes, unit = [norm(u) for u in eager], unit_in(closed)
        bars = [4096 * unit * s + 64 * unit * max(sizes, default=0.0) for s in sizes]
        if iterates(closed):  # it may take another step, as it may for its neighbours
            beside = host(rule.back(nearby(site.live, 8 * unit, seed, "noise"), g))
            bars = [b + 64 * norm(u - v) for b, u, v in zip(bars, beside, found, strict=True)]
    except Refused:
        return rows
    d, bad = worst(found, eager, bars, sizes)
    if bad < 0:
        return rows
    # Measured, for beside the point a gradient may move by far more than rounding is.
    row = Row("transformation", "jit", "WRONG", d, f"leaf `{site.paths[bad]}` differs from the eager gradient")
    row = settled(row, found, eager, bars, rounding(closed, [*site.live, *g]), runs=2)
    return [row if k == at else r for k, r in enumerate(rows)]
