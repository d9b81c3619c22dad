"""A rule in a batch where the caller said by hand what a batch computes (`custom_vmap`, or a function of
Python's): the results, too, must be those of one point after the other, and what differs is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.check.laws.rounding import allowed, at_points, settled
from jaxcheck.check.laws.run import Once
from jaxcheck.check.laws.site import Arrays, Site, finite, host, norm, pull, unit_in, worst
from jaxcheck.check.transforms.programs import stacked
from jaxcheck.notebook import cell
from jaxcheck.program import interpret
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.custom.called import is_by_hand
from jaxcheck.program.custom.owner import owner
from jaxcheck.program.run.batching import by_caller
from jaxcheck.result import Row

OVER_PRIMALS = "vmap over primals"


def by_hand_too(site: Site, points: Sequence[Arrays], g: Arrays, rows: list[Row]) -> list[Row]:
    """The rows, those of batches wrong where the results differ in one, and with the names of the batching rules."""
    forward = _traced(site.call, *points[0])
    inside = _named(forward)
    if not inside and not any(r.name.startswith("vmap") and r.status == "WRONG" for r in rows):
        return rows
    said = inside or _named(_traced(pull(site.call), points[0], g))
    if not said:
        return rows
    found = []
    for row in rows:
        if row.name == OVER_PRIMALS and row.status == "OK" and inside:
            row = _of_results(site, points, forward) or row
        if row.name.startswith("vmap") and row.status == "WRONG":
            row = dataclasses.replace(row, detail=f"{row.detail}; batched by hand: {said}")
        found.append(row)
    return found


def _traced(f: Callable, *args: Any) -> Any | None:
    try:
        return ask(jax.make_jaxpr(f), *args)
    except Refused:
        return None


def _named(program: Any) -> str:
    """The functions in a program that are batched in a way of their own, and where they are."""
    calls = [] if program is None else [eqn for eqn, _ in interpret.walk(program) if is_by_hand(eqn) or by_caller(eqn)]
    owners = dict.fromkeys(map(owner, calls))
    return ", ".join(f"`{o.name}` ({cell(o.file)}:{o.line})" for o in list(owners)[:3])


def _of_results(site: Site, points: Sequence[Arrays], forward: Any) -> Row | None:
    """The row that says WRONG, or what rounding explains; None where the results in a batch are those at each point."""
    one, unit = Once(site.call), unit_in(forward)
    try:
        each = [host(one(*point)) for point in points]
        batch = host(Once(jax.vmap(site.call))(*(stacked(column) for column in zip(*points, strict=True))))
    except Refused:  # the gradients in a batch, which hold it, say so
        return None
    wanted = [np.stack(column) for column in zip(*each, strict=True)]
    bars = allowed(wanted, unit)
    d, bad = worst(batch, wanted, bars, [norm(w) if finite([w]) else 0.0 for w in wanted])
    if bad < 0:
        return None
    text = "the results differ from the eager ones" if len(wanted) == 1 else f"result {bad} differs from the eager one"
    row = Row("transformation", OVER_PRIMALS, "WRONG", d, text)
    return settled(row, batch, wanted, bars, at_points(forward, points, True), runs=2)
