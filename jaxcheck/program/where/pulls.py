"""How a cotangent passes a single equation, on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.program.where import kernels, padded

Cotangents = Sequence[np.ndarray | None]


def pull(
    eqn: Any,
    operands: Sequence[np.ndarray],
    results: Sequence[np.ndarray],
    cotangents: Cotangents,
    compiled: dict[Any, Any],
) -> Cotangents:
    """Cotangents of the operands, None where there is none. Cotangents of results may be None, not all of them.

    Args:
        compiled: keeps what was compiled for the equations of one program.

    Raises:
        Whatever JAX raises of an equation that has no derivative.
    """
    name = eqn.primitive.name
    if name in _NONE:
        return [None] * len(operands)
    if name in _PULLS:
        found = _PULLS[name](eqn.params, operands, results[0], cotangents[0])
        return [None if g is None else _as_given(_summed(g, x), x) for g, x in zip(found, operands, strict=True)]
    return _by_jax(eqn, operands, cotangents, compiled)


def _summed(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A cotangent brought to the shape of an operand that was broadcast."""
    g, shape = np.asarray(g), np.shape(x)
    if g.shape == shape:
        return g
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=axes, keepdims=True) if axes else g


def _by_jax(eqn: Any, operands: Sequence[np.ndarray], cotangents: Cotangents, compiled: dict[Any, Any]) -> Cotangents:
    live = [i for i, x in enumerate(operands) if np.asarray(x).dtype.kind in "fc"]
    if not live:
        return [None] * len(operands)
    given = tuple(i for i, g in enumerate(cotangents) if g is not None)
    key = (id(eqn), given, tuple(live))
    with jax.enable_x64(True):
        if key not in compiled:
            compiled[key] = _vjp_of(eqn, tuple(live), given), eqn  # kept, so that the id stays its own
        found = compiled[key][0](list(operands), [cotangents[i] for i in given])
    out: list[np.ndarray | None] = [None] * len(operands)
    for i, g in zip(live, found, strict=True):
        out[i] = kernels.wide(g)
    return out


def _vjp_of(eqn: Any, live: tuple[int, ...], outs: tuple[int, ...]) -> Callable:
    def run(operands: list[Any], cotangents: list[Any]) -> list[Any]:
        def f(*moving: Any) -> list[Any]:
            full = list(operands)
            for i, x in zip(live, moving, strict=True):
                full[i] = x
            found = kernels.in_float64(eqn, full)
            return [found[i] for i in outs]

        _, back = jax.vjp(f, *(operands[i] for i in live))
        return list(back(cotangents))

    return jax.jit(run)


_NONE = (
    "gt",
    "ge",
    "lt",
    "le",
    "eq",
    "ne",
    "sign",
    "floor",
    "ceil",
    "stop_gradient",
    "iota",
    "argmax",
    "argmin",
    "and",
    "or",
    "not",
    "is_finite",
    "random_bits",
    "rem",
    "reduce_and",
    "reduce_or",
    "reduce_precision",
)


def _unary(slope: Callable) -> Callable:
    return lambda params, xs, y, g: [g * slope(xs[0], y)]


def _as_given(g: np.ndarray, x: np.ndarray) -> np.ndarray | None:
    """A cotangent in the kind of numbers that it is of: beside complex ones an operand may be real."""
    return None if x.dtype.kind not in "fc" else np.real(g) if x.dtype.kind == "f" else g


def _dot(params: dict[str, Any], xs: Sequence[np.ndarray], y: np.ndarray, g: np.ndarray) -> Cotangents:
    ((ca, cb), (ba, bb)) = params["dimension_numbers"]
    x, z = xs
    fa = [i for i in range(x.ndim) if i not in (*ca, *ba)]
    fb = [i for i in range(z.ndim) if i not in (*cb, *bb)]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    a, b = [""] * x.ndim, [""] * z.ndim
    for i, j in (*zip(ba, bb, strict=True), *zip(ca, cb, strict=True)):
        a[i] = b[j] = next(letters)
    for i in fa:
        a[i] = next(letters)
    for j in fb:
        b[j] = next(letters)
    out = [*(a[i] for i in ba), *(a[i] for i in fa), *(b[j] for j in fb)]
    a, b, out = "".join(a), "".join(b), "".join(out)
    return [np.einsum(f"{out},{b}->{a}", g, z), np.einsum(f"{out},{a}->{b}", g, x)]


def _broadcast(params: dict[str, Any], xs: Sequence[np.ndarray], y: np.ndarray, g: np.ndarray) -> Cotangents:
    axes, x = params["broadcast_dimensions"], xs[0]
    new = tuple(i for i in range(g.ndim) if i not in axes)
    g = g.sum(axis=new)
    stretched = tuple(i for i, n in enumerate(np.shape(x)) if n == 1 and g.shape[i] != 1)
    return [g.sum(axis=stretched, keepdims=True) if stretched else g, *([None] * (len(xs) - 1))]


def _reduce_sum(params: dict[str, Any], xs: Sequence[np.ndarray], y: np.ndarray, g: np.ndarray) -> Cotangents:
    return [np.broadcast_to(np.expand_dims(g, tuple(params["axes"])), xs[0].shape)]


def _reduce_max(params: dict[str, Any], xs: Sequence[np.ndarray], y: np.ndarray, g: np.ndarray) -> Cotangents:
    axes = tuple(params["axes"])
    hit = xs[0] == np.expand_dims(y, axes)
    return [hit * np.expand_dims(g, axes) / hit.sum(axis=axes, keepdims=True)]


def _slice(params: dict[str, Any], xs: Sequence[np.ndarray], y: np.ndarray, g: np.ndarray) -> Cotangents:
    strides = params["strides"] or [1] * g.ndim
    out = np.zeros(xs[0].shape, g.dtype)
    out[tuple(map(slice, params["start_indices"], params["limit_indices"], strides))] = g
    return [out]


def _concatenate(params: dict[str, Any], xs: Sequence[np.ndarray], y: np.ndarray, g: np.ndarray) -> Cotangents:
    axis = params["dimension"]
    return np.split(g, np.cumsum([x.shape[axis] for x in xs])[:-1], axis=axis)


def _select(params: dict[str, Any], xs: Sequence[np.ndarray], y: np.ndarray, g: np.ndarray) -> Cotangents:
    return [None, *(np.where(xs[0] == i, g, 0) for i in range(len(xs) - 1))]


def _extreme(first: Callable) -> Callable:
    def run(params: dict[str, Any], xs: Sequence[np.ndarray], y: np.ndarray, g: np.ndarray) -> Cotangents:
        share = np.where(xs[0] == xs[1], 0.5, first(*xs))
        return [g * share, g * (1 - share)]

    return run


_PULLS: dict[str, Callable] = {
    "add": lambda p, xs, y, g: [g, g], "add_any": lambda p, xs, y, g: [g, g], "sub": lambda p, xs, y, g: [g, -g],
    "mul": lambda p, xs, y, g: [g * xs[1], g * xs[0]],
    "div": lambda p, xs, y, g: [g / xs[1], -g * y / xs[1]],
    "neg": lambda p, xs, y, g: [-g], "exp": _unary(lambda x, y: y), "log": _unary(lambda x, y: 1 / x),
    "log1p": _unary(lambda x, y: 1 / (1 + x)), "expm1": _unary(lambda x, y: y + 1),
    "one_minus_square": _unary(lambda x, y: -2 * x), "log2": _unary(lambda x, y: 1 / (x * np.log(2))),
    "tanh": _unary(lambda x, y: 1 - y**2), "logistic": _unary(lambda x, y: y * (1 - y)),
    "sqrt": _unary(lambda x, y: 0.5 / y), "rsqrt": _unary(lambda x, y: -0.5 * y / x),
    "sin": _unary(lambda x, y: np.cos(x)),
    "cos": _unary(lambda x, y: -np.sin(x)), "square": _unary(lambda x, y: 2 * x),
    "abs": _unary(lambda x, y: kernels.sign(np.conj(x))),
    "integer_pow": lambda p, xs, y, g: [g * p["y"] * kernels.wide(xs[0]) ** float(p["y"] - 1)],
    "copy": lambda p, xs, y, g: [g], "pvary": lambda p, xs, y, g: [g],
    "convert_element_type": lambda p, xs, y, g: [g],
    "real": lambda p, xs, y, g: [g + 0j], "imag": lambda p, xs, y, g: [-1j * g],
    "conj": lambda p, xs, y, g: [np.conj(g)],
    "complex": lambda p, xs, y, g: [np.real(g), -np.imag(g)],
    "max": _extreme(np.greater), "min": _extreme(np.less), "select_n": _select,
    "dot_general": _dot, "broadcast_in_dim": _broadcast, "reduce_sum": _reduce_sum, "reduce_max": _reduce_max,
    "slice": _slice, "pad": padded.back, "concatenate": _concatenate,
    "reshape": lambda p, xs, y, g: [np.reshape(g, xs[0].shape)],
    "squeeze": lambda p, xs, y, g: [np.reshape(g, xs[0].shape)],
    "expand_dims": lambda p, xs, y, g: [np.reshape(g, xs[0].shape)],
    "transpose": lambda p, xs, y, g: [np.transpose(g, np.argsort(p["permutation"]))],
    "rev": lambda p, xs, y, g: [np.flip(g, tuple(p["dimensions"]))],
}  # fmt: skip
