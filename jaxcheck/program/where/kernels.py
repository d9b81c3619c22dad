"""Single equations on the host in float64, whatever floats the program declares: thousands of small changes of a
program are tried, and neither compiling nor dispatching each can be afforded.

Shapes are taken from the operands where the equation allows it, so that a changed operand of another shape is
either understood or refused with an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.program import interpret
from jaxcheck.program.where import padded
from jaxcheck.program.where.nonsense import NONSENSE

# Numbers that are as soon copied as looked at by strides: NumPy takes 6.5 us to make these, and 5 us to copy so many
# (timeit, 2 cores). A matter of time.
COPIED = 10_000
Kernel = Callable[..., Sequence[np.ndarray]]


def wide(x: Any) -> np.ndarray:
    """A value as NumPy's, floats of any width in float64."""
    x = held(x)
    if x.dtype.kind in "biu" or x.dtype == np.float64 or x.dtype == np.complex128:
        return x
    kind = np.complex128 if x.dtype.kind == "c" else np.float64
    return x.astype(kind)


def held(x: Any) -> np.ndarray:
    """A value as NumPy's; a random key as the numbers it is made of."""
    return np.asarray(jax.random.key_data(x) if _is_key(x) else x)


def _is_key(x: Any) -> bool:
    return hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _as_key(x: Any, aval: Any) -> Any:
    """A value as JAX takes it."""
    return jax.random.wrap_key_data(x, impl=aval.dtype._impl.name) if _is_key(aval) else np.asarray(x)


def kernel(eqn: Any) -> Kernel:
    """The function of an equation's operands, giving its results."""
    if any(_is_key(v.aval) for v in (*getattr(eqn, "invars", ()), *getattr(eqn, "outvars", ()))):
        return lambda *xs: bound(eqn, [_as_key(x, v.aval) for x, v in zip(xs, eqn.invars, strict=True)])
    f = _by_numpy(eqn)
    return (lambda *xs: bound(eqn, xs)) if f is None else (lambda *xs: (f(*xs),))


def is_numpys(eqn: Any | None) -> bool:
    """Whether JAX is not asked for an equation of this kind; what is no equation only hands on what it is given."""
    return eqn is None or eqn.primitive.name in _PLAIN or eqn.primitive.name in _MADE


def _by_numpy(eqn: Any) -> Callable | None:
    name = eqn.primitive.name
    if name in _PLAIN:
        return _PLAIN[name]
    return _MADE[name](eqn.params) if name in _MADE else None


def bound(eqn: Any, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results as JAX computes them, in float64 where it takes that.

    Raises:
        Whatever JAX raises of operands that do not fit.
    """
    operands = [x if _is_key(x) else _of_kind(np.asarray(x), v.aval) for x, v in zip(operands, eqn.invars, strict=True)]
    with jax.enable_x64(True):
        try:
            out = in_float64(eqn, operands)
        except NONSENSE:
            pairs = zip(operands, eqn.invars, strict=True)
            narrow = [x if _is_key(x) else np.asarray(x).astype(a.aval.dtype) for x, a in pairs]
            out = interpret.bind(eqn, narrow)
        return [wide(x) for x in out]


def _of_kind(x: np.ndarray, aval: Any) -> np.ndarray:
    """A real number where a program is made for a complex one, and a mask where it is made for real ones; the other way
    round it is nonsense.

    Raises:
        ValueError: see above.
    """
    meant = jax.dtypes.issubdtype(getattr(aval, "dtype", x.dtype), np.complexfloating)
    if np.iscomplexobj(x) and not meant:
        raise ValueError("complex numbers in a program of real ones")
    if meant:
        return x if np.iscomplexobj(x) else x.astype(np.complex128)
    # A mask in the place of numbers: a compiled program would say so in XLA's log.
    return x.astype(np.float64) if x.dtype == bool and jax.dtypes.issubdtype(aval.dtype, np.floating) else x


def in_float64(eqn: Any, operands: Sequence[Any]) -> list[Any]:
    """One equation on other operands, in the mode in force; a scatter anew, for it holds a program of its dtype."""
    f = _SCATTERS.get(eqn.primitive.name)
    if f is None:
        return interpret.bind(eqn, operands, widened(eqn.params), as_traced=False)
    keys = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
    return [f(*operands, **{key: eqn.params[key] for key in keys})]


_SCATTERS = {"scatter": jax.lax.scatter, "scatter-add": jax.lax.scatter_add, "scatter-mul": jax.lax.scatter_mul,
             "scatter-min": jax.lax.scatter_min, "scatter-max": jax.lax.scatter_max}  # fmt: skip


def widened(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters that pin a narrow float, or a complex of such, widened."""
    out = dict(params)
    for key in ("preferred_element_type", "dtype", "new_dtype"):
        kind = out.get(key)
        if kind is not None and jax.dtypes.issubdtype(kind, np.inexact):
            out[key] = np.dtype(np.complex128 if jax.dtypes.issubdtype(kind, np.complexfloating) else np.float64)
    return out


def _power(x: Any, y: Any) -> Any:
    return np.power(x, y)


def _logistic(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * x))


def sign(x: Any) -> Any:
    """The direction of each number, of complex ones as well: before NumPy 2 that was another thing."""
    if np.asarray(x).dtype.kind != "c":
        return np.sign(x)
    size = np.abs(x)
    return np.divide(x, size, out=np.zeros_like(x), where=size > 0)


def _divide(x: Any, y: Any) -> Any:
    if np.asarray(x).dtype.kind in "iu":
        return (np.trunc(x / y)).astype(x.dtype)
    return x / y


_PLAIN: dict[str, Callable] = {
    "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "div": _divide, "neg": np.negative,
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "tanh": np.tanh,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "atan": np.arctan,
    "logistic": _logistic, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "cbrt": np.cbrt, "square": np.square,
    "one_minus_square": lambda x: (1 + x) * (1 - x), "log2": np.log2,
    "abs": np.abs, "sign": sign, "max": np.maximum, "min": np.minimum, "pow": _power, "floor": np.floor,
    "ceil": np.ceil, "gt": np.greater, "ge": np.greater_equal, "lt": np.less, "le": np.less_equal, "eq": np.equal,
    "ne": np.not_equal, "stop_gradient": lambda x: x, "copy": lambda x: x, "copy_p": lambda x: x,
    "reduce_precision": lambda x: x, "pvary": lambda x: x, "is_finite": np.isfinite,
    "atan2": np.arctan2, "real": np.real, "imag": np.imag, "conj": np.conj,
    "complex": lambda x, y: x + 1j * y,
    "select_n": lambda which, *cases: (
        np.where(which, cases[1], cases[0]) if np.asarray(which).dtype == bool else np.choose(which, cases)),
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
}  # fmt: skip


def _integer_pow(params: dict[str, Any]) -> Callable:
    y = params["y"]
    return lambda x: np.power(x, y) if y >= 0 else 1 / np.power(x, -y)


def _convert(params: dict[str, Any]) -> Callable | None:
    dtype = params["new_dtype"]
    if jax.dtypes.issubdtype(dtype, np.complexfloating):
        return lambda x: np.asarray(x, np.complex128)
    if jax.dtypes.issubdtype(dtype, np.floating):
        return lambda x: np.asarray(np.real(x), np.float64)
    return lambda x: np.asarray(x).astype(dtype)


def _broadcast(params: dict[str, Any]) -> Callable:
    shape, axes = params["shape"], params["broadcast_dimensions"]

    few = math.prod(shape) <= COPIED

    def run(x: Any, *dynamic: Any) -> Any:
        x = np.asarray(x)
        expanded = [1] * len(shape)
        for axis, size in zip(axes, x.shape, strict=True):
            expanded[axis] = size
        if not few:
            return np.broadcast_to(x.reshape(expanded), shape)
        out = np.empty(shape, x.dtype)
        out[...] = x.reshape(expanded)
        return out

    return run


def _dot(params: dict[str, Any]) -> Callable:
    ((ca, cb), (ba, bb)) = params["dimension_numbers"]

    def run(x: Any, y: Any) -> Any:
        if not ba and len(ca) == 1 and 0 < x.ndim <= 2 and 0 < y.ndim <= 2:  # `tensordot` takes nine times as long
            return np.dot(x if ca[0] == x.ndim - 1 else x.T, y.T if cb[0] else y)
        if not ba:
            return np.tensordot(x, y, (ca, cb))
        fa = [i for i in range(x.ndim) if i not in (*ca, *ba)]
        fb = [i for i in range(y.ndim) if i not in (*cb, *bb)]
        batch, rows, columns = [x.shape[i] for i in ba], [x.shape[i] for i in fa], [y.shape[i] for i in fb]
        inner = [x.shape[i] for i in ca]
        if batch != [y.shape[i] for i in bb] or inner != [y.shape[i] for i in cb]:
            raise ValueError("the operands of a product do not fit")
        n = int(np.prod(inner))
        left = x.transpose(*ba, *fa, *ca).reshape(*batch, int(np.prod(rows)), n)
        right = y.transpose(*bb, *cb, *fb).reshape(*batch, n, int(np.prod(columns)))
        return np.matmul(left, right).reshape(*batch, *rows, *columns)

    return run


def _reshape(params: dict[str, Any]) -> Callable | None:
    return (lambda x: np.reshape(x, params["new_sizes"])) if params.get("dimensions") is None else None


def _slice(params: dict[str, Any]) -> Callable:
    strides = params["strides"] or [1] * len(params["start_indices"])
    index = tuple(map(slice, params["start_indices"], params["limit_indices"], strides))
    return lambda x: x[index]


def _fft(params: dict[str, Any]) -> Callable:
    lengths, kind = params["fft_lengths"], params["fft_type"].name
    axes = tuple(range(-len(lengths), 0))
    f = {"FFT": np.fft.fftn, "IFFT": np.fft.ifftn, "RFFT": np.fft.rfftn, "IRFFT": np.fft.irfftn}[kind]
    return lambda x: f(x, lengths, axes)


def _over(f: Callable) -> Callable:
    return lambda params: lambda x: f(x, axis=tuple(params["axes"]))


def _running(f: Callable) -> Callable:
    def made(params: dict[str, Any]) -> Callable:
        axis = params["axis"]
        if params["reverse"]:
            return lambda x: np.flip(f(np.flip(x, axis), axis=axis), axis)
        return lambda x: f(x, axis=axis)

    return made


_MADE: dict[str, Callable] = {
    "integer_pow": _integer_pow, "convert_element_type": _convert, "broadcast_in_dim": _broadcast, "dot_general": _dot,
    "reshape": _reshape, "slice": _slice, "fft": _fft,
    "squeeze": lambda p: lambda x: np.squeeze(x, tuple(p["dimensions"])),
    "expand_dims": lambda p: lambda x: np.expand_dims(x, tuple(p["dimensions"])),
    "transpose": lambda p: lambda x: np.transpose(x, p["permutation"]),
    "concatenate": lambda p: lambda *xs: np.concatenate(xs, axis=p["dimension"]),
    "rev": lambda p: lambda x: np.flip(x, tuple(p["dimensions"])),
    "reduce_sum": _over(np.sum), "reduce_max": _over(np.max), "reduce_min": _over(np.min),
    "reduce_prod": _over(np.prod), "reduce_and": _over(np.all), "reduce_or": _over(np.any),
    "cumsum": _running(np.cumsum), "pad": padded.pad,
}  # fmt: skip
