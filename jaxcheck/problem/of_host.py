"""From a loss that JAX cannot trace to a `Problem`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from jaxcheck.problem import host, repeat
from jaxcheck.problem.beside import of_data
from jaxcheck.problem.preface import Preface, units
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.user import HeldFixed, StructureError, User, first_line, real_rows
from jaxcheck.result import Witness


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """The gradient under test: a function of theta, with what it gives natively and how far that is off (see
    `Preface`), or numbers."""

    call: Callable | None = None
    native: np.ndarray | None = None
    scatter: np.ndarray | None = None
    otherwise: Callable[[], np.ndarray] | None = None
    again: Callable[[], np.ndarray] | None = None
    numbers: np.ndarray | None = None
    unit: np.ndarray | None = None  # of the numbers' rounding
    note: str = ""


def _given(user: User, autodiff: Callable | None, why: BaseException) -> Given:
    """The caller's gradient, or autodiff's where there is none. Raises StructureError."""
    if user.grad is None:
        if autodiff is None:
            raise TypeError(
                "loss cannot be traced or differentiated by JAX, and no grad was given: "
                f"pass grad=. JAX said: {first_line(why)}"
            ) from why
        return Given(autodiff)
    if not user.grad_is_function:
        picked = user.numbers()
        return Given(numbers=real_rows(user.theta, picked), unit=units(user.theta, picked))
    call, picked, note = host.gradient_on_host(user, None)
    native, unit = real_rows(user.theta, picked), units(user.theta, picked)
    coarse = unit.max(initial=0.0) > np.finfo(np.float64).eps
    held = host.hands_out(user, call, native) if coarse else np.zeros(native.shape[1], bool)
    farther, again = functools.partial(host.fallen_otherwise, user, call), functools.partial(host.once_more, user)
    return Given(
        call, native, host.scatter(user, native), farther, again, unit=unit * held if held.any() else None, note=note
    )


def _given_or_why(user: User, autodiff: Callable | None, why: BaseException) -> tuple[Given, str]:
    """(`_given`, ""), or (nothing, what is wrong with its structure)."""
    try:
        return _given(user, autodiff, why), ""
    except HeldFixed:
        raise
    except StructureError as error:
        return Given(), str(error)


def prepare_host(user: User, why: BaseException) -> tuple[Problem, Preface]:
    """A loss that cannot be traced: plain numbers, row by row.

    Raises:
        HeldFixed: the gradient leaves Python numbers out, with which the loss may be traced.
    """
    primal, repeats, unit = host.loss_on_host(user, why)
    note = f"The loss cannot be traced by JAX ({first_line(why)}); it was evaluated on the host, row by row."
    autodiff, silent = host.autodiff_on_host(user)
    given, structure = _given_or_why(user, autodiff, why)
    if user.grad is None:
        autodiff, silent = None, "same program as the gradient under test"
    witnesses = (
        Witness("manual", "host" if given.numbers is None else "numbers"),
        Witness("numeric", "host"),
        Witness("autodiff", "host" if autodiff else "absent", silent),
    )
    problem = Problem(
        user.theta,
        (),
        None,
        None,
        None,
        numbers=given.numbers,
        host_primal=primal,
        host_manual=given.call,
        host_autodiff=autodiff,
        is_autodiff=user.grad is None,
        host_unit=unit,
        numbers_unit=given.unit,
    )
    return problem, Preface(
        user.name,
        witnesses,
        (note, given.note) if given.note else (note,),
        structure,
        "" if repeats else repeat.LOSS,
        given.native,
        native_scatter=given.scatter,
        native_otherwise=given.otherwise,
        native_again=given.again,
        beside=of_data([leaf.shape for leaf in user.theta.leaves], user.args.values),
    )
