"""Transformed programs that need not be run: each is one that was, or that for a batch of another length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxcheck.check.laws.site import unit_in
from jaxcheck.check.transforms.programs import TRANSFORMED
from jaxcheck.program.alike import alike
from jaxcheck.program.ask import ask
from jaxcheck.program.mode import stack_type

BOTH = "vmap over both"


def at_a_point(transform: Callable, call: Callable, x: Sequence[Any], g: Sequence[Any], closed: Any) -> bool:
    """Whether what is transformed is the program `closed` of x and g."""

    def transformed(x: Any, g: Any) -> Any:
        return transform(call, [[v] for v in x], [[v] for v in g], None)

    return _same(ask(jax.make_jaxpr(transformed), x, g), closed)


def in_a_batch(count: int, call: Callable, x: Sequence[Any], g: Sequence[Any], t: Any, closed: Any) -> bool:
    """Whether the program for `count` points is `closed`, that for a batch of another length, but for this."""
    batch = [[stack_type(v, count) for v in row] for row in (x, g)]
    one = ask(jax.make_jaxpr(lambda *a: TRANSFORMED[BOTH](call, *a)), *batch, t)
    return _same(one, closed, (count, closed.in_avals[0].shape[0]))


def _same(one: Any, other: Any, sizes: tuple[int, int] = (1, 1)) -> bool:
    return unit_in(one) == unit_in(other) and alike(one, other, sizes=sizes)
