"""From the caller's loss, parameters and gradient to a `Problem`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.budget import current
from jaxcheck.evidence import as_run, host
from jaxcheck.evidence.as_run import Run
from jaxcheck.evidence.parts import layout_of
from jaxcheck.evidence.problem import Problem
from jaxcheck.evidence.user import (
    StructureError,
    User,
    first_line,
    real_rows,
    refuse_tracing,
    select,
    to_array,
)
from jaxcheck.evidence.witnesses import gradient_of, outputs_of
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.census import rules_in
from jaxcheck.program.compile import execute
from jaxcheck.program.constants import own as owned
from jaxcheck.program.identity import same_program
from jaxcheck.program.mode import is_wide
from jaxcheck.program.objective import NOT_TRACEABLE, LeakedTracer, Traced, gradient, plain, trace
from jaxcheck.program.strip import count_rules
from jaxcheck.result import Witness
from jaxcheck.there import there
from jaxcheck.theta import Theta, take_apart


@dataclasses.dataclass(frozen=True, eq=False)
class Preface:
    """What is known before any difference is taken.

    `structure` is what is wrong with the gradient's structure, or ""; `native` is M in the caller's
    own precision (G, P), None where it is the same as in float64, and `native_finite` whether the outputs are
    finite there; `native_scatter` is how far it moves between neighbours, where M runs on the host; `run` holds
    the programs that were run so; `repeatable` says whether two traces
    and two native runs gave the same; `sizes` are the dimensions met, to name a ratio; `left_out` counts
    outputs that are not finite at the point and took no part.
    """

    name: str
    witnesses: tuple[Witness, ...]
    notes: tuple[str, ...]
    structure: str = ""
    repeatable: bool = True
    native: np.ndarray | None = None
    native_finite: bool = True
    native_scatter: np.ndarray | None = None
    run: Run | None = None
    compiled: int = 0
    sizes: tuple[int, ...] = ()
    left_out: int = 0


def prepare(loss: Callable, params: Any, grad: Any, args: Any, has_aux: bool,
            precision: str) -> tuple[Problem, Preface]:
    """Trace the witnesses. See `check_grad` for the arguments and what is raised."""
    if not callable(loss):
        raise TypeError(f"loss must be a function loss(params, *args), not {type(loss).__name__}")
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args must be a tuple of extra arguments, not {type(args).__name__}; write args=(x,)")
    refuse_tracing(params, args)
    theta = take_apart(params)
    if not theta.leaves:
        found = ", ".join(f"`{path}` ({why})" for path, why in theta.carried[:5]) or "nothing"
        raise TypeError(f"params has no differentiable leaf (float or complex); it holds {found}")
    given = User(loss, grad, theta, take_apart(tuple(args), "args", differentiated=False), has_aux)
    # Every witness sees the numbers that the caller's own program sees.
    theta = seen(theta)
    user = User(loss, grad, theta, seen(given.args), has_aux)
    extras = tuple(to_array(x) for x in user.args.inexact())
    leaves = [to_array(x) for x in theta.inexact()]
    # Natively first: JAX keeps some conversions of index arrays per object, and a 64-bit trace made
    # first would break the caller's own 32-bit code (jnp.zeros(n).at[np.arange(n)], JAX 0.10).
    try:
        own = ask(trace, user.outputs, leaves, extras, "native")
    except Refused as no:
        return _prepare_host(given, no.error)
    try:
        # Under another name: JAX remembers the trace of a function it has seen.
        again = trace(lambda leaves, extras: user.outputs(leaves, extras), leaves, extras, "native")
        repeatable = same_program(own.closed, again.closed)
    except (LeakedTracer, jax.errors.UnexpectedTracerError):
        # The first trace left a tracer behind: the loss keeps state between calls (a global key, say).
        note = "The loss keeps values of one call for a later one (JAX: a leaked tracer)."
        return Problem(theta, extras, own, None, None), Preface(user.name, (), (note,), repeatable=False)
    try:
        own_manual, failure = (None, None) if not callable(grad) else _trace_gradient(user, leaves, extras, "native")
    except StructureError as error:
        witness = (Witness("manual", "absent", str(error)),)
        return Problem(theta, extras, own, None, None), Preface(user.name, witness, (), structure=str(error))
    primal = own if precision == "native" else trace(user.outputs, leaves, extras, precision)
    notes = _effects(own)
    arguments: dict[str, Any] = dict(leaves=leaves, extras=extras, precision=precision)
    rules = count_rules(primal.closed, "user")
    manual = numbers = host_manual = native = None
    if grad is None:
        try:
            manual = gradient(primal, len(leaves), stripped=False, **arguments)
        except (LeakedTracer, jax.errors.UnexpectedTracerError) as error:
            # Called on numbers, a rule that keeps its residuals outside may still be right.
            host_manual, failure = host.autodiff_on_host(given)[0], error
            notes.append(f"The gradient was computed eagerly: {first_line(error)}")
        if not rules:
            notes.append(of_no_rule(primal.closed))
    elif not callable(grad):
        try:
            numbers = real_rows(theta, user.numbers())
        except StructureError as error:
            return Problem(theta, extras, own, None, None), Preface(user.name, (), (), structure=str(error))
    elif own_manual is not None:
        notes += [own_manual[1]] if own_manual[1] else []
        again = own_manual if precision == "native" else _trace_gradient(user, leaves, extras, precision)[0]
        manual = again[0] if again is not None else None
        if manual is not None and repeatable:
            second = _trace_gradient(user, leaves, extras, "native")[0]
            repeatable = second is not None and same_program(own_manual[0].closed, second[0].closed)
    if callable(grad) and manual is None:
        try:
            host_manual, native, note = host.gradient_on_host(user, failure)
        except StructureError as error:
            return Problem(theta, extras, own, None, None), Preface(user.name, (), (), structure=str(error))
        notes += [note] if note else []
    autodiff, silent = None, "same program as the gradient under test"
    if grad is not None or rules:
        try:
            autodiff = ask(gradient, primal, len(leaves), stripped=True, **arguments)
        except Refused as no:
            silent = first_line(no.error)
    witnesses = (
        Witness("manual", manual.how if manual else "numbers" if numbers is not None else "host",
                manual.note if manual else ""),
        Witness("numeric", primal.how, primal.note),
        Witness("autodiff", autodiff.how if autodiff else "absent", autodiff.note if autodiff else silent),
    )
    runnable = dataclasses.replace(primal, program=plain(primal))
    problem = Problem(theta, extras, runnable, manual, autodiff, numbers=numbers, host_manual=host_manual,
                      is_autodiff=grad is None and not rules,
                      numbers_unit=None if numbers is None else units(user), layout=layout_of(theta))
    if numbers is not None:
        run = Run(own, None, tuple(leaves), extras)
        problem = dataclasses.replace(problem, numbers_bar=as_run.of_numbers(problem, run, theta.ravel()))
    preface = Preface(user.name, witnesses, tuple(notes), "", repeatable, native,
                      sizes=_sizes(theta, user.args, own.closed.consts))
    if manual is not None and precision == "float64" and narrow(theta, primal):
        if grad is None:
            traced = gradient(own, len(leaves), stripped=False, leaves=leaves, extras=extras, precision="native")
        else:
            traced = there(own_manual)[0]
        preface = native_run(problem, preface, Run(own, traced, tuple(leaves), extras))
    elif native is not None and callable(grad):
        preface = dataclasses.replace(preface, run=Run(own, None, tuple(leaves), extras))
    return problem, preface


def seen(theta: Theta) -> Theta:
    """The tree with its differentiable leaves as a program of the caller's sees them."""
    values = list(theta.values)
    for leaf in theta.leaves:
        values[leaf.position] = owned(values[leaf.position])
    return dataclasses.replace(theta, values=tuple(values))


def _trace_gradient(user: User, leaves, extras, precision) -> tuple[Any, BaseException | None]:
    """((traced gradient, note), None), or (None, why it cannot be traced). Raises StructureError."""
    found = {}

    def f(leaves, extras, before=lambda *given: None):
        before(leaves, extras)
        chosen = user.selection(leaves, extras)
        found["note"], found["pair"] = chosen.note, chosen.value is not None
        return [jnp.asarray(g)[None] for g in chosen.leaves]

    try:
        try:
            traced = ask(trace, f, leaves, extras, precision)
        except Refused as no:
            if isinstance(no.error, NOT_TRACEABLE):
                raise
            # It reads what the loss left behind: so it is used, after the loss at the same point.
            traced = ask(trace, lambda *given: f(*given, before=user.value), leaves, extras, precision)
    except Refused as no:
        return None, no.error
    if found["pair"] and precision == "native":
        user.confirm(leaves, extras)
    return (dataclasses.replace(traced, program=plain(traced)), found["note"]), None


def _prepare_host(user: User, why: BaseException) -> tuple[Problem, Preface]:
    """A loss that cannot be traced: plain numbers, row by row."""
    theta, grad = user.theta, user.grad
    primal, repeatable, unit = host.loss_on_host(user, why)
    notes = [f"The loss cannot be traced by JAX ({first_line(why)}); it was evaluated on the host, row by row."]
    autodiff, silent = host.autodiff_on_host(user)
    manual = numbers = native = spread = None
    structure = ""
    if grad is None:
        if autodiff is None:
            raise TypeError("loss cannot be traced or differentiated by JAX, and no grad was given: "
                            f"pass grad=. JAX said: {first_line(why)}") from why
        manual, autodiff, silent = autodiff, None, "same program as the gradient under test"
    else:
        try:
            if callable(grad):
                manual, native, note = host.gradient_on_host(user, None)
                spread = host.scatter(user, native)
                notes += [note] if note else []
            else:
                numbers = real_rows(theta, user.numbers())
        except StructureError as error:
            structure = str(error)
    witnesses = (
        Witness("manual", "numbers" if numbers is not None else "host"), Witness("numeric", "host"),
        Witness("autodiff", "host" if autodiff else "absent", silent),
    )
    problem = Problem(theta, (), None, None, None, numbers=numbers, host_primal=primal, host_manual=manual,
                      host_autodiff=autodiff, is_autodiff=grad is None, host_unit=unit,
                      numbers_unit=None if numbers is None else units(user))
    return problem, Preface(user.name, witnesses, tuple(notes), structure, repeatable, native, native_scatter=spread,
                            sizes=_sizes(theta, user.args))


def of_no_rule(closed: Any) -> str:
    """What is under test where autodiff without the user's rules would be the same program."""
    installed = dict.fromkeys(f"{r.name} ({r.file}:{r.line})" for r in rules_in(closed) if r.origin != "jax")
    if not installed:
        return "No custom rule but JAX's own is inside: JAX's own derivative is under test."
    return ("The custom rules inside are of installed packages and are not taken out for an autodiff witness; "
            f"the derivative under test is made with them: {'; '.join(list(installed)[:6])}")


def _effects(own: Traced) -> list[str]:
    """What is said of a loss that does more than compute."""
    notes = []
    if own.effects:
        notes.append(f"The loss has side effects ({', '.join(own.effects)}); prints and logs are left out.")
    if own.closed.effects:
        notes.append("It calls back for numbers that it uses: once per evaluation, row by row.")
    return notes


def units(user: User) -> np.ndarray:
    """(P,) rounding unit of each number of a given gradient."""
    parts = []
    for leaf, g in zip(user.theta.leaves, select(user.theta, user.grad, user.has_aux).leaves, strict=True):
        # Numbers of NumPy's are looked at as they are: no program of JAX's rounds them to float32.
        dtype = g.dtype if isinstance(g, (np.ndarray, np.generic)) else jax.dtypes.result_type(g)
        inexact = jax.dtypes.issubdtype(dtype, np.inexact) and hasattr(g, "dtype")
        parts.append(np.full(leaf.stop - leaf.start, float(jnp.finfo(dtype).eps) if inexact else 0.0))
    return np.concatenate(parts)


def _sizes(theta: Theta, args: Theta, consts: Any = ()) -> tuple[int, ...]:
    found = {d for leaf in (*theta.leaves, *args.leaves) for d in leaf.shape}
    found |= {d for x in consts for d in np.shape(x)}
    for value in args.values:
        found |= set(np.shape(value)) if hasattr(value, "shape") else set()
    return tuple(sorted(found))


def narrow(theta: Theta, primal: Traced) -> bool:
    """Whether the caller's own run differs from the float64 one."""
    wide = all(leaf.dtype in ("float64", "complex128") for leaf in theta.leaves)
    return not (wide and is_wide()) or primal.how != "float64"


def native_run(problem: Problem, preface: Preface, run: Run) -> Preface:
    """M and the loss in the caller's own precision, twice."""
    primal, manual = there(run.primal), there(run.manual)
    native = dataclasses.replace(problem, primal=primal, manual=manual)

    def build(programs, point, extras):
        return (outputs_of(native, programs[0], point, extras), gradient_of(native, manual, programs[1], point, extras))

    key = ("native", is_wide(), tuple(problem.theta.leaves))
    with jax.enable_x64(True):
        point = problem.place(problem.theta.ravel())
        runs, compiled, clock = [], 0, current()
        for _ in range(2):
            before = clock.run_seconds
            out, new = execute(key, build, [primal.program, manual.program], point, tuple(problem.extras))
            runs.append([np.asarray(x) for x in out])
            compiled += new
            clock.pair_seconds = clock.run_seconds - before
    same = all(np.array_equal(x, y, equal_nan=True) for x, y in zip(*runs, strict=True))
    return dataclasses.replace(
        preface, run=run, native=runs[0][1], native_finite=bool(np.isfinite(runs[0][0]).all()),
        repeatable=preface.repeatable and same, compiled=preface.compiled + compiled)
