"""A function that decides in Python by its values (`if x > 0`), traced at these: the branch that is taken there.

So does JAX when it differentiates such a function without `jit`: every value is known beside what is traced. JAX has
no way to trace like that for others, so this is a trace of our own, over its inner interface (JAX 0.10); where that
has changed, such functions are refused, as they are under `jit`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import core
from jax.extend.core import jaxpr_as_fun

from jaxcheck.program import jaxpr
from jaxcheck.program.custom.strip import count_rules
from jaxcheck.program.identity import same_program
from jaxcheck.program.mode import NOT_TRACEABLE, is_wide
from jaxcheck.program.native import is_dynamic

NOTE = "f decides in Python by its values: what was checked is what it does at these."
ONE_SIDE = (
    "f decides in Python by its values, and otherwise next to these: what was checked is one side of a kink or jump."
)
# How far beside the point, relative, that is looked for, and in how many directions either way; and what two ways of
# computing a value may differ by, in roots of its rounding unit. A kink makes a difference of the order of the move.
_BESIDE, _DIRECTIONS, _ALIKE = 2.0**-10, 2, 0.75
# A line that asks this often, each time for what was computed out of what was computed since it asked before, is a loop
# that ends by its values. Its derivative is that of the turns that it took, which a custom rule for where it leads to
# is not to be held to. (A line that asks of one item after the other, as `max(x)` or a mask as index, is none.)
_TURNS = 3


def of(f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """`f` as it decides at these arguments, traceable; `f` itself where even then it cannot be traced.

    The returned function takes and gives what `f` does, in any dtype, and keeps its custom rules; it is of these shapes
    alone.
    """
    flat, tree = jax.tree_util.tree_flatten((tuple(args), kwargs))
    known: dict[Any, tuple[Any, Any, bool]] = {}

    @functools.wraps(f, assigned=("__name__", "__qualname__", "__module__", "__doc__"), updated=())
    def decided(*args: Any, **kwargs: Any) -> Any:
        given = [x for x, y in zip(jax.tree_util.tree_leaves((args, kwargs)), flat, strict=True) if _is_number(y)]
        key = (is_wide(), *(jax.typeof(x).dtype for x in given))
        found = known.get(key)
        if found is None:
            with core.set_current_trace(core.eval_trace):
                here = [_cast(x, d) for x, d in zip(filter(_is_number, flat), key[1:], strict=True)]
            found = _along(f, flat, tree, here)
            # What draws numbers of its own is another program each time, as whoever traces it twice is to find out.
            if same_program(_along(f, flat, tree, here)[0], found[0]):
                known[key] = found
        closed, out, _ = found
        return jax.tree_util.tree_unflatten(out, jaxpr_as_fun(closed)(*given))

    try:
        jax.eval_shape(lambda: decided(*args, **kwargs))
    except (*NOT_TRACEABLE, AttributeError, TypeError, NotImplementedError, jax.errors.UnexpectedTracerError):
        return f
    # A float that went to Python comes back as a constant: no derivative goes through it, in this program least of all.
    if any(left for *_, left in known.values()) and said(f, decided, args, kwargs) == ONE_SIDE:
        return f
    return decided


def said(f: Callable, along: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """What a reader has to know of a check of `along`, which is `f` as it decides at these arguments."""
    rng = np.random.default_rng(0)
    for _ in range(_DIRECTIONS):
        flat, tree = jax.tree_util.tree_flatten((tuple(args), kwargs))
        moves = [_BESIDE * rng.uniform(0.5, 1.0, np.shape(x)) if _moves(x) else 0 for x in flat]
        for sign in (1, -1):
            moved = [_moved(x, sign * m) if _moves(x) else x for x, m in zip(flat, moves, strict=True)]
            a, k = jax.tree_util.tree_unflatten(tree, moved)
            if not _alike(jax.tree_util.tree_leaves(f(*a, **k)), jax.tree_util.tree_leaves(along(*a, **k))):
                return ONE_SIDE
    return NOTE


def _moves(x: Any) -> bool:
    return _is_number(x) and jax.dtypes.issubdtype(jax.dtypes.result_type(x), np.inexact)


def _moved(x: Any, by: Any) -> Any:
    """A number moved relative to its size, and zero by as much as 1."""
    x = jnp.asarray(x)
    return x + (by * jnp.where(x == 0, 1, jnp.abs(x))).astype(x.dtype)


def _alike(ones: Sequence[Any], others: Sequence[Any]) -> bool:
    for one, other in zip(ones, others, strict=True):
        if np.shape(one) != np.shape(other):  # a mask as index lets more or fewer through
            return False
        if _moves(one):
            unit = float(jnp.finfo(jax.dtypes.result_type(one)).eps)
            if not np.allclose(one, other, rtol=unit**_ALIKE, atol=0, equal_nan=True):
                return False
    return True


def _is_number(x: Any) -> bool:
    return is_dynamic(x) or isinstance(x, (float, complex))


def _cast(x: Any, dtype: Any) -> Any:
    found = x if isinstance(x, jax.Array) else jnp.asarray(x)
    return found if found.dtype == dtype else found.astype(dtype)


def _along(f: Callable, flat: Sequence[Any], tree: Any, here: Sequence[Any]) -> tuple[Any, Any, bool]:
    """`f` as a closed jaxpr of its numbers, traced as it decides `here`; the tree of what it returns; did floats leave?

    Raises:
        NotImplementedError: it turns until its values say so, and a custom rule is in it.
        Whatever tracing it raises.
    """
    seen: dict[str, Any] = {}

    def along(*staged: Any) -> Any:
        trace = seen["trace"] = _Along(core.trace_ctx.trace)
        pairs = iter([_Known(trace, *pair) for pair in zip(staged, here, strict=True)])
        args, kwargs = jax.tree_util.tree_unflatten(tree, [next(pairs) if _is_number(x) else x for x in flat])
        with core.set_current_trace(trace):
            out, seen["out"] = jax.tree_util.tree_flatten(f(*args, **kwargs))
        return [trace.apart(x)[0] for x in out]

    closed = jax.make_jaxpr(along)(*here)
    if seen["trace"].loops and count_rules(closed, "user"):
        raise NotImplementedError("a loop that ends by its values, and a custom rule")
    return closed, seen["out"], seen["trace"].left


class _Along(core.Trace):
    """Emits every operation into the trace beneath, and computes it."""

    def __init__(self, beneath: Any):
        super().__init__()
        self._beneath = beneath
        self._asks = 0
        self.left = False  # whether a float went to Python, and not into a comparison there alone
        self._turns: dict[Any, set[int]] = {}

    @property
    def loops(self) -> bool:
        """Whether one line asked again and again for values that follow from each other."""
        return max(map(len, self._turns.values()), default=0) >= _TURNS

    def asked(self, known: _Known) -> None:
        """Somebody asks for a value: who, are the frames down to the first beyond JAX's and our own."""
        frame, who = sys._getframe(1), []
        while frame is not None:
            who.append((frame.f_code, frame.f_lineno))
            if frame.f_globals.get("__name__", "").split(".")[0] not in ("jax", "jaxcheck"):
                break
            frame = frame.f_back
        self._turns.setdefault(tuple(who), set()).add(known.turn)
        self._asks += 1

    def _known(self, staged: Any, value: Any, of: Sequence[Any], moves: bool = False) -> _Known:
        """What was computed of others: its turn is one more than that of those from before the last question, unless it
        is an item of theirs."""
        of = [x for x in of if isinstance(x, _Known)]
        if moves and (numbers := [x for x in of if _moves(x.staged)]):
            return _Known(self, staged, value, *max((x.turn, x.asks) for x in numbers))
        return _Known(self, staged, value, max((x.turn + (x.asks < self._asks) for x in of), default=0), self._asks)

    def apart(self, x: Any) -> tuple[Any, Any]:
        """(what is traced, the value)."""
        return (x.staged, x.value) if isinstance(x, _Known) else (x, x)

    def stage_value(self, val: Any) -> Any:
        return self._both([val], lambda xs: core.trace_ctx.trace.stage_value(*xs), False)

    def process_primitive(self, primitive: Any, tracers: Sequence[Any], params: Any, /) -> Any:
        run, moves = lambda xs: primitive.bind(*xs, **params), primitive.name in jaxpr.MOVES
        return self._both(tracers, run, primitive.multiple_results, moves)

    def process_custom_jvp_call(self, primitive: Any, fun: Any, jvp: Any, tracers: Any, /, **params: Any) -> Any:
        return self._ruled(primitive, (fun, jvp), tracers, params)

    def process_custom_vjp_call(
        self, primitive: Any, fun: Any, fwd: Any, bwd: Any, tracers: Any, /, **params: Any
    ) -> Any:
        return self._ruled(primitive, (fun, fwd, bwd), tracers, params)

    def _ruled(self, primitive: Any, functions: tuple[Any, ...], tracers: Any, params: dict[str, Any]) -> Any:
        staged, values = zip(*map(self.apart, tracers), strict=True)
        with core.set_current_trace(core.eval_trace):
            known = functions[0].call_wrapped(*values)
        for store in functions[0].stores:  # filled once by every call: it is called again, to be traced
            if store is not None:
                store.reset()
        process = {2: "process_custom_jvp_call", 3: "process_custom_vjp_call"}[len(functions)]
        with core.set_current_trace(self._beneath):
            out = getattr(self._beneath, process)(primitive, *functions, staged, **params)
        return [self._known(s, x, tracers) for s, x in zip(out, known, strict=True)]

    def _both(self, tracers: Sequence[Any], run: Callable, several: bool, moves: bool = False) -> Any:
        staged, values = zip(*map(self.apart, tracers), strict=True) if tracers else ((), ())
        with core.set_current_trace(core.eval_trace):
            known = run(values)
        with core.set_current_trace(self._beneath):
            out = run(staged)
        if not several:
            return self._known(out, known, tracers, moves)
        return [self._known(s, x, tracers, moves) for s, x in zip(out, known, strict=True)]


class _Known(core.Tracer):
    """What is traced, its value, how many questions lie on the way to it, and how many were asked before it was."""

    def __init__(self, trace: Any, staged: Any, value: Any, turn: int = 0, asks: int = 0):
        super().__init__(trace, jax.typeof(staged))
        self.staged, self.value, self.turn, self.asks = staged, value, turn, asks

    def to_concrete_value(self) -> Any:
        self._trace.asked(self)
        # `x.item()`, jnp.unique: a float that is not asked for as a condition (`if x:`), or whether there is a value.
        frame = sys._getframe(1)
        while frame.f_code.co_name == "to_concrete_value" and frame.f_back is not None:
            frame = frame.f_back
        self._trace.left |= _moves(self.staged) and frame.f_code.co_name not in ("__bool__", "is_concrete")
        return core.to_concrete_value(self.value)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        if _moves(self.staged):  # JAX lets indices and masks be looked at alone: a float would lose its derivative
            return super().__array__(*args, **kwargs)
        self._trace.asked(self)
        return np.asarray(self.value, *args, **kwargs)


__all__ = ["NOTE", "ONE_SIDE", "of", "said"]
