"""What each primitive decides, as arrays of codes that stay the same for as long as the decision does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcheck.program import interpret
from jaxcheck.program.custom import rules
from jaxcheck.program.ways.rounded import permutation

_U32 = np.uint32


def outcomes(eqn: Any, args: Sequence[Any], moving: Sequence[bool], out: Sequence[Any]) -> Iterator[Any]:
    """The outcomes of an equation's decisions, some of its operands moving with the inputs.

    Whatever it is called: integers and booleans that come from moving floats are decisions (comparisons,
    positions, conversions, pivots).
    """
    name = eqn.primitive.name
    if name == "bitcast_convert_type":
        if not rules.is_inexact(out[0]):
            yield _exponents(args[0])
        return
    if name in _OUTCOMES:
        found = _OUTCOMES[name](eqn, args, moving, out)
        if found is not None:
            yield found
        return
    if name == "convert_element_type" and not rules.is_inexact(args[0]) and rules.is_inexact(out[0]):
        yield args[0]  # bits of a float, read as a number: an exponent
        return
    if follows(eqn, moving) and name not in _COMPARISONS:
        return
    yield from (x for x in out if _is_discrete(x))


def follows(eqn: Any, moving: Sequence[bool]) -> bool:
    """Whether integer results move with the operands: a float's bits, and arithmetic with them."""
    if eqn.primitive.name == "bitcast_convert_type":
        return True
    if eqn.primitive.name in _COMPARISONS:
        return False
    return all(not m or not rules.is_inexact(v.aval) for m, v in zip(moving, eqn.invars, strict=True))


def digest(outcome: Any) -> Any:
    """One number for an array of codes, in which every place has a weight of its own."""
    codes = jnp.asarray(outcome)
    if rules.is_inexact(codes):
        codes = _bits(codes)
    place = lax.iota(_U32, codes.size).reshape(codes.shape) * _U32(0x9E3779B1)
    if codes.dtype == np.bool_:
        return jnp.sum(jnp.where(codes, _stirred(place + _U32(0x7F4A7C15)), _U32(0)), dtype=_U32)
    if codes.dtype.itemsize == 8:
        high = (codes >> np.asarray(32, codes.dtype)).astype(_U32)
        codes = codes.astype(_U32) ^ (high * _U32(0xC2B2AE35))
    return jnp.sum(_stirred(codes.astype(_U32) * _U32(0x27D4EB2F) ^ place), dtype=_U32)


def _stirred(x: Any) -> Any:
    x = (x ^ (x >> _U32(16))) * _U32(0x85EBCA6B)
    x = (x ^ (x >> _U32(13))) * _U32(0xC2B2AE35)
    return x ^ (x >> _U32(16))


def _is_discrete(x: Any) -> bool:
    dtype = getattr(x, "dtype", None)
    if dtype is None or dtype == jax.dtypes.float0 or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return False
    return dtype == np.bool_ or jnp.issubdtype(dtype, jnp.integer)


def _bits(x: Any) -> Any:
    """A float's bits as integers; both zeros alike."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([lax.real(x), lax.imag(x)])
    return lax.bitcast_convert_type(x + np.asarray(0, x.dtype), np.dtype(f"uint{8 * x.dtype.itemsize}"))


def _exponents(x: Any) -> Any:
    """Sign and exponent: code that takes a float's bits apart acts on these by steps."""
    bits = _bits(x)
    return bits >> np.asarray(jnp.finfo(x.dtype).nmant, bits.dtype)


def _side(x: Any, of: Any = 0) -> Any:
    """1 above, 2 below, 0 at `of`. Only real numbers have sides."""
    of = jnp.asarray(of, x.dtype)
    return (x > of).astype(np.uint8) + np.uint8(2) * (x < of).astype(np.uint8)


def _against(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    return _side(*jnp.broadcast_arrays(*args))


def _sides(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    return None if jnp.iscomplexobj(args[0]) else _side(args[0])


def _root(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    """Whether a real operand is where the slope has no bound; on which side of its cut a complex one."""
    return _cut(eqn, args, moving, out) if jnp.iscomplexobj(args[0]) else _side(args[0]) if moving[0] else None


def _cut(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    x = args[0]
    return (lax.real(x) < 0) & (lax.imag(x) < 0) if jnp.iscomplexobj(x) else None


def _denominator(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    return _side(args[1]) if moving[1] and not jnp.iscomplexobj(args[1]) else None


def _power(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    if eqn.primitive.name == "integer_pow" and eqn.params["y"] >= 0:
        return None
    return _root(eqn, args, moving, out)


def _angle(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    return (args[1] <= 0) * _side(args[0])


def _clamped(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    low, x, high = args
    return _side(x, jnp.broadcast_to(low, x.shape)) * np.uint8(3) + _side(x, jnp.broadcast_to(high, x.shape))


def _extremes(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    axes = eqn.params["axes"]
    return args[0] == jnp.expand_dims(out[0], axes)


def _records(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    return args[0] == out[0]


def _steps(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    return None if jnp.iscomplexobj(out[0]) else out[0]


def _quotient(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    x, y = args
    return lax.round((x - out[0]) / y) if rules.is_inexact(x) else None


def _order(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    return permutation(eqn, args) if any(moving[: eqn.params["num_keys"]]) else None


def _places(x: Any) -> Any:
    return lax.iota(x.dtype, x.size).reshape(x.shape) + np.asarray(1, x.dtype)


def _winners(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    """Who was chosen, by the derivative: it picks, of numbered tangents, those of the winners."""
    inexact = [i for i, x in enumerate(args) if rules.is_inexact(x)]
    start = np.cumsum([0, *(args[i].size for i in inexact)])
    numbered = [_places(args[i]) + np.asarray(n, args[i].dtype) for i, n in zip(inexact, start, strict=False)]

    def call(*chosen: Any) -> Any:
        full = list(args)
        for i, x in zip(inexact, chosen, strict=True):
            full[i] = x
        return interpret.bind(eqn, full)[0]

    return jax.jvp(call, tuple(args[i] for i in inexact), tuple(numbered))[1]


def _routes(eqn: Any, args: Any, moving: Any, out: Any) -> Any:
    """Where a pooling sends its cotangents, or takes its tangents from: numbers in their place."""
    return interpret.bind(eqn, [_places(args[0]), *args[1:]])[0]


_COMPARISONS = frozenset("lt le gt ge eq ne lt_to le_to is_finite argmax argmin".split())
_OUTCOMES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "max": _against, "min": _against,
    "abs": _sides, "sign": _sides,
    "sqrt": _root, "rsqrt": _cut, "cbrt": _root, "log": _cut, "pow": _power, "integer_pow": _power,
    "div": _denominator, "atan2": _angle,
    "clamp": _clamped,
    "reduce_max": _extremes, "reduce_min": _extremes, "cummax": _records, "cummin": _records,
    "floor": _steps, "ceil": _steps, "round": _steps, "rem": _quotient,
    "sort": _order,
    "reduce_window_max": _winners, "reduce_window_min": _winners, "scatter-max": _winners, "scatter-min": _winners,
    "select_and_scatter_add": _routes, "select_and_gather_add": _routes,
}  # fmt: skip
