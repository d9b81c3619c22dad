"""A traced function with some of its inputs held fixed, or some of its results unused: what a rule with
`symbolic_zeros` is told, and may decide by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxcheck.program.derived import own_values
from jaxcheck.program.objective import Traced, as_function
from jaxcheck.program.run.compile import Program


def of_inputs(traced: Traced, point: Sequence[Any], part: Sequence[int]) -> Traced:
    """The function of the inputs `part` alone, the others at the point."""

    def some(f: Callable, values: Sequence[Any]) -> Callable:
        def held(*moved: Any) -> list[Any]:
            given = dict(zip(part, moved, strict=True))
            return list(f(*(given.get(k, v) for k, v in enumerate(values))))

        return held

    return _changed(traced, point, some, part)


def of_results(traced: Traced, point: Sequence[Any], part: Sequence[int]) -> Traced:
    """The function with its results `part` alone."""

    def some(f: Callable, values: Sequence[Any]) -> Callable:
        def used(*moved: Any) -> list[Any]:
            out = f(*moved)
            return [out[k] for k in part]

        return used

    return _changed(traced, point, some, range(len(point)))


def _changed(traced: Traced, point: Sequence[Any], some: Callable, part: Sequence[int]) -> Traced:
    """The function as traced and as it is run, changed alike."""

    def again(closed: Any, wide: bool) -> Any:
        values = own_values(closed, point)
        with jax.enable_x64(wide):
            return jax.make_jaxpr(some(as_function(closed), values))(*(values[k] for k in part))

    source = traced.source
    return dataclasses.replace(
        traced,
        program=dataclasses.replace(traced.program, closed=Program.of(again(traced.program.closed, True)).closed),
        closed=again(traced.closed, traced.wide),
        source=None if source is None else some(source, own_values(traced.closed, point)),
    )
