"""One recursion through a program, whoever interprets its equations.

Calls are opened, whatever kind of call they are: what a custom rule or a checkpoint says matters to
differentiation only, and this runs programs that are differentiated already, or never. Loops and
branches are built again around their bodies. A `Way` says what the values are and what becomes of a
single equation, and may carry a state along (a hash, a position), which goes through every loop and
branch with the values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxcheck.program import interpret
from jaxcheck.program.custom import rules

State = TypeVar("State")

# Equations that compute what the program in them computes, on the same operands.
_CALLS = (
    "jit", "pjit", "closed_call", "core_call", "call", "remat", "remat2", "checkpoint", "eval_jaxpr", "linear_call",
    "custom_vmap_call", "custom_dce_call", "composite", "xla_metadata_call", "custom_lin", "call_hi_primitive",
    rules.FORWARD,
)  # fmt: skip
# Equations that only move entries, each of a result being one of an operand.
MOVES = frozenset({
    "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "slice", "dynamic_slice", "rev", "gather",
    "concatenate", "pad", "select_n", "dynamic_update_slice", "copy", "copy_p", "split", "scatter",
})  # fmt: skip
# Prints would appear once for each of the runs that a way makes of one evaluation.
_DROPPED = ("debug_callback", "debug_print")


class Way(Generic[State]):
    """An interpretation of single equations.

    A value is any pytree of arrays. Within a program it may take whatever form is cheapest; where its
    structure must not depend on the path taken (what a loop carries, what branches return) it takes its
    `general` form. The state before a loop goes into its first iteration by `begin`, from one iteration to
    the next by `turn`, and what it is afterwards says `end`; a branch is a loop of one iteration, with its
    `index` given.
    """

    def __init__(self) -> None:
        self.callers: list[Any] = []  # the equations around the one at hand, outermost first

    def constant(self, value: Any, aval: Any) -> Any:
        """What a constant or a literal of the program is read as."""
        raise NotImplementedError

    def equation(self, eqn: Any, operands: list[Any], state: State) -> tuple[Sequence[Any], State]:
        """The results of one equation, and the state after it."""
        raise NotImplementedError

    def plain(self, value: Any) -> Any:
        """The array that decisions are taken from: a loop's condition, the index of a branch."""
        raise NotImplementedError

    def general(self, value: Any, aval: Any) -> Any:
        """The value in the one form that every value of this type can take."""
        raise NotImplementedError

    def whole(self, eqn: Any, operands: list[Any]) -> bool:
        """Whether a call, a loop or a branch is to be taken as a single equation."""
        return False

    def begin(self, eqn: Any, state: State, index: Any = None) -> State:
        return state

    def turn(self, eqn: Any, state: State) -> State:
        return state

    def end(self, eqn: Any, before: State, after: State) -> State:
        return after


class OfArrays(Way[None]):
    """A way whose values are plain arrays, and which carries no state along."""

    def constant(self, value: Any, aval: Any) -> Any:
        return interpret.as_declared(value, aval)

    def plain(self, value: Any) -> Any:
        return value

    def general(self, value: Any, aval: Any) -> Any:
        return array(value, aval)


class _Layout(NamedTuple):
    consts: int
    carry: int


def run(way: Way[State], program: Any, args: Sequence[Any], state: State) -> tuple[list[Any], State]:
    """A program's results in a way, and the state at its end.

    Raises:
        TypeError: if the number of arguments is not the program's.
    """

    def handle(eqn: Any, operands: list[Any]) -> Sequence[Any]:
        nonlocal state
        results, state = _equation(way, eqn, operands, state)
        return results

    return interpret.evaluate(program, args, handle, way.constant), state


def nested(eqn: Any) -> Any | None:
    """The program that an equation is nothing but a call of, or None."""
    if eqn.primitive.name == "custom_linear_solve":
        return interpret.closed(eqn.params["jaxprs"].solve)
    if eqn.primitive.name not in _CALLS and rules.rule_kind(eqn) is None:
        return None
    program = rules.primal(eqn)
    if program is None:
        return None
    inner = interpret.opened(program)
    fits = len(inner.invars) == len(eqn.invars) and len(inner.outvars) == len(eqn.outvars)
    return program if fits else None


def _equation(way: Way[State], eqn: Any, operands: list[Any], state: State) -> tuple[Sequence[Any], State]:
    name = eqn.primitive.name
    if name in _DROPPED:
        return [], state
    open_loop = _OPENED.get(name)
    program = nested(eqn) if open_loop is None else None
    if (open_loop is None and program is None) or way.whole(eqn, operands):
        return way.equation(eqn, operands, state)
    way.callers.append(eqn)
    try:
        if open_loop is not None:
            return open_loop(way, eqn, operands, state)
        return run(way, program, passed(eqn, operands), state)
    finally:
        way.callers.pop()


def passed(eqn: Any, operands: list[Any]) -> list[Any]:
    """The operands which an equation's program is called with."""
    if eqn.primitive.name != "custom_linear_solve":
        return operands
    # matvec's constants, vecmat's, solve's, transpose_solve's, then the right-hand sides.
    lengths = eqn.params["const_lengths"]
    start = lengths.matvec + lengths.vecmat
    return [*operands[start : start + lengths.solve], *operands[sum(lengths) :]]


def _general(way: Way[State], values: Sequence[Any], atoms: Sequence[Any]) -> list[Any]:
    return [way.general(value, atom.aval) for value, atom in zip(values, atoms, strict=True)]


def _scan(way: Way[State], eqn: Any, operands: list[Any], state: State) -> tuple[list[Any], State]:
    body = interpret.closed(eqn.params["jaxpr"])
    inner = interpret.opened(body)
    consts, carry = scan_layout(eqn, inner)
    fixed, init, xs = operands[:consts], operands[consts : consts + carry], operands[consts + carry :]

    def step(carried: tuple[list[Any], State], row: list[Any]) -> tuple[Any, list[Any]]:
        values, inside = carried
        out, inside = run(way, body, [*fixed, *values, *row], inside)
        return (_general(way, out[:carry], inner.outvars[:carry]), way.turn(eqn, inside)), out[carry:]

    first = (_general(way, init, inner.invars[consts : consts + carry]), way.begin(eqn, state))
    known = {key: eqn.params[key] for key in ("length", "reverse", "unroll") if key in eqn.params}
    (values, after), ys = lax.scan(step, first, xs, **known)
    return [*values, *ys], way.end(eqn, state, after)


def scan_layout(eqn: Any, inner: Any) -> _Layout:
    """Told by the types: what is scanned over has one axis more outside than in the body.

    The parameters that hold the layout have other names in every few versions of JAX.
    """
    scanned = sum(len(a.aval.shape) != len(b.aval.shape) for a, b in zip(eqn.invars, inner.invars, strict=True))
    stacked = sum(len(a.aval.shape) != len(b.aval.shape) for a, b in zip(eqn.outvars, inner.outvars, strict=True))
    carry = len(eqn.outvars) - stacked
    return _Layout(len(eqn.invars) - scanned - carry, carry)


def _while(way: Way[State], eqn: Any, operands: list[Any], state: State) -> tuple[list[Any], State]:
    a, b = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    condition, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
    asked, fixed, init = operands[:a], operands[a : a + b], operands[a + b :]
    types = interpret.opened(body).outvars

    def going_on(carried: tuple[list[Any], State]) -> Any:
        return jaxpr_as_fun(condition)(*map(way.plain, (*asked, *carried[0])))[0]

    def step(carried: tuple[list[Any], State]) -> tuple[list[Any], State]:
        out, inside = run(way, body, [*fixed, *carried[0]], carried[1])
        return _general(way, out, types), way.turn(eqn, inside)

    def by_row(carried: tuple[list[Any], State]) -> tuple[list[Any], State]:
        live, (values, inside) = going_on(carried), step(carried)
        return jax.tree_util.tree_map(
            lambda new, old: jnp.where(over_rows(live, new), new, old), values, carried[0]
        ), inside

    # Under vmap the condition has an answer for each row, and the values of a row that is done stand still.
    rows = bool(interpret.opened(condition).outvars[0].aval.shape)
    values, after = lax.while_loop(
        (lambda carried: jnp.any(going_on(carried))) if rows else going_on, by_row if rows else step,
        (_general(way, init, types), way.begin(eqn, state)))  # fmt: skip
    return values, way.end(eqn, state, after)


def over_rows(flags: Any, like: Any) -> Any:
    """Flags of rows, along the leading axes of an array, with as many axes as that has."""
    return flags.reshape(flags.shape + (1,) * (like.ndim - flags.ndim))


def _cond(way: Way[State], eqn: Any, operands: list[Any], state: State) -> tuple[list[Any], State]:
    index = way.plain(operands[0])
    inside = way.begin(eqn, state, index)
    branches = [interpret.closed(b) for b in eqn.params["branches"]]

    def taken(program: Any) -> Callable[[], tuple[list[Any], State]]:
        def branch() -> tuple[list[Any], State]:
            out, after = run(way, program, operands[1:], inside)
            return _general(way, out, eqn.outvars), way.turn(eqn, after)

        return branch

    here = for_this_platform(eqn.params.get("branches_platforms"))
    if here is not None:  # the others may hold what this platform cannot compile
        values, after = taken(branches[here])()
    else:
        values, after = lax.switch(index, [taken(b) for b in branches])
    return values, way.end(eqn, state, after)


def for_this_platform(platforms: Any) -> int | None:
    """Which branch is meant for the default backend, of an equation that chooses by platform."""
    if platforms is None:
        return None
    backend = jax.default_backend()
    names = ("cuda", "rocm", "gpu") if backend == "gpu" else (backend,)
    return next(i for i, group in enumerate(platforms) if group is None or set(group) & set(names))


def array(value: Any, aval: Any) -> Any:
    """A value as an array of exactly the type that its variable declares, keys and tokens as they are."""
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended) or dtype == jax.dtypes.float0:
        return value
    return lax.convert_element_type(jnp.asarray(value), dtype)


_OPENED: dict[str, Callable[[Any, Any, list[Any], Any], tuple[list[Any], Any]]] = {
    "scan": _scan, "while": _while, "cond": _cond,
}  # fmt: skip
