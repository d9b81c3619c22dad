"""Small changes of a program, each a function in place of one operation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.program.where.kernels import kernel, wide
from jaxcheck.program.where.sites import Group, Site
from jaxcheck.program.where.tape import Op, Tape

OUT = -1
# A factor that spreads a value along axes in which it has length 1.
WIDER = "times wider"


@dataclasses.dataclass(frozen=True, eq=False)
class Edit:
    """A change at a site.

    `slot` is the operand that is changed, or OUT: the result. `form` says how: the value becomes what `_FORMS` makes
    of it, of the values of `groups` and of `factor`, summed over `axes` where it sums; or, where `other` is given,
    another operation stands there.
    """

    site: Site
    slot: int
    form: str
    groups: tuple[Group, ...] = ()
    factor: float = 1.0
    other: Callable | None = None
    backwards: bool = False  # the loss's instances in the other order
    detail: str = ""
    axes: tuple[int, ...] = ()

    def at(self, tape: Tape, point: int) -> dict[int, Callable]:
        """What is run in place of the site's operations, at one of the points."""
        found = {}
        for n, k in enumerate(self.site.ops):
            found[k] = self._one(tape.ops[k], n, point)
        return found

    def first(self, tape: Tape) -> Callable:
        """What is run in place of the first of them, at the first point."""
        return self._one(tape.ops[self.site.ops[0]], 0, 0)

    def _one(self, op: Op, n: int, point: int) -> Callable:
        def run(operands: Sequence[np.ndarray], now: Sequence[np.ndarray]) -> list[np.ndarray]:
            if self.other is not None:
                return [wide(x) for x in self.other(op, operands)]
            given = [value_of(g, n, len(self.site.ops), now, point, self.backwards) for g in self.groups]
            if self.slot == OUT:
                old = op.run(*operands)
                new = self.made_of(old[0], *given)
                if self.form == WIDER:
                    return [new, *old[1:]]
                return [same_shape(np.broadcast_to(new, old[0].shape) if self.axes else new, old[0]), *old[1:]]
            full, new = list(operands), self.made_of(operands[self.slot], *given)
            if self.form == "sum over":  # over other axes it keeps other ones
                full[self.slot] = np.broadcast_to(new, np.broadcast_shapes(*(x.shape for x in operands)))
            else:
                full[self.slot] = same_shape(new, full[self.slot])
            return list(op.run(*full))

        return run

    def made_of(self, value: np.ndarray, *given: np.ndarray) -> np.ndarray:
        """What becomes of the value that is changed."""
        form = FORMS[self.form]
        return form(value, self.factor, *given, axes=self.axes) if self.axes else form(value, self.factor, *given)


def value_of(group: Group, n: int, count: int, now: Sequence[np.ndarray], point: int, backwards: bool) -> np.ndarray:
    """The n-th of `count` instances."""
    length = len(group.ids) or len(group.arrays[point])
    j = (count - 1 - n if backwards else n) if length == count else 0
    return now[group.ids[j]] if group.what == "own" else group.arrays[point][j]


def same_shape(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Raises ValueError where a change has made another shape of a value, or fractions of indices."""
    if x.shape != like.shape:
        raise ValueError("another shape")
    if like.dtype.kind in "iu" and x.dtype.kind == "f":
        if not (x == np.trunc(x)).all():
            raise ValueError("not whole numbers")
        return x.astype(like.dtype)
    return x


def fitted(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """A value in a shape: as it is, broadcast, without axes of length 1 or with more of them, transposed, along the
    first axes (a mask of rows, `m[..., None]`); or None."""
    if x.shape == shape:
        return x
    try:
        return np.broadcast_to(x, shape)
    except ValueError:
        pass
    bare = tuple(n for n in x.shape if n != 1)
    if bare == tuple(n for n in shape if n != 1):
        return x.reshape(shape)
    if x.ndim == 2 and x.T.shape == shape:
        return x.T
    if 0 < x.ndim < len(shape) and x.shape == shape[: x.ndim]:
        return np.broadcast_to(x.reshape(*x.shape, *[1] * (len(shape) - x.ndim)), shape)
    return None


def _fit(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    found = fitted(x, like.shape)
    if found is None:
        raise ValueError("another shape")
    return found


def widens(x: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether a value beside one of a shape gives one of more numbers, along axes that have length 1 there."""
    try:
        both = np.broadcast_shapes(x.shape, shape)
    except ValueError:
        return False
    return len(both) == len(shape) and both != shape


def _widened(v: np.ndarray, c: float, p: np.ndarray) -> np.ndarray:
    if not widens(p, v.shape):
        raise ValueError("no axis to be spread")
    return c * v * p


def _softmax(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    e = np.exp(x - x.max(axis=axes, keepdims=True))
    return e / e.sum(axis=axes, keepdims=True)


def _total(over: Callable, those: Sequence[np.ndarray], axes: tuple[int, ...]) -> np.ndarray:
    """A product, summed or averaged over axes that stay as axes of length 1."""
    return over(math.prod(those[1:], start=those[0]), axis=axes, keepdims=True)


FORMS: dict[str, Callable] = {
    "sum over": lambda v, c, p, axes: p.sum(axis=axes, keepdims=True),
    "softmax over": lambda v, c, p, axes: _softmax(p, axes),
    "log softmax over": lambda v, c, p, axes: np.log(_softmax(p, axes)),
    "index": lambda v, c: v + c,
    "scale": lambda v, c: c * v,
    "swap": lambda v, c, p: c * _fit(p, v),
    "turned": lambda v, c, p: c * _fit(p.T, v),
    "times": lambda v, c, p: c * v * _fit(p, v),
    WIDER: _widened,
    "over": lambda v, c, p: c * v / _fit(p, v),
    "plus": lambda v, c, p: v + c * _fit(p, v),
    "plus product": lambda v, c, p, q: v + c * _fit(p, v) * _fit(q, v),
    "product": lambda v, c, p, q: c * _fit(p, v) * _fit(q, v),
    "plus sum": lambda v, c, *those, axes: v + c * _total(np.sum, those, axes),
    "plus mean": lambda v, c, *those, axes: v + c * _total(np.mean, those, axes),
    "plus times sum": lambda v, c, p, *those, axes: v + c * _fit(p, v) * _total(np.sum, those, axes),
    "plus times mean": lambda v, c, p, *those, axes: v + c * _fit(p, v) * _total(np.mean, those, axes),
    "transpose": lambda v, c: np.swapaxes(v, -1, -2),
    "conjugate": lambda v, c: np.conj(v),
    "adjoint": lambda v, c: np.conj(np.swapaxes(v, -1, -2)),
    "times i": lambda v, c: 1j * v,
    "over i": lambda v, c: -1j * v,
    "square": lambda v, c: v * v,
    "root": lambda v, c: np.sqrt(v),
    "one minus": lambda v, c: 1 - v,
    "slope of tanh": lambda v, c: 1 - v * v,
    "slope of sigmoid": lambda v, c: v * (1 - v),
    "exp": lambda v, c: np.exp(v),
    "log": lambda v, c: np.log(v),
    "tanh": lambda v, c: np.tanh(v),
    "inverse": lambda v, c: 1 / v,
    "cube": lambda v, c: v**3,
    "not": lambda v, c: ~v if v.dtype == bool else 1 - v,
    "flip": lambda v, c: np.flip(v, int(c)),
    "later": lambda v, c: np.roll(v, -1, int(c)),
    "earlier": lambda v, c: np.roll(v, 1, int(c)),
}
# Changes that put another value, or other rows of it, in the place of one.
REPLACED, MOVED = ("swap", "turned", "product"), ("flip", "later", "earlier")
UNARY = ("square", "root", "one minus", "slope of tanh", "slope of sigmoid", "exp", "log", "tanh", "inverse", "cube")
_OF_COMPLEX = ("conjugate", "times i", "over i", "square", "one minus", "exp", "inverse")

_INSTEAD = {
    "add": ("sub", "mul", "max"), "sub": ("add", "mul"), "mul": ("div", "add"), "div": ("mul", "sub"),
    "max": ("min",), "min": ("max",), "gt": ("lt",), "lt": ("gt",), "ge": ("le",), "le": ("ge",),
    "eq": ("ne",), "ne": ("eq",), "exp": ("log", "expm1"), "log": ("log1p", "exp"), "tanh": ("logistic", "sin"),
    "logistic": ("tanh",), "sqrt": ("square", "rsqrt"), "square": ("sqrt",), "rsqrt": ("sqrt",), "sin": ("cos",),
    "cos": ("sin",), "log1p": ("log",), "expm1": ("exp",), "abs": ("sign",), "sign": ("abs",),
    "scatter": ("scatter-add",), "add_any": ("sub",),
}  # fmt: skip
_DROPPED = ("transpose", "neg", "rev", "square", "integer_pow", "sqrt", "sign", "abs", "tanh", "exp", "log", "logistic",
            "sort", "cumsum", "cumprod", "round", "floor", "ceil", "convert_element_type", "conj")  # fmt: skip
_COMMUTE = ("sub", "div", "gt", "lt", "ge", "le", "select_n", "dot_general", "pow")


# Powers that have operations of their own.
_AS_POWER = {"square": 2, "sqrt": 0.5, "rsqrt": -0.5}


def _powers(site: Site, y: float) -> Iterator[Edit]:
    for power in {y - 2, y - 1, y + 1, y + 2, -y, 2 * y} - {0, y}:
        yield Edit(site, OUT, "power", other=lambda op, xs, n=power: [wide(xs[0]) ** float(n)], detail=str(power))


def structural(tape: Tape, site: Site) -> Iterator[Edit]:
    """Another operation at a site: dropped, exchanged, its operands exchanged, other axes, another power."""
    op = tape.ops[site.ops[0]]
    operands = [tape.values[i] for i in op.ins]
    out = tape.values[op.outs[0]]
    if len(op.outs) != 1:
        return
    if len(operands) > 1 or op.name in _DROPPED:
        for j, x in enumerate(operands):
            if x.shape == out.shape and (x.dtype == out.dtype or op.name == "convert_element_type"):
                yield Edit(site, OUT, "drop", other=lambda op, xs, j=j: [xs[j]], detail=str(j))
    for name in _INSTEAD.get(op.name, ()):
        instead = _as(name)
        if instead is not None:
            yield Edit(site, OUT, "instead", other=instead, detail=name)
    if op.name in _COMMUTE and len(operands) >= 2:
        a, b = len(operands) - 2, len(operands) - 1
        if operands[a].shape == operands[b].shape:
            yield Edit(site, OUT, "exchange", other=_exchanged(a, b))
    if op.name == "integer_pow" or op.name in _AS_POWER:
        yield from _powers(site, op.eqn.params["y"] if op.name == "integer_pow" else _AS_POWER[op.name])
    if op.name == "cumsum":
        yield Edit(site, OUT, "reverse", other=lambda op, xs: [np.flip(op.run(np.flip(xs[0]))[0])])


def _exchanged(a: int, b: int) -> Callable:
    def run(op: Op, xs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        xs = list(xs)
        xs[a], xs[b] = xs[b], xs[a]
        return op.run(*xs)

    return run


def _as(name: str) -> Callable | None:
    if name == "scatter-add":
        return lambda op, xs: [_scatter_add(op.eqn, xs)]
    stand_in = kernel(_Named(name))
    return lambda op, xs: stand_in(*xs)


class _Named:
    """An equation of a primitive without parameters."""

    def __init__(self, name: str):
        self.primitive = type("primitive", (), {"name": name})
        self.params: dict[str, Any] = {}


def _scatter_add(eqn: Any, xs: Sequence[np.ndarray]) -> np.ndarray:
    with jax.enable_x64(True):
        operand, indices, updates = map(np.asarray, xs)
        return wide(
            jax.lax.scatter_add(operand, indices, updates, eqn.params["dimension_numbers"], mode=eqn.params["mode"])
        )


def unary(tape: Tape, site: Site, slot: int, value: np.ndarray, operation: Op) -> Iterator[Edit]:
    """The value at a slot changed by itself."""
    if value.dtype == bool:
        yield Edit(site, slot, "not")
        return
    if value.dtype.kind not in "fc":
        return
    square, is_complex = value.ndim >= 2 and value.shape[-1] == value.shape[-2] > 1, value.dtype.kind == "c"
    for name in ("transpose",) * square + ("adjoint",) * (is_complex and square):
        yield Edit(site, slot, name)
    for name in _OF_COMPLEX if is_complex else UNARY:
        yield Edit(site, slot, name)
    if slot == OUT or operation.name in ("dot_general", "mul"):
        for axis in range(value.ndim):
            if value.shape[axis] > 1:
                yield Edit(site, slot, "flip", factor=float(axis))
                if value.shape[axis] > 2:
                    yield Edit(site, slot, "later", factor=float(axis))
                    yield Edit(site, slot, "earlier", factor=float(axis))
    if value.size and value.ndim and not ((value != 0) & (value != 1)).any():
        yield Edit(site, slot, "not")
