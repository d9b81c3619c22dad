"""What single operations are in ball arithmetic: arrays of power series, one for each entry."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

BITS = 200


class Unknown(Exception):
    """What cannot be computed in ball arithmetic here; the message is the operation's name."""


def series(x: float, slope: float) -> Any:
    import flint

    return flint.arb_series([flint.arb(float(x)), flint.arb(float(slope))])


def balls(x: Any, tangent: Any) -> np.ndarray:
    """An array of real numbers as series; the slopes are those of `tangent`, zero where there is none."""
    x = np.asarray(x)
    if np.iscomplexobj(x):
        raise Unknown("complex numbers")
    slopes = np.zeros(x.shape) if tangent is None else np.broadcast_to(np.asarray(tangent), x.shape)
    return _map(series, x.astype(np.float64), slopes)


def is_balls(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == object


def middle(x: Any, aval: Any) -> Any:
    """The midpoints, in the type that the program has there."""
    if not is_balls(x):
        return x
    return _array(np.shape(x), [float(s[0].mid()) for s in x.ravel()], np.float64).astype(aval.dtype)


def _array(shape: Sequence[int], entries: Sequence[Any], dtype: Any = object) -> np.ndarray:
    out = np.empty(len(entries), dtype)
    for i, entry in enumerate(entries):  # NumPy would take a series for a sequence
        out[i] = entry
    return out.reshape(tuple(shape))


def _map(f: Callable, *arrays: Any) -> np.ndarray:
    arrays = np.broadcast_arrays(*arrays)
    return _array(arrays[0].shape, [f(*entries) for entries in zip(*(a.ravel() for a in arrays), strict=True)])


def _mid(s: Any) -> Any:
    return s[0].mid()


def _quotient(a: Any, b: Any) -> Any:
    """Unknown, which is NaN, where the divisor may be zero: Arb raises, or keeps fewer terms than a slope needs."""
    return series(float("nan"), float("nan")) if b[0].contains(0) else a / b


def _tanh(x: Any) -> Any:
    # By the exponential that is small, which keeps the enclosure narrow far out.
    if _mid(x) > 0:
        e = (-2 * x).exp()
        return (1 - e) / (1 + e)
    e = (2 * x).exp()
    return (e - 1) / (e + 1)


def _power(x: Any, n: Any) -> Any:
    if isinstance(n, np.integer):
        return _integer_power(x, int(n))
    whole = _mid(n)
    if n[1] == 0 and n[0].is_integer() and abs(float(whole)) < 64:
        return _integer_power(x, int(float(whole)))
    return (n * x.log()).exp()


def _integer_power(x: Any, n: int) -> Any:
    out = series(1.0, 0.0)
    for _ in range(abs(n)):
        out = out * x
    return out if n >= 0 else _quotient(series(1.0, 0.0), out)


def _steps(f: Callable) -> Callable:
    def step(x: Any) -> Any:
        if x[1] != 0:
            raise Unknown(f.__name__)
        return series(float(f(float(_mid(x)))), 0.0)

    return step


_UNARY: dict[str, Callable] = {
    "neg": lambda x: -x, "exp": lambda x: x.exp(), "exp2": lambda x: (x * _log2()).exp(), "log": lambda x: x.log(),
    "log2": lambda x: x.log() / _log2(), "one_minus_square": lambda x: (1 + x) * (1 - x),
    "log1p": lambda x: (1 + x).log(), "expm1": lambda x: x.exp() - 1, "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(), "tan": lambda x: x.tan(), "asin": lambda x: x.asin(), "acos": lambda x: x.acos(),
    "atan": lambda x: x.atan(), "sinh": lambda x: (x.exp() - (-x).exp()) / 2,
    "cosh": lambda x: (x.exp() + (-x).exp()) / 2, "tanh": _tanh, "logistic": lambda x: 1 / (1 + (-x).exp()),
    "asinh": lambda x: (x + (x * x + 1).sqrt()).log(), "acosh": lambda x: (x + (x * x - 1).sqrt()).log(),
    "atanh": lambda x: _quotient(1 + x, 1 - x).log() / 2, "sqrt": lambda x: x.sqrt(), "rsqrt": lambda x: x.rsqrt(),
    "erf": lambda x: x.erf(), "erfc": lambda x: x.erfc(), "lgamma": lambda x: x.lgamma(), "square": lambda x: x * x,
    "abs": lambda x: -x if _mid(x) < 0 else x, "real": lambda x: x,
    "sign": lambda x: series(np.sign(float(_mid(x))), 0.0), "floor": _steps(np.floor), "ceil": _steps(np.ceil),
    "round": _steps(np.round),
}  # fmt: skip

_BINARY: dict[str, Callable] = {
    "add": lambda a, b: a + b, "add_any": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "div": _quotient, "pow": _power, "max": lambda a, b: a if _mid(a) >= _mid(b) else b,
    "min": lambda a, b: a if _mid(a) <= _mid(b) else b,
}  # fmt: skip


@functools.cache
def _log2() -> Any:
    return series(2.0, 0.0).log()


def _fold(f: Callable) -> Callable:
    """A reduction over the equation's axes."""

    def reduce(eqn: Any, x: np.ndarray) -> list[Any]:
        axes = tuple(eqn.params["axes"])
        kept = [k for k in range(x.ndim) if k not in axes]
        shape = [x.shape[k] for k in kept]
        rows = x.transpose(*kept, *axes).reshape(int(np.prod(shape)), -1)
        if not rows.shape[1]:
            raise Unknown("an empty reduction")
        return [_array(shape, [functools.reduce(f, row) for row in rows])]

    return reduce


def _dot(eqn: Any, a: np.ndarray, b: np.ndarray) -> list[Any]:
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    fa, fb = ([k for k in range(x.ndim) if k not in (*c, *d)] for x, c, d in ((a, ca, ba), (b, cb, bb)))
    batch = [a.shape[k] for k in ba]
    rows, columns = [a.shape[k] for k in fa], [b.shape[k] for k in fb]
    count = int(np.prod([a.shape[k] for k in ca]))
    left = a.transpose(*ba, *fa, *ca).reshape(int(np.prod(batch)), int(np.prod(rows)), count)
    right = b.transpose(*bb, *fb, *cb).reshape(int(np.prod(batch)), int(np.prod(columns)), count)
    zero = series(0.0, 0.0)
    return [
        _array(
            [*batch, *rows, *columns],
            [
                sum((x * y for x, y in zip(u, v, strict=True)), zero)
                for k in range(len(left))
                for u in left[k]
                for v in right[k]
            ],
        )
    ]


def _running(f: Callable) -> Callable:
    def accumulate(eqn: Any, x: np.ndarray) -> list[Any]:
        axis, out = eqn.params["axis"], x.copy()
        front = np.moveaxis(out, axis, 0)
        front = front[::-1] if eqn.params["reverse"] else front
        for i in range(1, len(front)):
            front[i] = _map(f, front[i - 1], front[i])
        return [out]

    return accumulate


def _sort(eqn: Any, *operands: Any) -> list[Any]:
    axis, keys = eqn.params["dimension"], eqn.params["num_keys"]
    plain = [np.vectorize(lambda s: float(_mid(s)), otypes=[float])(x) if is_balls(x) else x for x in operands[:keys]]
    if keys != 1:
        raise Unknown("a sort by several keys")
    order = np.argsort(plain[0], axis=axis, kind="stable")
    return [np.take_along_axis(x, order, axis) for x in operands]


def _add_scattered(eqn: Any, x: np.ndarray, indices: Any, updates: np.ndarray) -> list[Any]:
    """What is added where: the scatter of each update's number, one at a time, tells its place."""
    from jaxcheck.program import interpret

    numbers = np.zeros(x.shape)
    out = x.copy().ravel()
    for k in range(updates.size):
        alone = np.zeros(updates.size)
        alone[k] = 1.0
        found = np.asarray(interpret.bind(eqn, [numbers, indices, alone.reshape(updates.shape)])[0]).ravel()
        for place in np.flatnonzero(found):
            out[place] = out[place] + updates.ravel()[k]
    return [out.reshape(x.shape)]


def _clamp(eqn: Any, low: Any, x: Any, high: Any) -> list[Any]:
    return [_map(lambda a, b, c: _BINARY["min"](_BINARY["max"](b, a), c), low, x, high)]


def _lu(eqn: Any, a: np.ndarray) -> list[Any]:
    """Gaussian elimination with partial pivoting, of one matrix."""
    if a.ndim != 2:
        raise Unknown("lu of several matrices")
    a, order = a.copy(), np.arange(a.shape[0])
    pivots = np.arange(min(a.shape))
    for k in range(min(a.shape)):
        best = max(range(k, a.shape[0]), key=lambda i: abs(_mid(a[i, k])))
        pivots[k] = best
        a[[k, best]], order[[k, best]] = a[[best, k]], order[[best, k]]
        for i in range(k + 1, a.shape[0]):
            a[i, k] = _quotient(a[i, k], a[k, k])
            for j in range(k + 1, a.shape[1]):
                a[i, j] = a[i, j] - a[i, k] * a[k, j]
    return [a, pivots.astype(np.int32), order.astype(np.int32)]


def _triangular(eqn: Any, a: np.ndarray, b: np.ndarray) -> list[Any]:
    p = eqn.params
    if a.ndim != 2 or b.ndim != 2:
        raise Unknown("triangular_solve of several matrices")
    lower = p["lower"]
    if not p["left_side"]:
        a, b, lower = a.T, b.T, not lower
    if p["transpose_a"]:
        a, lower = a.T, not lower
    out, n = b.copy(), len(a)
    for i in range(n) if lower else range(n - 1, -1, -1):
        for j in range(i) if lower else range(i + 1, n):
            out[i] = _map(lambda x, y, c=a[i, j]: x - c * y, out[i], out[j])
        if not p["unit_diagonal"]:
            out[i] = _map(lambda x, c=a[i, i]: _quotient(x, c), out[i])
    return [out if p["left_side"] else out.T]


def _cholesky(eqn: Any, a: np.ndarray) -> list[Any]:
    if a.ndim != 2:
        raise Unknown("cholesky of several matrices")
    n, zero = len(a), series(0.0, 0.0)
    out = _array(a.shape, [zero] * a.size)
    for i in range(n):
        for j in range(i + 1):
            rest = a[i, j] - sum((out[i, k] * out[j, k] for k in range(j)), zero)
            out[i, j] = rest.sqrt() if i == j else _quotient(rest, out[j, j])
    return [out]


def _convert(eqn: Any, x: Any) -> list[Any]:
    return [x if is_balls(x) else balls(x, None)]


def _elementwise(f: Callable) -> Callable:
    return lambda eqn, *x: [_map(f, *x)]


OPERATIONS: dict[str, Callable] = {
    **{name: _elementwise(f) for name, f in (*_UNARY.items(), *_BINARY.items())},
    "integer_pow": lambda eqn, x: [_map(lambda s: _integer_power(s, eqn.params["y"]), x)],
    "convert_element_type": _convert, "reduce_precision": lambda eqn, x: [x], "clamp": _clamp,
    "reduce_sum": _fold(_BINARY["add"]), "reduce_prod": _fold(_BINARY["mul"]), "reduce_max": _fold(_BINARY["max"]),
    "reduce_min": _fold(_BINARY["min"]), "cumsum": _running(_BINARY["add"]), "cumprod": _running(_BINARY["mul"]),
    "dot_general": _dot, "sort": _sort, "scatter-add": _add_scattered, "scatter_add": _add_scattered, "lu": _lu,
    "triangular_solve": _triangular, "cholesky": _cholesky,
}  # fmt: skip
