"""Single operations by NumPy: to compile one takes a hundred times as long as it does on a small array.

Only what NumPy does alike to rounding, for real numbers of full precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxcheck.program import interpret

# Asked of every operand: the name of a dtype takes NumPy twenty times as long to make as a dtype takes to be found.
_DTYPES = frozenset(map(np.dtype, ("float32", "float64", "int32", "int64", "uint32", "bool")))


def _cast(x: Any, new_dtype: Any, weak_type: bool, sharding: Any = None) -> Any:
    # Floats are rounded and cut off to whole numbers in ways of their own.
    known = np.dtype(new_dtype) in _DTYPES and (np.dtype(new_dtype).kind == "f" or x.dtype.kind != "f")
    return x.astype(new_dtype) if known and sharding is None else None


def _counted(dtype: Any, shape: Any, dimension: int, sharding: Any = None) -> Any:
    along = np.arange(shape[dimension], dtype=dtype).reshape([-1 if i == dimension else 1 for i in range(len(shape))])
    return np.broadcast_to(along, shape) if sharding is None and np.dtype(dtype) in _DTYPES else None


def _padded(x: Any, filler: Any, padding_config: Any) -> Any:
    sizes = [
        max(low, 0) + max(high, 0) + n + max(n - 1, 0) * between
        for n, (low, high, between) in zip(x.shape, padding_config, strict=True)
    ]
    out = np.full(sizes, filler, x.dtype)
    ends = [(size, low, high, between + 1) for size, (low, high, between) in zip(sizes, padding_config, strict=True)]
    out[tuple(slice(max(low, 0), size - max(high, 0), step) for size, low, high, step in ends)] = x
    return out[tuple(slice(max(-low, 0), size - max(-high, 0)) for size, low, high, _ in ends)]


def _cut(x: Any, sizes: Any, axis: int) -> list[Any]:
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _spread(x: Any, shape: Any, broadcast_dimensions: Any, sharding: Any = None) -> Any:
    at = [1] * len(shape)
    for size, axis in zip(x.shape, broadcast_dimensions, strict=True):
        at[axis] = size
    return np.broadcast_to(x.reshape(at), shape) if sharding is None else None


def _gathered(x: Any, indices: Any, dimension_numbers: Any, slice_sizes: Any, mode: Any, **_: Any) -> Any:
    """Entries of one axis, one by one, or one slice along it: what indexing by an array, and a slice that starts at a
    number, become."""
    d = dimension_numbers
    if d.operand_batching_dims or len(d.start_index_map) != 1:
        return None
    axis, starts = int(d.start_index_map[0]), indices[..., 0]
    size, collapsed = slice_sizes[axis], tuple(map(int, d.collapsed_slice_dims))
    last = x.shape[axis] - size
    if any(n != m for i, (n, m) in enumerate(zip(slice_sizes, x.shape, strict=True)) if i != axis):
        return None
    if (starts < 0).any() or (starts > last).any():
        if mode.name != "CLIP":
            return None
        starts = np.clip(starts, 0, last)
    if not starts.ndim:
        whole = np.take(x, np.arange(int(starts), int(starts) + size), axis)
        return np.squeeze(whole, collapsed)
    if collapsed != (axis,):
        return None
    offset = set(map(int, d.offset_dims))
    there = iter(range(axis, axis + starts.ndim))
    kept = (i for i in range(x.ndim + starts.ndim - 1) if not axis <= i < axis + starts.ndim)
    order = [next(kept) if i in offset else next(there) for i in range(x.ndim + starts.ndim - 1)]
    return np.take(x, starts, axis).transpose(order)


def _chosen(which: Any, *cases: Any) -> Any:
    return np.where(which, cases[1], cases[0]) if which.dtype == bool and len(cases) == 2 else None


def _contracted(a: Any, b: Any, dimension_numbers: Any, preferred_element_type: Any = None, **_: Any) -> Any:
    (a_sum, b_sum), (a_each, b_each) = dimension_numbers
    wanted = a.dtype if preferred_element_type is None else np.dtype(preferred_element_type)
    if not a.dtype == b.dtype == wanted or a.dtype.kind != "f":
        return None
    if not a_each:
        return np.tensordot(a, b, (tuple(a_sum), tuple(b_sum)))
    of_a = list(range(a.ndim))
    of_b = [a.ndim + i for i in range(b.ndim)]
    for i, k in (*zip(a_sum, b_sum, strict=True), *zip(a_each, b_each, strict=True)):
        of_b[k] = i
    out = [*a_each, *(i for i in of_a if i not in (*a_sum, *a_each)), *(i for i in of_b if i >= a.ndim)]
    return np.einsum(a, of_a, b, of_b, out, optimize=True)


def _sliced(x: Any, start_indices: Any, limit_indices: Any, strides: Any) -> Any:
    steps = strides or [1] * x.ndim
    return x[tuple(slice(a, b, s) for a, b, s in zip(start_indices, limit_indices, steps, strict=True))]


def _reshaped(x: Any, new_sizes: Any, dimensions: Any, sharding: Any = None) -> Any:
    return x.reshape(new_sizes) if dimensions is None and sharding is None else None


def _elementwise(f: Callable, kinds: str = "f") -> Callable:
    """For floats: much that is done to whole numbers differs."""
    return lambda *x, **_: f(*x) if all(v.dtype.kind in kinds for v in x) else None


def _reduced(f: Callable) -> Callable:
    def reduced(x: Any, axes: Any, **_: Any) -> Any:
        return f(x, axis=tuple(axes)) if x.dtype.kind == "f" else None

    return reduced


_FLOATS = dict(
    neg=np.negative,
    exp=np.exp,
    log=np.log,
    tanh=np.tanh,
    sqrt=np.sqrt,
    sin=np.sin,
    cos=np.cos,
    abs=np.abs,
    log1p=np.log1p,
    log2=np.log2,
    expm1=np.expm1,
    square=np.square,
    one_minus_square=lambda x: (1 + x) * (1 - x),
    sign=np.sign,
    is_finite=np.isfinite,
    div=np.divide,
    pow=np.power,
    rsqrt=lambda x: 1 / np.sqrt(x),
    logistic=lambda x: 1 / (1 + np.exp(-x)),
)
_NUMBERS = dict(
    add=np.add,
    sub=np.subtract,
    mul=np.multiply,
    max=np.maximum,
    min=np.minimum,
    add_any=np.add,
    lt=np.less,
    le=np.less_equal,
    gt=np.greater,
    ge=np.greater_equal,
)
_OF: dict[str, Callable[..., Any]] = {
    **{name: _elementwise(f) for name, f in _FLOATS.items()},
    **{name: _elementwise(f, "fiu") for name, f in _NUMBERS.items()},
    **{name: _elementwise(f, "b") for name, f in (("and", np.logical_and), ("or", np.logical_or),
                                                  ("not", np.logical_not))},
    **{name: _elementwise(f, "fiub") for name, f in (("eq", np.equal), ("ne", np.not_equal))},
    "integer_pow": lambda x, y: x ** np.asarray(y, x.dtype) if x.dtype.kind == "f" else None,
    "iota": _counted, "pad": _padded, "split": _cut, "stop_gradient": lambda x: x,
    "reduce_sum": _reduced(np.sum), "reduce_max": _reduced(np.max), "reduce_min": _reduced(np.min),
    "convert_element_type": _cast,
    "broadcast_in_dim": _spread,
    "reshape": _reshaped,
    "squeeze": lambda x, dimensions: np.squeeze(x, tuple(dimensions)),
    "transpose": lambda x, permutation: np.transpose(x, permutation),
    "stack": lambda *x, axis: np.stack(x, axis),
    "unstack": lambda x, axis: list(np.moveaxis(x, axis, 0)),
    "concatenate": lambda *x, dimension: np.concatenate(x, dimension),
    "slice": _sliced,
    "rev": lambda x, dimensions: np.flip(x, tuple(dimensions)),
    "select_n": _chosen,
    "dot_general": _contracted,
    "gather": _gathered,
    "rem": _elementwise(np.fmod, "iu"),
    "copy": lambda x: x.copy(),
}  # fmt: skip


def by_numpy(primitive: Any, avals: Sequence[Any], args: Sequence[Any], params: dict[str, Any]) -> list[Any] | None:
    """The results of one operation, or of all of a jitted function, or None where it is not one of these.

    Args:
        avals: JAX's types of `args`, arrays and Python numbers.
    """
    if primitive.name == "jit":
        closed = params.get("jaxpr")
        known = closed is not None and not any(getattr(v.aval, "weak_type", False) for v in closed.jaxpr.outvars)
        return _jitted(params, args) if known else None
    weak = params.get("weak_type", bool(avals) and all(a.weak_type for a in avals))
    return None if weak else result(primitive, avals, args, params)  # a weak type is not lost on the way


def result(primitive: Any, avals: Sequence[Any], args: Sequence[Any], params: dict[str, Any]) -> list[Any] | None:
    """The same where weak types do not matter, and of a single operation."""
    f = _OF.get(primitive.name)
    if f is None or not all(a.dtype in _DTYPES for a in avals):
        return None
    try:
        with np.errstate(all="ignore"):
            found = f(*(np.asarray(x, a.dtype) for x, a in zip(args, avals, strict=True)), **params)
    except (TypeError, ValueError):  # parameters of another JAX, say
        return None
    return found if found is None or isinstance(found, list) else [np.asarray(found)]


def _jitted(params: dict[str, Any], args: Sequence[Any]) -> list[Any] | None:
    closed = params.get("jaxpr")
    if closed is None or not all_known(closed):
        return None
    known: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    known.update(zip(closed.jaxpr.invars, args, strict=True))

    def value(atom: Any) -> Any:
        return atom.val if interpret.is_literal(atom) else known[atom]

    for eqn in closed.jaxpr.eqns:
        values, avals = list(map(value, eqn.invars)), [v.aval for v in eqn.invars]
        inner = eqn.primitive.name == "jit"
        found = _jitted(eqn.params, values) if inner else result(eqn.primitive, avals, values, eqn.params)
        if found is None:
            return None
        known.update(zip(eqn.outvars, found, strict=True))
    return [np.asarray(value(v), v.aval.dtype) for v in closed.jaxpr.outvars]


def known_by_numpy(eqn: Any) -> bool:
    """Whether an equation is one of these, as far as its name and its types tell."""
    return eqn.primitive.name in _OF and all(
        getattr(v.aval, "dtype", None) in _DTYPES for v in (*eqn.invars, *eqn.outvars)
    )


def all_known(closed: Any) -> bool:
    """Whether all that is jitted is known here, as far as its names tell."""
    return not closed.effects and all(
        all_known(eqn.params["jaxpr"])
        if eqn.primitive.name == "jit" and "jaxpr" in eqn.params
        else eqn.primitive.name in _OF
        for eqn in closed.jaxpr.eqns
    )


__all__ = ["all_known", "by_numpy", "known_by_numpy", "result"]
