"""From a function that carries custom rules to a `Problem` with several cotangents, and to its maps."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence import derivatives, maps, repeat
from jaxcheck.evidence.as_run import Run
from jaxcheck.evidence.beside import Beside, of_outputs
from jaxcheck.evidence.cotangents import ROWS, cotangents
from jaxcheck.evidence.donated import donates, undonated
from jaxcheck.evidence.eager_rule import on_numbers
from jaxcheck.evidence.leafwise import belongs
from jaxcheck.evidence.preface import Preface, narrow, native_run, of_no_rule
from jaxcheck.evidence.problem import Problem
from jaxcheck.evidence.user import first_line, refuse_tracing, to_array
from jaxcheck.program.ask import Refused, ask, holds_tracer, leaks
from jaxcheck.program.by_pieces import pieces
from jaxcheck.program.census import rules_in
from jaxcheck.program.compile import execute
from jaxcheck.program.constants import own as owned
from jaxcheck.program.identity import same_program
from jaxcheck.program.objective import NOT_TRACEABLE, LeakedTracer, Traced, gradient, plain, trace
from jaxcheck.program.strip import count_rules
from jaxcheck.result import Witness
from jaxcheck.theta import Theta, no_leaf, take_apart

HIDDEN = (
    "the rule has hidden state: its backward pass uses a value that its forward pass kept outside the residuals. "
    "Return it as a residual"
)


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
    refuse_tracing(args, kwargs)
    names = argument_names(f, len(args))
    if argnums is None:
        fixed = nondifferentiable(f, names)
        chosen = tuple(i for i in range(len(args)) if i not in fixed)
    else:
        chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        if any(not isinstance(i, int) or not -len(args) <= i < len(args) for i in chosen):
            raise ValueError(f"argnums={argnums!r} is out of range: f was given {len(args)} arguments")
        chosen = tuple(i % len(args) for i in chosen)
    theta = take_apart(tuple(args[i] for i in chosen), names=[names[i] for i in chosen])
    if not theta.leaves:
        raise no_leaf(theta, "f has no differentiable argument (float or complex); it was given")
    live = tuple(i for i in chosen if take_apart(args[i]).leaves)

    def outputs(leaves, extras):
        return inexact_outputs(f, args, kwargs, chosen, theta.rebuild(leaves))

    point = tuple(to_array(owned(x)) for x in theta.inexact())
    own = trace(outputs, point, (), "native")  # natively first: see `prepare`
    if donates(own.closed):
        f = undonated(f)  # `outputs` from here on
        own = trace(lambda leaves, extras: outputs(leaves, extras), point, (), "native")
    try:
        primal = ask(trace, outputs, point, (), precision)
    except Refused as no:
        if leaks(no.error) or isinstance(no.error, (LeakedTracer, *NOT_TRACEABLE)):
            raise KeepsTracer(f"f keeps values from one call to the next ({first_line(no.error)})") from no.error
        raise no.error from None
    if holds_tracer(primal.closed):
        raise KeepsTracer("f keeps values from one call to the next: a value of an earlier call is used in a later one")
    label = name_of(f, name)
    return Subject(
        f,
        args,
        kwargs,
        chosen,
        live,
        theta,
        primal,
        point,
        rules_in(primal.closed),
        label,
        tuple(names),
        own if precision != "native" and narrow(theta, primal) else None,
    )


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
            return maps.to_vector(known, np)

        found, _ = execute(
            ("outputs",),
            lambda programs, x: maps.to_vector(programs[0](*maps.from_vector(x, avals))),
            [one.primal.program],
            maps.to_vector(one.point, np),
        )
        return np.asarray(found)


def finite_outputs(one: Subject) -> np.ndarray:
    """(m,) which real outputs are finite at the point."""
    return np.isfinite(outputs_at(one))


def prepare_rule(one: Subject, seed: int, precision: str, finite: np.ndarray | None = None) -> tuple[Problem, Preface]:
    """The VJP of the subject as a `Problem`: G projections of its outputs, their gradients with the
    user's rules (M) and without (A).

    Args:
        finite: (m,) the outputs that take part (default: all). A mask of -inf is no mistake, but in a sum
            it leaves nothing to be seen.
    """
    avals = one.primal.closed.out_avals
    owner = belongs(avals)
    g = cotangents(owner, seed, outputs_at(one) if len(owner) > ROWS else np.zeros(len(owner)))
    theta = one.theta
    if finite is not None:
        g = (g * finite)[(g * finite).any(axis=1)]

    def projected(leaves, extras):
        found = inexact_outputs(one.f, one.args, one.kwargs, one.positions, theta.rebuild(leaves))
        parts = []
        for x in found:
            flat = x.reshape(-1)
            parts += [flat.real, flat.imag] if jnp.iscomplexobj(flat) else [flat]
        wide = jnp.result_type(*parts)
        vector = jnp.concatenate([p.astype(wide) for p in parts])
        vector = vector if finite is None else jnp.where(finite, vector, 0)
        return jnp.matmul(jnp.asarray(extras[0]).astype(wide), vector, precision="highest")

    leaves, extras = list(one.point), (g,)
    own = trace(projected, leaves, extras, "native")
    # Under another name: JAX remembers the trace of a function it has seen.
    again = trace(lambda leaves, extras: projected(leaves, extras), leaves, extras, "native")
    random = "" if same_program(own.closed, again.closed) else repeat.TRACED.format("the function")
    primal = own if precision == "native" else trace(projected, leaves, extras, precision)
    arguments = dict(leaves=leaves, extras=extras, precision=precision)
    rules = count_rules(primal.closed, "user")
    notes = [] if rules else [of_no_rule(primal.closed)]
    left_out = 0 if finite is None else int((~finite).sum())
    if left_out and finite is not None:
        notes.append(f"{left_out} of {len(finite)} outputs are infinite or NaN at this point and were left out.")
    autodiff, silent = None, "no custom rule of yours to remove"
    manual, why, eager = None, "", None
    try:
        manual = ask(gradient, primal, len(leaves), stripped=False, **arguments)
        if holds_tracer(manual.closed) or holds_tracer(manual.program.closed):
            manual, why = None, HIDDEN
    except Refused as no:
        why = HIDDEN if leaks(no.error) else first_line(no.error)
        if isinstance(no.error, NOT_TRACEABLE):
            eager = on_numbers(theta, projected, g)
            notes.append(f"The rule cannot be traced ({why}); it was called on numbers.")
    if rules:
        try:
            autodiff = ask(gradient, primal, len(leaves), stripped=True, **arguments)
        except Refused as no:
            silent = first_line(no.error)
    witnesses = (
        Witness("manual", manual.how if manual else "host" if eager else "absent", manual.note if manual else why),
        Witness("numeric", primal.how, primal.note),
        Witness("autodiff", autodiff.how if autodiff else "absent", autodiff.note if autodiff else silent),
    )
    runnable = dataclasses.replace(primal, program=plain(primal))
    problem = Problem(
        theta, extras, runnable, manual, autodiff, columns=len(g), host_manual=eager, is_autodiff=not rules
    )
    sizes = tuple(sorted({d for leaf in theta.leaves for d in leaf.shape} | {d for a in avals for d in a.shape}))
    beside = Beside(sizes, columns=of_outputs(g, owner))
    preface = Preface(one.name, witnesses, tuple(notes), "", random, beside=beside, left_out=left_out)
    if manual is None or precision == "native" or not narrow(theta, primal):
        return problem, preface
    try:
        run = ask(gradient, own, len(leaves), stripped=False, leaves=leaves, extras=extras, precision="native")
        preface = ask(native_run, problem, preface, Run(own, run, tuple(leaves), extras))
    except Refused as no:
        why = f"It was judged in float64 alone: {first_line(no.error)}"
        preface = dataclasses.replace(preface, notes=(*notes, why))
    return problem, preface


def second_order(one: Subject) -> tuple[maps.Map | None, str]:
    """The cotangents of x as a function of x and of those of the outputs; why not."""
    return _derived(one, derivatives.pulled_map, ("fwd", "rev"), ("rev",), ("fwd",))


def second_order_forward(one: Subject) -> tuple[maps.Map | None, str]:
    """The tangents of the outputs as a function of x and of its tangents: to be seen where a forward rule is the
    user's own, for no transposed tangent shows what it does beside being linear. (None, "") without such a rule."""
    if not any(r.origin != "jax" and r.kind != "custom_vjp" for r in one.rules):
        return None, ""
    return _derived(one, derivatives.pushed_map, ("fwd",))


def _derived(one: Subject, build: Callable, *ways: tuple[str, ...]) -> tuple[maps.Map | None, str]:
    try:
        inner, point = ask(build, one.primal, one.point)
    except Refused as no:
        return None, first_line(no.error)
    for modes in ways:
        try:
            return ask(derivatives.make, "gradient", inner, point, modes, first_order=False), ""
        except Refused as no:
            why = first_line(no.error)
    return None, why
