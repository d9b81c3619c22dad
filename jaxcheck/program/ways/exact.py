"""A program in ball arithmetic: what it computes, and its derivative, enclosed instead of estimated.

Every real number is a power series x + x' t + O(t^2) whose coefficients are balls of 200 bits (Arb: Johansson 2017,
IEEE Trans. Comput. 66(8):1281), so that one evaluation gives a directional derivative of the formula itself: no step,
no cancellation, no rule and no stop_gradient. Decisions follow the midpoints; what makes steps of a slope (round,
floor, integers) is refused, for its derivative would be as useless as it is exact. Needs python-flint; slow, on the
host, for the few numbers that float64 cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.program import interpret, jaxpr
from jaxcheck.program.custom import rules
from jaxcheck.program.ways.exact_ops import BITS, OPERATIONS, Unknown, balls, is_balls, middle, series

__all__ = ["Unknown", "available", "derivatives"]

# Iterations of all loops together; beyond it the host would be too slow.
_TURNS = 2000


def available() -> bool:
    """Whether python-flint is there (the extra `exact`)."""
    try:
        import flint  # noqa: F401
    except ImportError:
        return False
    return True


def derivatives(program: Any, args: Sequence[Any], tangents: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The directional derivative of a closed jaxpr's first result, and the radius of its enclosure, raveled.

    Args:
        args: its arguments; real ones are taken as they are, exactly.
        tangents: for each, an array of its shape, or None where it stands still.

    Raises:
        Unknown: an operation, or a number of iterations, that is not known here; a complex number.
    """
    import flint

    before = flint.ctx.prec, flint.ctx.cap
    flint.ctx.prec, flint.ctx.cap = BITS, 2
    try:
        values = [
            balls(x, v) if rules.is_inexact(jax.typeof(x)) else _exactly(x) for x, v in zip(args, tangents, strict=True)
        ]
        out = _Run().program(program, values)[0]
        slope = [s[1] for s in np.ravel(out)]
        return (
            np.array([float(s.mid()) for s in slope]),
            np.array([float(s.rad()) + abs(float(s.mid())) * 2.0**-53 for s in slope]),
        )
    finally:
        flint.ctx.prec, flint.ctx.cap = before


class _Run:
    def __init__(self) -> None:
        self.turns = 0

    def program(self, program: Any, args: Sequence[Any]) -> list[Any]:
        return interpret.evaluate(program, args, self.equation, _constant)

    def equation(self, eqn: Any, operands: list[Any]) -> Sequence[Any]:
        name = eqn.primitive.name
        loop = {"scan": self._scan, "while": self._while, "cond": self._cond}.get(name)
        if loop is not None:
            return loop(eqn, operands)
        inner = jaxpr.nested(eqn)
        if inner is not None:
            return self.program(inner, jaxpr.passed(eqn, operands))
        if name == "stop_gradient":
            return operands
        if not any(map(is_balls, operands)):
            return _same(eqn, interpret.bind(eqn, operands))
        if name in jaxpr.MOVES:
            return _moved(eqn, operands)
        if not any(rules.is_inexact(v.aval) for v in eqn.outvars):
            if name == "convert_element_type" and any(x[1] != 0 for x in operands[0].ravel()):
                raise Unknown("a number that becomes an integer")
            plain = [middle(x, a.aval) for x, a in zip(operands, eqn.invars, strict=True)]
            return _same(eqn, interpret.bind(eqn, plain))
        if any(map(_complex, (*eqn.invars, *eqn.outvars))):
            raise Unknown("complex numbers")
        known = OPERATIONS.get(name)
        if known is None:
            raise Unknown(name)
        return known(eqn, *operands)

    def _count(self) -> None:
        self.turns += 1
        if self.turns > _TURNS:
            raise Unknown(f"more than {_TURNS} iterations")

    def _scan(self, eqn: Any, operands: list[Any]) -> list[Any]:
        body = interpret.closed(eqn.params["jaxpr"])
        consts, carry = jaxpr.scan_layout(eqn, interpret.opened(body))
        fixed, carried, xs = operands[:consts], operands[consts : consts + carry], operands[consts + carry :]
        length = eqn.params["length"]
        order = range(length - 1, -1, -1) if eqn.params["reverse"] else range(length)
        rows: list[Any] = [None] * length
        for i in order:
            self._count()
            out = self.program(body, [*fixed, *carried, *(x[i] if np.ndim(x[i]) else _scalar(x[i]) for x in xs)])
            carried, rows[i] = out[:carry], out[carry:]
        stacked = (
            [_stacked(column) for column in zip(*rows, strict=True)]
            if length
            else [_empty(v.aval) for v in eqn.outvars[carry:]]
        )
        return [*carried, *stacked]

    def _while(self, eqn: Any, operands: list[Any]) -> list[Any]:
        a, b = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        asked, fixed, carried = operands[:a], operands[a : a + b], operands[a + b :]
        while np.asarray(self.program(eqn.params["cond_jaxpr"], [*asked, *carried])[0]).all():
            self._count()
            carried = self.program(eqn.params["body_jaxpr"], [*fixed, *carried])
        return carried

    def _cond(self, eqn: Any, operands: list[Any]) -> list[Any]:
        branches = [interpret.closed(b) for b in eqn.params["branches"]]
        here = jaxpr.for_this_platform(eqn.params.get("branches_platforms"))
        index = int(np.clip(int(operands[0]), 0, len(branches) - 1)) if here is None else here
        return self.program(branches[index], operands[1:])


def _constant(value: Any, aval: Any) -> Any:
    value = interpret.as_declared(value, aval)
    return balls(value, None) if rules.is_inexact(aval) else value


def _complex(atom: Any) -> bool:
    return jax.dtypes.issubdtype(getattr(atom.aval, "dtype", np.int32), np.complexfloating)


def _scalar(x: Any) -> Any:
    out = np.empty((), object)
    out[()] = x
    return out if not isinstance(x, (np.generic, np.ndarray, jax.Array)) else x


def _exactly(x: Any) -> Any:
    """What is no real number; random keys are no array of NumPy's."""
    return x if jax.dtypes.issubdtype(jax.dtypes.result_type(x), jax.dtypes.extended) else np.asarray(x)


def _stacked(column: Sequence[Any]) -> Any:
    return jnp.stack(column) if isinstance(column[0], jax.Array) else np.stack(column)


def _empty(aval: Any) -> np.ndarray:
    return np.empty(aval.shape, object if rules.is_inexact(aval) else aval.dtype)


def _same(eqn: Any, results: Sequence[Any]) -> list[Any]:
    """Results of an equation on what is known exactly."""
    return [
        balls(r, None) if rules.is_inexact(v.aval) else _exactly(r) for r, v in zip(results, eqn.outvars, strict=True)
    ]


def _moved(eqn: Any, operands: list[Any]) -> list[Any]:
    """An equation that only moves entries: it moves their numbers, and a fill of NaN is no entry."""
    pool, numbers = [series(float("nan"), 0.0)], []
    for x in operands:
        if is_balls(x):
            numbers.append(np.arange(len(pool), len(pool) + x.size, dtype=np.float64).reshape(x.shape))
            pool += list(x.ravel())
        else:
            numbers.append(x)
    out = []
    for r, v in zip(interpret.bind(eqn, numbers), eqn.outvars, strict=True):
        found = np.asarray(r)
        if not rules.is_inexact(v.aval):
            out.append(found)
            continue
        index = np.where(np.isfinite(found), found, 0).astype(np.int64).ravel()
        entries = np.empty(found.size, object)
        for i, k in enumerate(index):
            entries[i] = pool[k]
        out.append(entries.reshape(found.shape))
    return out
