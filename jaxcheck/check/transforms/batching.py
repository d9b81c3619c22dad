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
from jaxcheck.check.laws.site import Arrays, Site, finite, host, norm, unit_in, worst
from jaxcheck.check.transforms.known import BOTH
from jaxcheck.check.transforms.partly import Eagerly, partly
from jaxcheck.check.transforms.programs import stacked
from jaxcheck.notebook import cell
from jaxcheck.program import interpret
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.custom.owner import owner
from jaxcheck.program.kernels import is_kernel
from jaxcheck.program.run.batching import of_its_own
from jaxcheck.result import Row

OVER_PRIMALS = "vmap over primals"


def by_hand_too(one: Eagerly, program: Any, rows: list[Row]) -> list[Row]:
    """The rows, those of batches wrong where the results differ in one, and with the names of the batching rules; and
    where there are such rules the rows of other batches.

    Args:
        program: one that holds the gradient as JAX traces it, before any of it is batched; None where there is none.
    """
    forward = _traced(one.site.call, *one.x[0])
    inside, calls = _of_their_own(forward), _of_their_own(program)
    if not inside and not calls:
        return rows
    at = next(k for k, row in enumerate(rows) if row.name == OVER_PRIMALS)
    if inside and rows[at].status == "OK":
        rows = [*rows[:at], _of_results(one.site, one.x, forward) or rows[at], *rows[at + 1 :]]
    if forward is not None and one.back is not None:
        at = next(k for k, row in enumerate(rows) if row.name == BOTH) + 1
        rows = [*rows[:at], *partly(dataclasses.replace(one, forward=forward)), *rows[at:]]
    said = _named(inside) or _named(calls)
    return [_with_names(row, said) for row in rows] if said else rows


def _with_names(row: Row, said: str) -> Row:
    if not row.name.startswith("vmap") or row.status != "WRONG":
        return row
    return dataclasses.replace(row, detail=f"{row.detail}; batched by hand: {said}")


def _traced(f: Callable, *args: Any) -> Any | None:
    try:
        return ask(jax.make_jaxpr(f), *args)
    except Refused:
        return None


def _of_their_own(program: Any) -> list[Any]:
    """The equations of a program that are batched in a way of their own."""
    return [] if program is None else [eqn for eqn, _ in interpret.walk(program) if of_its_own(eqn)]


def _named(calls: Sequence[Any]) -> str:
    """The functions that they call, and where those are; of a kernel the batch is JAX's."""
    owners = dict.fromkeys(owner(eqn) for eqn in calls if not is_kernel(eqn))
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
