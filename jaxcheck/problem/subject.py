"""The function whose custom rules are checked, traced at the caller's arguments."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.options import places
from jaxcheck.problem.donated import donates, undonated
from jaxcheck.problem.preface import narrow
from jaxcheck.problem.real_view import from_vector, to_vector
from jaxcheck.problem.refused import refuse_tracing
from jaxcheck.problem.user import first_line, to_array
from jaxcheck.program import decided
from jaxcheck.program.ask import Refused, ask, holds_tracer, leaks
from jaxcheck.program.constants import own as owned
from jaxcheck.program.custom.census import rules_in
from jaxcheck.program.objective import NOT_TRACEABLE, LeakedTracer, Traced, trace
from jaxcheck.program.run.by_pieces import pieces
from jaxcheck.program.run.compile import execute
from jaxcheck.theta import Theta, no_leaf, take_apart
from jaxcheck.tracebacks import OnError


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """The function under check on its flat inexact inputs.

    `positions` are the arguments in `theta`; `argnums` those among them with differentiable leaves;
    `primal` returns its inexact
    outputs as a list; `rules` describes the custom rules inside.
    """

    f: Callable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    positions: tuple[int, ...]
    argnums: tuple[int, ...]
    theta: Theta
    primal: Traced
    point: tuple[Any, ...]
    rules: tuple[Any, ...]
    name: str
    names: tuple[str, ...]
    native: Traced | None = None  # `primal` as the caller's own program runs it; None where that is the same
    note: str = ""


def argument_names(f: Callable, count: int) -> list[str]:
    """Names of the first `count` positional parameters, as written; `args[i]` where unknown."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [named[i] if i < len(named) else f"args[{i}]" for i in range(count)]


def nondifferentiable(f: Callable, names: Sequence[str]) -> set[int]:
    """Positions that a custom rule declares in `nondiff_argnums` or `nondiff_argnames`."""
    numbers = getattr(f, "nondiff_argnums", ()) or ()
    numbers = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    called = getattr(f, "nondiff_argnames", ()) or ()
    called = (called,) if isinstance(called, str) else tuple(called)
    given = {n if n >= 0 else n + len(names) for n in numbers}  # one that has a default may not be given
    return (given & set(range(len(names)))) | {i for i, n in enumerate(names) if n in called}


def _chosen(f: Callable, argnums: Any, names: Sequence[str]) -> tuple[int, ...]:
    """Positions of the arguments to differentiate."""
    count = len(names)
    if argnums is None:
        fixed = nondifferentiable(f, names)
        return tuple(i for i in range(count) if i not in fixed)
    return places(argnums, count, f"f was given {count} argument{'s' * (count != 1)}")


def subject(
    f: Callable, args: tuple[Any, ...], kwargs: dict[str, Any], argnums: Any, precision: str, name: str | None
) -> Subject:
    """Trace `f`.

    Raises:
        TypeError: `f` is not callable, has no differentiable input or output, or is called while tracing.
        ValueError: `argnums` is out of range.
        Whatever `f` raises.
    """
    if not callable(f):
        raise TypeError(f"f must be a function, not {type(f).__name__}")
    refuse_tracing(args=args, kwargs=kwargs)
    names = argument_names(f, len(args))
    chosen = _chosen(f, argnums, names)
    theta = take_apart(tuple(args[i] for i in chosen), names=[names[i] for i in chosen])
    if not theta.leaves:
        raise no_leaf(theta, "f has no differentiable argument (float or complex); it was given")
    live = tuple(i for i in chosen if take_apart(args[i]).leaves)

    def outputs(leaves, extras):
        return inexact_outputs(f, args, kwargs, chosen, theta.rebuild(leaves))

    point = tuple(to_array(owned(x)) for x in theta.inexact())
    note = ""
    with OnError(by_values):
        try:
            own = trace(outputs, point, (), "native")  # natively first: see `prepare`
        except NOT_TRACEABLE:
            f, given = decided.of(f, args, kwargs), f  # `outputs` from here on
            own = trace(lambda leaves, extras: outputs(leaves, extras), point, (), "native")
            note = decided.said(given, f, args, kwargs)
    if donates(own.closed):
        f = undonated(f)  # `outputs` from here on
        own = trace(lambda leaves, extras: outputs(leaves, extras), point, (), "native")
    primal = _traced_again(outputs, point, precision)
    native = own if precision != "native" and narrow(theta, primal) else None
    rules, label = rules_in(primal.closed), name_of(f, name)
    return Subject(f, args, kwargs, chosen, live, theta, primal, point, rules, label, tuple(names), native, note)


def by_values(error: Exception) -> None:
    """What to do, beside JAX's own words, where a function that has to be traced cannot be."""
    if isinstance(error, NOT_TRACEABLE):
        error.add_note(
            "f gives its values to NumPy, or decides in Python by them inside jit, inside a custom rule or in a loop "
            "around one; check_rule and check_grads trace it. Write it with jnp, the branch with jnp.where or "
            "jax.lax.cond, or pass a scalar loss to jaxcheck.check_grad, which runs such functions on numbers"
        )


def _traced_again(outputs: Callable, point: tuple[Any, ...], precision: str) -> Traced:
    try:
        primal = ask(trace, outputs, point, (), precision)
    except Refused as no:
        if leaks(no.error) or isinstance(no.error, (LeakedTracer, *NOT_TRACEABLE)):
            raise KeepsTracer(f"f keeps values from one call to the next ({first_line(no.error)})") from no.error
        raise no.error from None
    if holds_tracer(primal.closed):
        raise KeepsTracer("f keeps values from one call to the next: a value of an earlier call is used in a later one")
    return primal


class KeepsTracer(Exception):
    """The function under check keeps traced values of one call for the next; the text says what JAX said."""


def name_of(f: Callable, name: str | None) -> str:
    return name or getattr(f, "__name__", type(f).__name__)


def inexact_outputs(f: Callable, args: Sequence[Any], kwargs: dict, positions: Sequence[int], values: Any) -> list[Any]:
    """The float and complex outputs of `f` with some arguments replaced. Raises TypeError when there is none."""
    full = list(args)
    for i, value in zip(positions, values, strict=True):
        full[i] = value
    out = f(*full, **kwargs)
    found = [x for x in jax.tree_util.tree_leaves(out) if jax.dtypes.issubdtype(jax.dtypes.result_type(x), np.inexact)]
    if not found:
        what = "None" if out is None else "no float or complex output"
        raise TypeError(f"f returned {what}: there is nothing to differentiate")
    return [jnp.asarray(x) for x in found]


def outputs_at(one: Subject) -> np.ndarray:
    """(m,) the real outputs at the point."""
    with jax.enable_x64(True):
        avals, small = one.primal.program.closed.in_avals, pieces(one.primal.program)
        point = [np.asarray(x).astype(v.dtype) for x, v in zip(one.point, avals, strict=True)]
        if small is not None and (known := small(*point)) is not None:
            return to_vector(known, np)

        found, _ = execute(
            ("outputs",),
            lambda programs, x: to_vector(programs[0](*from_vector(x, avals))),
            [one.primal.program],
            to_vector(one.point, np),
        )
        return np.asarray(found)


def finite_outputs(one: Subject) -> np.ndarray:
    """(m,) which real outputs are finite at the point."""
    return np.isfinite(outputs_at(one))
