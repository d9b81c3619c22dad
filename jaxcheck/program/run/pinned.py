"""Which equations keep a moved slice a slice, and how they run on it.

A value is pinned at an axis when only one index along it moves; a pin names the axis of the leaf whose
index that is. A pinned axis has length 1 in the slice. A rule only says yes where it is sure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcheck.program import interpret
from jaxcheck.there import there

Pins = dict[int, int]  # axis of the value -> axis of the leaf

_ELEMENTWISE = frozenset(
    """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh digamma
div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max min mul ne
neg nextafter not or pow rem round rsqrt select_n sign sin sinh sqrt square sub tan tanh xor
""".split()
)
_REDUCTIONS = frozenset("reduce_max reduce_min reduce_prod reduce_sum reduce_and reduce_or".split())


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """An equation on slices.

    Attributes:
        pins: of each operand, the slice that it enters with.
        out: pins of the result.
        linear: the operands' changes go in, and the result is added to the unmoved one.
        bind: how the equation runs on slices.
    """

    pins: tuple[Pins, ...]
    out: Pins
    linear: bool = False
    bind: Callable[[Any, Sequence[Any]], list[Any]] = interpret.bind


def rule(eqn: Any, pins: Sequence[Pins | None], avals: Sequence[Any]) -> Step | None:
    """The step for an equation, or None where it takes whole values. `pins` of an operand: None if it is
    unmoved, empty if it moves everywhere."""
    if any(p is not None and not p for p in pins) or len(eqn.outvars) != 1:
        return None
    name = eqn.primitive.name
    if name in _ELEMENTWISE:
        return _elementwise(eqn, pins, avals)
    if name in _REDUCTIONS:
        return _reduction(eqn, there(pins[0]))
    make = {
        "dot_general": _product,
        "broadcast_in_dim": _broadcast,
        "transpose": _transpose,
        "squeeze": _squeeze,
        "reshape": _reshape,
    }.get(name)
    return make(eqn, pins, avals) if make else None


def _elementwise(eqn: Any, pins: Sequence[Pins | None], avals: Sequence[Any]) -> Step | None:
    shape = eqn.outvars[0].aval.shape
    for aval in avals:
        # Since JAX 0.10, axes of length 1 need no broadcast_in_dim before an addition.
        if aval.shape and (
            len(aval.shape) != len(shape) or any(n not in (1, m) for n, m in zip(aval.shape, shape, strict=True))
        ):
            return None
    common = set.intersection(*(set(p.items()) for p in pins if p is not None))
    if not common:
        return None
    kept = dict(common)
    return Step(tuple(kept if aval.shape else {} for aval in avals), kept)


def _reduction(eqn: Any, pins: Pins) -> Step | None:
    axes = eqn.params["axes"]
    out = {a - sum(b < a for b in axes): i for a, i in pins.items() if a not in axes}
    over = any(a in axes for a in pins)
    if over and (eqn.primitive.name != "reduce_sum" or not _wide(eqn)):
        return None
    return Step((pins,), out, linear=over)


def _broadcast(eqn: Any, pins: Sequence[Pins | None], avals: Sequence[Any]) -> Step | None:
    if len(avals) != 1:  # dynamic shapes
        return None
    to = eqn.params["broadcast_dimensions"]
    mine = there(pins[0])
    return _reshaped(eqn, mine, {to[a]: i for a, i in mine.items()}, "shape")


def _transpose(eqn: Any, pins: Sequence[Pins | None], avals: Sequence[Any]) -> Step | None:
    to = tuple(eqn.params["permutation"])
    mine = there(pins[0])
    return Step((mine,), {to.index(a): i for a, i in mine.items()})


def _squeeze(eqn: Any, pins: Sequence[Pins | None], avals: Sequence[Any]) -> Step | None:
    gone = eqn.params["dimensions"]  # of length 1, hence never pinned
    mine = there(pins[0])
    return Step((mine,), {a - sum(b < a for b in gone): i for a, i in mine.items()})


def _reshape(eqn: Any, pins: Sequence[Pins | None], avals: Sequence[Any]) -> Step | None:
    """Where every pinned axis stays an axis of its own, with as many elements before it."""
    if len(avals) != 1 or eqn.params.get("dimensions") is not None:
        return None
    old, new = avals[0].shape, eqn.outvars[0].aval.shape
    out: Pins = {}
    mine = there(pins[0])
    for a, i in mine.items():
        same = [b for b, n in enumerate(new) if n == old[a] and math.prod(new[:b]) == math.prod(old[:a])]
        if not same:
            return None
        out[same[0]] = i
    return _reshaped(eqn, mine, out, "new_sizes")


def _reshaped(eqn: Any, pins: Pins, out: Pins, key: str) -> Step:
    sizes = tuple(1 if a in out else n for a, n in enumerate(eqn.params[key]))

    def bind(eqn: Any, args: Sequence[Any]) -> list[Any]:
        return interpret.bind(eqn, args, {**eqn.params, key: sizes})

    return Step((pins,), out, bind=bind)


def _product(eqn: Any, pins: Sequence[Pins | None], avals: Sequence[Any]) -> Step | None:
    moving = [n for n, p in enumerate(pins) if p is not None]
    if len(moving) != 1 or not _wide(eqn):
        return None  # in x @ x.T both factors move, and the change is no longer linear
    one = moving[0]
    mine = there(pins[one])
    contracted, batch = (dims if one == 0 else dims[::-1] for dims in eqn.params["dimension_numbers"])
    other: Pins = {}
    out: Pins = {}
    first = 0 if one == 0 else len(avals[0].shape) - len(contracted[0]) - len(batch[0])
    free = [a for a in range(len(avals[one].shape)) if a not in contracted[0] and a not in batch[0]]
    for a, i in mine.items():
        for ours, theirs in (contracted, batch):
            if a in ours:
                other[theirs[tuple(ours).index(a)]] = i
        if a in batch[0]:
            out[tuple(batch[0]).index(a)] = i
        elif a in free:
            out[len(batch[0]) + first + free.index(a)] = i
    over = any(a in contracted[0] for a in mine)
    each = (mine, other) if one == 0 else (other, mine)
    return Step(each, out, linear=over, bind=_bind_product)


def _bind_product(eqn: Any, args: Sequence[Any]) -> list[Any]:
    """`dot_general`; an outer product as such, for then it becomes part of the elementwise loop that follows."""
    (left, right), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    x, y = args
    if any(x.shape[a] > 1 for a in left):
        return interpret.bind(eqn, args)
    x, y = (jnp.moveaxis(v, b, range(len(b))) for v, b in ((x, left_batch), (y, right_batch)))
    x = x.reshape(
        [x.shape[a] for a in range(len(left_batch))]
        + [args[0].shape[a] for a in range(args[0].ndim) if a not in (*left, *left_batch)]
        + [1] * (y.ndim - len(right) - len(right_batch))
    )
    y = y.reshape(
        [y.shape[a] for a in range(len(right_batch))]
        + [1] * (args[0].ndim - len(left) - len(left_batch))
        + [args[1].shape[a] for a in range(args[1].ndim) if a not in (*right, *right_batch)]
    )
    return [x * y]


def _wide(eqn: Any) -> bool:
    """Whether changes may be added: float64 throughout."""
    return all(getattr(v.aval, "dtype", None) == np.float64 for v in (*eqn.invars, *eqn.outvars))
