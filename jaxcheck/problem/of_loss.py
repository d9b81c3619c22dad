"""From the caller's loss, parameters and gradient to a `Problem`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcheck.problem import by_type, host, repeat
from jaxcheck.problem.beside import of_data
from jaxcheck.problem.claim import Claim, of_numbers, unit_of
from jaxcheck.problem.of_host import prepare_host
from jaxcheck.problem.parts import layout_of
from jaxcheck.problem.preface import Preface, effects, narrow, native_run, of_no_rule, seen
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.refused import refuse_tracing
from jaxcheck.problem.run import Run
from jaxcheck.problem.twice import same
from jaxcheck.problem.user import (
    HeldFixed,
    StructureError,
    User,
    first_line,
    real_rows,
    refuse_no_tuple,
    to_array,
)
from jaxcheck.program import bits
from jaxcheck.program.ask import Refused, ask, on_purpose
from jaxcheck.program.custom.given_solves import given_solves
from jaxcheck.program.custom.held import handed_out
from jaxcheck.program.custom.strip import count_rules
from jaxcheck.program.derived import OutOfReach, gradient, plain
from jaxcheck.program.identity import same_program
from jaxcheck.program.objective import NOT_TRACEABLE, LeakedTracer, Traced, holds_numpy_data, trace
from jaxcheck.program.run.factors import unit_of_products
from jaxcheck.result import Witness
from jaxcheck.there import there
from jaxcheck.theta import argument_paths, no_leaf, take_apart

# What JAX says where a trace left something behind that another one stumbles over.
LEAKED = (LeakedTracer, jax.errors.UnexpectedTracerError)

COARSE_PRODUCTS = (
    "This device rounds the factors of float32 products to {unit:.1g} of them; `with "
    'jax.default_matmul_precision("highest"):` keeps them whole.'
)


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """The caller's call: `user` with the numbers that the caller's own program sees, `given` as it was handed in;
    `leaves` and `extras` are the arrays of the parameters and of the arguments."""

    user: User
    given: User
    leaves: list[Any]
    extras: tuple[Any, ...]
    precision: str

    def traced(self, f: Callable, precision: str) -> Traced:
        return trace(f, self.leaves, self.extras, precision)

    def derived(self, primal: Traced, precision: str, stripped: bool, forward: bool = False) -> Traced:
        return gradient(primal, self.leaves, self.extras, stripped=stripped, precision=precision, forward=forward)


def prepare(
    loss: Callable, params: Any, grad: Any, args: Any, has_aux: bool, precision: str
) -> tuple[Problem, Preface]:
    """Trace the witnesses. See `check_grad` for the arguments and what is raised."""
    given = (loss, params, grad, args, has_aux, precision)
    try:
        return _prepared(_call(*given))
    except HeldFixed as error:
        return _prepared(_call(*given, error.paths))


def _prepared(call: Call) -> tuple[Problem, Preface]:
    user, theta, extras = call.user, call.user.theta, call.extras
    # Natively first: JAX keeps some conversions of index arrays per object, and a 64-bit trace made first would break
    # the caller's own 32-bit code (jnp.zeros(n).at[np.arange(n)], JAX 0.10).
    try:
        own = ask(trace, user.outputs, call.leaves, extras, "native")
    except Refused as no:
        return prepare_host(call.given, no.error)
    nothing = Problem(theta, extras, own, None, None)
    try:
        # Under another name: JAX remembers the trace of a function it has seen.
        again = call.traced(lambda leaves, extras: user.outputs(leaves, extras), "native")
    except LEAKED:
        # The first trace left a tracer behind: the loss keeps state between calls (a global key, say).
        note = "The loss keeps values of one call for a later one (JAX: a leaked tracer)."
        return nothing, Preface(user.name, (), (), random=note)
    random = _random(call, own, again)
    try:
        primal, rules, claim = _claimed(call, own, bool(random))
    except HeldFixed:
        raise
    except StructureError as error:
        return nothing, Preface(user.name, (Witness("manual", "absent", str(error)),), (), structure=str(error))
    autodiff, said = (
        _autodiff(call, primal, claim)
        if user.grad is not None or rules
        else (None, Witness("autodiff", "absent", "same program as the gradient under test"))
    )
    runnable = dataclasses.replace(primal, program=plain(primal))
    problem = Problem(
        theta,
        extras,
        runnable,
        claim.program,
        autodiff,
        numbers=claim.numbers,
        host_manual=claim.host,
        is_autodiff=user.grad is None and not rules and not given_solves(primal.closed),
        layout=layout_of(theta),
    )
    return _with_preface(call, problem, claim, own, said, random)


def _random(call: Call, own: Traced, again: Traced) -> str:
    """What is said where the loss is not one function: traced twice, or run on the arrays as they were handed in."""
    if not same(own, again, [*call.leaves, *call.extras]):
        return repeat.TRACED.format("the function")
    return by_type.another_loss(call.given, own, call.leaves, call.extras)


def _claimed(call: Call, own: Traced, random: bool) -> tuple[Traced, int, Claim]:
    """(the loss, how many rules of the user's it holds, the gradient under test). Raises StructureError."""
    user = call.user
    given = None if not user.grad_is_function else _trace_gradient(call, "native")
    primal = own if call.precision == "native" else call.traced(user.outputs, call.precision)
    rules = count_rules(primal.closed, "user")
    if user.grad is None:
        return primal, rules, _of_autodiff(call, primal, rules)
    if given is None:
        return primal, rules, of_numbers(user)
    return primal, rules, _of_function(call, given, random, not holds_numpy_data(own))


def _with_preface(
    call: Call, problem: Problem, claim: Claim, own: Traced, said: Witness, random: str
) -> tuple[Problem, Preface]:
    """The problem with what is said before anything is measured; `said` is of autodiff."""
    user, theta, primal = call.user, problem.theta, problem.loss
    if claim.unit is not None:
        run = Run(own, None, tuple(call.leaves), call.extras)
        problem = dataclasses.replace(problem, numbers_unit=claim.unit, numbers_run=run)
    preface = Preface(
        user.name,
        (claim.witness, Witness("numeric", primal.how, primal.note), said),
        (*effects(own), *claim.notes, *_coarse_products(call, problem, own)),
        "",
        random or claim.random,
        claim.native,
        native_again=None if claim.native is None else functools.partial(host.once_more, user),
        beside=of_data([leaf.shape for leaf in theta.leaves], user.args.values, own.closed.consts),
    )
    return problem, _as_run(call, problem, preface, claim, own)


def _call(
    loss: Callable, params: Any, grad: Any, args: Any, has_aux: bool, precision: str, held: Sequence[str] = ()
) -> Call:
    if not callable(loss):
        raise TypeError(f"loss must be a function loss(params, *args), not {type(loss).__name__}")
    refuse_no_tuple(args)
    refuse_tracing(params=params, args=args)
    theta = take_apart(params, held=held)
    if not theta.leaves:
        raise no_leaf(theta, "params has no differentiable leaf (float or complex); it holds")
    extras = take_apart(tuple(args), "args", argument_paths(args), differentiated=False)
    given = User(loss, grad, theta, extras, has_aux)
    # Every witness sees the numbers that the caller's own program sees.
    theta = seen(theta)
    user = User(loss, grad, theta, seen(given.args), has_aux)
    return Call(
        user, given, [to_array(x) for x in theta.inexact()], tuple(to_array(x) for x in user.args.inexact()), precision
    )


def _of_autodiff(call: Call, primal: Traced, rules: int) -> Claim:
    """jax.grad of the loss, with whatever rules it holds."""
    notes = [] if rules else [of_no_rule(primal.closed)]
    notes += [f"{bits.LOST}."] if not rules and bits.loses_derivatives(primal.closed, len(call.leaves)) else []
    try:
        return Claim(call.derived(primal, call.precision, stripped=False), notes=tuple(notes))
    except (*LEAKED, *NOT_TRACEABLE) as error:
        # Called on numbers, a rule that keeps its residuals outside, or is NumPy's, may still be right.
        run, _ = host.autodiff_on_host(call.given)
        if run is None:
            raise
        return Claim(host=run, notes=(f"The gradient was computed eagerly: {first_line(error)}", *notes))


def _of_function(call: Call, traced: tuple[Any, BaseException | None], random: bool, loss_wide: bool) -> Claim:
    """The caller's gradient function: traced, or called on numbers where it cannot be. Raises StructureError.

    Args:
        loss_wide: whether the loss can be called in the 64-bit mode.
    """
    (found, failure), user = traced, call.user
    notes, wide = (), None
    if found is not None:
        own, note = found
        notes = (note,) if note else ()
        again = found if call.precision == "native" else _trace_gradient(call, call.precision)[0]
        wide = again[0] if again is not None else None
        differs, numpys, held = "", False, handed_out(own.closed)
        at = None if wide is None or any(held) else by_type.known(call.given)
        if wide is not None and (at is None or not at.is_same(own)):
            second = None if random else _trace_gradient(call, "native")[0]
            if not random and (second is None or not same_program(own.closed, second[0].closed)):
                differs = repeat.TRACED.format("the gradient under test")
            else:
                said, numpys = by_type.otherwise(user, call.given, own, at, call.leaves, call.extras)
                notes = (*notes, said) if said else notes
        if wide is not None and not numpys:
            unit = unit_of(user.theta, own.closed.out_avals, held) if any(held) else None
            return Claim(wide, own, unit=unit, notes=notes, random=differs)
    run, picked, note = host.gradient_on_host(user, failure, loss_wide)
    return Claim(host=run, native=real_rows(user.theta, picked), notes=(*notes, *([note] if note else [])))


def _autodiff(call: Call, primal: Traced, claim: Claim) -> tuple[Traced | None, Witness]:
    note = ""
    if bits.loses_derivatives(primal.closed, len(call.leaves)):
        return None, Witness("autodiff", "absent", bits.LOST)
    try:
        autodiff = ask(call.derived, primal, call.precision, stripped=True)
    except Refused as no:
        try:
            autodiff = ask(call.derived, primal, call.precision, stripped=True, forward=True)
        except (Refused, OutOfReach):
            return None, Witness("autodiff", "absent", first_line(no.error))
        note = "by forward mode; there is no reverse mode"
    handed = given_solves(primal.closed)
    if handed and claim.program is not None and claim.program.program.is_same(autodiff.program):
        return None, Witness("autodiff", "absent", f"same program as the gradient under test, by {handed[0]}")
    return autodiff, Witness("autodiff", autodiff.how, "; ".join(filter(None, (autodiff.note, note))))


def _coarse_products(call: Call, problem: Problem, own: Traced) -> tuple[str, ...]:
    """What to know of float32 where this device multiplies it in fewer bits, and numbers in float32 are judged."""
    if call.precision != "native" and (problem.numbers_unit is None or not problem.numbers_unit.any()):
        return ()
    unit = unit_of_products(own.closed)
    return (COARSE_PRODUCTS.format(unit=unit),) if unit else ()


def _as_run(call: Call, problem: Problem, preface: Preface, claim: Claim, own: Traced) -> Preface:
    """The same with M as the caller's own dtypes run it, where that is another program."""
    arguments = (tuple(call.leaves), call.extras)
    otherwise = call.precision == "float64" and narrow(problem.theta, problem.loss)
    if claim.program is not None and otherwise:
        manual = call.derived(own, "native", stripped=False) if call.user.grad is None else there(claim.own)
        return native_run(problem, preface, Run(own, manual, *arguments))
    if claim.native is not None or (claim.numbers is not None and otherwise):
        return dataclasses.replace(preface, run=Run(own, None, *arguments))
    return preface


def _trace_gradient(call: Call, precision: str) -> tuple[Any, BaseException | None]:
    """((traced gradient, note), None), or (None, why it cannot be traced). Raises StructureError."""
    found, user = {}, call.user

    def f(leaves, extras, before=lambda *given: None):
        before(leaves, extras)
        try:
            chosen = user.selection(leaves, extras)
        except StructureError as error:
            if precision == "native":
                raise
            raise on_purpose(ValueError(str(error))) from error  # right in its own dtypes, it is lifted from there
        found["note"], found["pair"] = chosen.note, chosen.value is not None
        return [jnp.asarray(g)[None] for g in chosen.leaves]

    try:
        try:
            traced = ask(call.traced, f, precision)
        except Refused as no:
            if isinstance(no.error, NOT_TRACEABLE):
                raise
            # It reads what the loss left behind: so it is used, after the loss at the same point.
            traced = ask(call.traced, lambda *given: f(*given, before=user.value), precision)
    except Refused as no:
        return None, no.error
    if found["pair"] and precision == "native":
        user.confirm(call.leaves, call.extras)
    return (dataclasses.replace(traced, program=plain(traced)), found["note"]), None
