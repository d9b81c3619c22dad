"""From a loss that JAX cannot trace to a `Problem`."""

from __future__ import annotations

import functools

from jaxcheck.evidence import host, repeat
from jaxcheck.evidence.beside import of_data
from jaxcheck.evidence.preface import Preface, units
from jaxcheck.evidence.problem import Problem
from jaxcheck.evidence.user import StructureError, User, first_line, real_rows
from jaxcheck.result import Witness


def prepare_host(user: User, why: BaseException) -> tuple[Problem, Preface]:
    """A loss that cannot be traced: plain numbers, row by row."""
    theta, grad = user.theta, user.grad
    primal, repeats, unit = host.loss_on_host(user, why)
    notes = [f"The loss cannot be traced by JAX ({first_line(why)}); it was evaluated on the host, row by row."]
    autodiff, silent = host.autodiff_on_host(user)
    manual = numbers = native = spread = otherwise = None
    structure = ""
    if grad is None:
        if autodiff is None:
            raise TypeError(
                "loss cannot be traced or differentiated by JAX, and no grad was given: "
                f"pass grad=. JAX said: {first_line(why)}"
            ) from why
        manual, autodiff, silent = autodiff, None, "same program as the gradient under test"
    else:
        try:
            if callable(grad):
                manual, native, note = host.gradient_on_host(user, None)
                spread = host.scatter(user, native)
                otherwise = functools.partial(host.fallen_otherwise, user, manual)
                notes += [note] if note else []
            else:
                numbers = real_rows(theta, user.numbers())
        except StructureError as error:
            structure = str(error)
    witnesses = (
        Witness("manual", "numbers" if numbers is not None else "host"),
        Witness("numeric", "host"),
        Witness("autodiff", "host" if autodiff else "absent", silent),
    )
    problem = Problem(
        theta,
        (),
        None,
        None,
        None,
        numbers=numbers,
        host_primal=primal,
        host_manual=manual,
        host_autodiff=autodiff,
        is_autodiff=grad is None,
        host_unit=unit,
        numbers_unit=None if numbers is None else units(user),
    )
    return problem, Preface(
        user.name,
        witnesses,
        tuple(notes),
        structure,
        "" if repeats else repeat.LOSS,
        native,
        native_scatter=spread,
        native_otherwise=otherwise,
        beside=of_data([leaf.shape for leaf in theta.leaves], user.args.values),
    )
