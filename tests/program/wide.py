"""A jaxpr in extended precision, on NumPy: what a program gives where rounding is too small to matter.

Truth for calibration, slow and for the primitives of the tests only. Data that is only moved about is moved
by JAX itself: the operation runs on numbered entries, and the numbers say which went where.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np

from jaxcheck.program import interpret, jaxpr
from jaxcheck.program.ways import rounded

WIDE = np.longdouble
IS_WIDE = np.finfo(WIDE).eps < 1e-18


def _by_mpmath(function):
    def call(*args):
        flat = np.broadcast_arrays(*args)
        with mp.workdps(30):
            rows = zip(*(a.flat for a in flat), strict=True)
            values = [WIDE(mp.nstr(function(*(mp.mpf(str(v)) for v in row)), 25)) for row in rows]
        return np.array(values, WIDE).reshape(flat[0].shape)

    return call


_ELEMENTWISE = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "add_any": np.add,
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x), "cbrt": np.cbrt, "square": np.square,
    "logistic": lambda x: 1 / (1 + np.exp(-x)), "pow": np.power, "max": np.maximum, "min": np.minimum, "abs": np.abs,
    "sign": np.sign, "atan": np.arctan, "atan2": np.arctan2, "erf": _by_mpmath(mp.erf),
    "lgamma": _by_mpmath(lambda x: mp.re(mp.loggamma(x))), "digamma": _by_mpmath(mp.digamma),
    "gt": np.greater, "lt": np.less, "ge": np.greater_equal, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal,
    "and": np.bitwise_and, "or": np.bitwise_or, "not": np.bitwise_not, "is_finite": np.isfinite, "floor": np.floor,
}  # fmt: skip


def _dot(a, b, dimension_numbers, **_):
    (ca, cb), (ba, bb) = dimension_numbers
    free = [i for i in range(a.ndim) if i not in (*ca, *ba)], [i for i in range(b.ndim) if i not in (*cb, *bb)]
    left = a.transpose(*ba, *free[0], *ca)
    right = b.transpose(*bb, *free[1], *cb)
    batch, n = left.shape[: len(ba)], int(np.prod([a.shape[i] for i in ca]))
    shape = (*batch, *(a.shape[i] for i in free[0]), *(b.shape[i] for i in free[1]))
    left, right = left.reshape(*batch, -1, n), right.reshape(*batch, -1, n)
    return (left[..., :, None, :] * right[..., None, :, :]).sum(-1).reshape(shape)


def _cholesky(a, **_):
    out = np.zeros_like(a)
    for j in range(a.shape[-1]):
        out[j, j] = np.sqrt(a[j, j] - (out[j, :j] ** 2).sum())
        for i in range(j + 1, a.shape[-1]):
            out[i, j] = (a[i, j] - (out[i, :j] * out[j, :j]).sum()) / out[j, j]
    return out


def _triangular_solve(a, b, left_side, lower, transpose_a, conjugate_a, unit_diagonal, **_):
    a, b = np.array(a), np.array(b)
    if not left_side:  # x a = b
        return _triangular_solve(a.T, b.T, True, not lower, transpose_a, conjugate_a, unit_diagonal).T
    if transpose_a:
        a, lower = a.T, not lower
    out = np.zeros_like(b)
    order = range(a.shape[0]) if lower else reversed(range(a.shape[0]))
    for i in order:
        known = [j for j in range(a.shape[0]) if (j < i if lower else j > i)]
        out[i] = (b[i] - (a[i, known, None] * out[known]).sum(0)) / (1 if unit_diagonal else a[i, i])
    return out


def _lu(a, **_):
    _, pivots, order = jax.lax.linalg.lu(jnp.asarray(np.asarray(a, np.float64)))
    out = np.array(a)[np.asarray(order)]
    for k in range(a.shape[0]):
        out[k + 1 :, k] /= out[k, k]
        out[k + 1 :, k + 1 :] -= out[k + 1 :, k, None] * out[None, k, k + 1 :]
    return [out, np.asarray(pivots), np.asarray(order)]


def _cumsum(x, axis, reverse):
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)


def _broadcast(x, shape, broadcast_dimensions, **_):
    wide = np.reshape(
        x, [x.shape[broadcast_dimensions.index(i)] if i in broadcast_dimensions else 1 for i in range(len(shape))]
    )
    return np.broadcast_to(wide, shape)


def _scatter_add(eqn, operand, indices, updates):
    """Each update on its own, by where JAX puts a one."""
    out = np.array(operand)
    dtype = eqn.outvars[0].aval.dtype
    for i in range(updates.size):
        one = np.zeros(updates.size, dtype)
        one[i] = 1
        at = (
            np.asarray(interpret.bind(eqn, [np.zeros(operand.shape, dtype), indices, one.reshape(updates.shape)])[0])
            != 0
        )
        out[at] += updates.flat[i]
    return out


_NAMED = {
    "dot_general": _dot, "cholesky": _cholesky, "triangular_solve": _triangular_solve, "lu": _lu, "cumsum": _cumsum,
    "reduce_sum": lambda x, axes, **_: np.sum(x, axes), "reduce_max": lambda x, axes, **_: np.max(x, axes),
    "reduce_min": lambda x, axes, **_: np.min(x, axes), "integer_pow": lambda x, y: x**y,
    "argmax": lambda x, axes, index_dtype: np.argmax(x, axes[0]).astype(index_dtype),
    "reshape": lambda x, new_sizes, **_: x.reshape(new_sizes),
    "squeeze": lambda x, dimensions: np.squeeze(x, dimensions),
    "transpose": lambda x, permutation: x.transpose(permutation),
    "select_n": lambda which, *cases: np.choose(which, cases),
    "broadcast_in_dim": _broadcast, "rev": lambda x, dimensions: np.flip(x, dimensions),
    "concatenate": lambda *xs, dimension: np.concatenate(xs, dimension), "stop_gradient": lambda x: x,
    "slice": lambda x, start_indices, limit_indices, strides: x[
        tuple(map(slice, start_indices, limit_indices, strides or (1,) * x.ndim))],
    "clamp": lambda low, x, high: np.clip(x, low, high),
}  # fmt: skip


def _is_inexact(x):
    return np.issubdtype(np.asarray(x).dtype, np.inexact)


def _moved(eqn, args):
    """The operation on numbered entries: which of all operands' entries are where in the result."""
    start, numbered, pool, dtype = 0, [], [], eqn.outvars[0].aval.dtype
    for x in args:
        if not _is_inexact(x):
            numbered.append(np.asarray(x))
            continue
        numbered.append((start + np.arange(x.size)).astype(dtype).reshape(x.shape))
        pool.append(np.asarray(x).ravel())
        start += x.size
    return [np.concatenate(pool)[np.asarray(r).astype(int)] for r in interpret.bind(eqn, numbered)]


class Wide(jaxpr.Way):
    """Only calls are left to the evaluator; loops run in Python."""

    def constant(self, value, aval):
        value = np.asarray(interpret.as_declared(value, aval))
        return value.astype(WIDE) if _is_inexact(value) else value

    def whole(self, eqn, operands):
        return eqn.primitive.name in ("scan", "while", "cond")

    def equation(self, eqn, args, state):
        return self._results(eqn, args), state

    def _results(self, eqn, args):
        name, params = eqn.primitive.name, eqn.params
        if name == "cond":
            return evaluate(params["branches"][int(args[0])], args[1:])
        if name == "scan":
            return _scan(params, args)
        if name == "while":
            return _while(params, args)
        if name == "convert_element_type":
            dtype = np.dtype(params["new_dtype"])
            return [np.asarray(args[0]).astype(WIDE if np.issubdtype(dtype, np.inexact) else dtype)]
        if not any(map(_is_inexact, args)):
            return [r.astype(WIDE) if _is_inexact(r) else r for r in map(np.asarray, interpret.bind(eqn, args))]
        if name in _ELEMENTWISE:
            return [np.asarray(_ELEMENTWISE[name](*args))]
        if name == "scatter-add":
            return [_scatter_add(eqn, *args)]
        if name == "sort":
            order = np.asarray(rounded.permutation(eqn, [np.asarray(a, np.float64) for a in args]))
            return [np.take_along_axis(a, order, params["dimension"]) for a in args]
        if name in _NAMED:
            found = _NAMED[name](*args, **params)
            return found if isinstance(found, list) else [np.asarray(found)]
        if name in rounded.EXACT:
            return _moved(eqn, args)
        raise NotImplementedError(f"{name} in extended precision")


def _scan(params, args):
    consts, carry = params["num_consts"], params["num_carry"]
    fixed, values, xs = args[:consts], args[consts : consts + carry], args[consts + carry :]
    rows = []
    for i in range(params["length"])[:: -1 if params["reverse"] else 1]:
        out = evaluate(params["jaxpr"], [*fixed, *values, *(x[i] for x in xs)])
        values = out[:carry]
        rows.append(out[carry:])
    rows = rows[:: -1 if params["reverse"] else 1]
    return [*values, *(np.stack(ys) for ys in zip(*rows, strict=True))]


def _while(params, args):
    a, b = params["cond_nconsts"], params["body_nconsts"]
    asked, fixed, values = args[:a], args[a : a + b], args[a + b :]
    while bool(evaluate(params["cond_jaxpr"], [*asked, *values])[0]):
        values = evaluate(params["body_jaxpr"], [*fixed, *values])
    return values


def evaluate(program, args):
    """The program's results as longdouble arrays; the arguments' digits are taken for exact."""
    args = [np.asarray(a).astype(WIDE) if _is_inexact(a) else np.asarray(a) for a in args]
    with jax.enable_x64(True), np.errstate(all="ignore"):
        return jaxpr.run(Wide(), program, args, None)[0]
