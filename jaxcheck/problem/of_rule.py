"""From a function that carries custom rules to a `Problem` with several cotangents, and to its maps."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxcheck.problem import derivatives, repeat
from jaxcheck.problem.beside import Beside, of_outputs
from jaxcheck.problem.cotangents import ROWS, cotangents
from jaxcheck.problem.eager_rule import on_numbers
from jaxcheck.problem.leaves import belongs
from jaxcheck.problem.map import Map
from jaxcheck.problem.preface import Preface, narrow, native_run, of_no_rule
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.run import Run
from jaxcheck.problem.subject import Subject, inexact_outputs, outputs_at
from jaxcheck.problem.twice import same
from jaxcheck.problem.user import first_line
from jaxcheck.program import bits
from jaxcheck.program.ask import Refused, ask, holds_tracer, leaks
from jaxcheck.program.custom.given_solves import given_solves
from jaxcheck.program.custom.strip import count_rules
from jaxcheck.program.derived import gradient, plain
from jaxcheck.program.objective import NOT_TRACEABLE, Traced, trace
from jaxcheck.result import Witness

HIDDEN = (
    "the rule has hidden state: its backward pass uses a value that its forward pass kept outside the residuals. "
    "Return it as a residual"
)


def _projection(one: Subject, finite: np.ndarray | None) -> Callable:
    """(leaves, (g,)) -> g @ the real outputs of the subject, of which those that are not `finite` take no part."""

    def projected(leaves, extras):
        found = inexact_outputs(one.f, one.args, one.kwargs, one.positions, one.theta.rebuild(leaves))
        parts = []
        for x in found:
            flat = x.reshape(-1)
            parts += [flat.real, flat.imag] if jnp.iscomplexobj(flat) else [flat]
        wide = jnp.result_type(*parts)
        vector = jnp.concatenate([p.astype(wide) for p in parts])
        vector = vector if finite is None else jnp.where(finite, vector, 0)
        return jnp.matmul(jnp.asarray(extras[0]).astype(wide), vector, precision="highest")

    return projected


def _with_rules(take: Callable) -> tuple[Traced | None, str, bool]:
    """(the gradient under test, its note; or None, why, and whether it may be called on numbers)."""
    try:
        manual = ask(take, stripped=False)
    except Refused as no:
        return None, HIDDEN if leaks(no.error) else first_line(no.error), isinstance(no.error, NOT_TRACEABLE)
    if holds_tracer(manual.closed) or holds_tracer(manual.program.closed):
        return None, HIDDEN, False
    return manual, manual.note, False


def _without_rules(take: Callable) -> tuple[Traced | None, str]:
    """(autodiff, its note), or (None, why)."""
    try:
        autodiff = ask(take, stripped=True)
    except Refused as no:
        return None, first_line(no.error)
    return autodiff, autodiff.note


def _natively(one: Subject, problem: Problem, preface: Preface, own: Traced) -> Preface:
    """The preface with the rule as the caller's own dtypes run it, where that is another program than `own` is."""
    if problem.manual is None or not narrow(one.theta, problem.loss):
        return preface
    leaves, extras = list(one.point), problem.extras
    try:
        run = ask(gradient, own, stripped=False, leaves=leaves, extras=extras, precision="native")
        return ask(native_run, problem, preface, Run(own, run, tuple(leaves), extras))
    except Refused as no:
        why = f"It was judged in float64 alone: {first_line(no.error)}"
        return dataclasses.replace(preface, notes=(*preface.notes, why))


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
    if finite is not None:
        g = (g * finite)[(g * finite).any(axis=1)]
    projected, leaves, extras = _projection(one, finite), list(one.point), (g,)
    own = trace(projected, leaves, extras, "native")
    # Under another name: JAX remembers the trace of a function it has seen.
    again = trace(lambda leaves, extras: projected(leaves, extras), leaves, extras, "native")
    random = "" if same(own, again, [*leaves, *extras]) else repeat.TRACED.format("the function")
    primal = own if precision == "native" else trace(projected, leaves, extras, precision)
    rules = count_rules(primal.closed, "user")
    notes = [one.note] if one.note else []
    notes += [] if rules else [of_no_rule(primal.closed)]
    left_out = 0 if finite is None else int((~finite).sum())
    if left_out:
        notes.append(f"{left_out} of {len(owner)} outputs are infinite or NaN at this point and were left out.")
    take = functools.partial(gradient, primal, leaves, extras, precision=precision)
    manual, why, needs_numbers = _with_rules(take)
    host = None
    if needs_numbers:
        host = on_numbers(one.theta, projected, g)
        notes.append(f"The rule cannot be traced ({why}); it was called on numbers.")
    autodiff, silent = _without_rules(take) if rules else (None, "no custom rule of yours to remove")
    if bits.loses_derivatives(primal.closed, len(leaves)):
        autodiff, silent = None, bits.LOST
    witnesses = (
        Witness("manual", manual.how if manual else "host" if host else "absent", why),
        Witness("numeric", primal.how, primal.note),
        Witness("autodiff", autodiff.how if autodiff else "absent", silent),
    )
    runnable = dataclasses.replace(primal, program=plain(primal))
    own_derivative = not rules and not given_solves(primal.closed)
    problem = Problem(
        one.theta, extras, runnable, manual, autodiff, columns=len(g), host_manual=host, is_autodiff=own_derivative
    )
    sizes = {d for leaf in one.theta.leaves for d in leaf.shape} | {d for a in avals for d in a.shape}
    beside = Beside(tuple(sorted(sizes)), columns=of_outputs(g, owner))
    preface = Preface(one.name, witnesses, tuple(notes), "", random, beside=beside, left_out=left_out)
    return problem, preface if precision == "native" else _natively(one, problem, preface, own)


def second_order(one: Subject) -> tuple[Map | None, str]:
    """The cotangents of x as a function of x and of those of the outputs; why not."""
    return _derived(one, derivatives.pulled_map, ("fwd", "rev"), ("rev",), ("fwd",))


def second_order_forward(one: Subject) -> tuple[Map | None, str]:
    """The tangents of the outputs as a function of x and of its tangents: to be seen where a forward rule is the
    user's own, for no transposed tangent shows what it does beside being linear. (None, "") without such a rule."""
    if not any(r.origin != "jax" and r.kind != "custom_vjp" for r in one.rules):
        return None, ""
    return _derived(one, derivatives.pushed_map, ("fwd",))


def _derived(one: Subject, build: Callable, *ways: tuple[str, ...]) -> tuple[Map | None, str]:
    try:
        inner, point = ask(build, one.primal, one.point)
    except Refused as no:
        return None, first_line(no.error)
    for modes in ways:
        try:
            return ask(derivatives.make, "gradient", inner, point, modes), ""
        except Refused as no:
            why = first_line(no.error)
    return None, why
