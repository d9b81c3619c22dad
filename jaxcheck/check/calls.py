"""The front door for a hand-written backprop: evidence, then judgement, then a Report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from jaxcheck.budget import SECONDS, running, until_stopped
from jaxcheck.check.arguments import (
    AS_THE_LOSS,
    Called,
    about_lists,
    beside,
    first_and,
    gathered,
    refuse_data_as_grad,
    refuse_params_in_one,
)
from jaxcheck.check.batch import check_batch
from jaxcheck.check.door import door
from jaxcheck.check.engine import examine
from jaxcheck.check.minimise import minimisable
from jaxcheck.check.resume import Call, resuming
from jaxcheck.check.rule import check_rule
from jaxcheck.check.settings import Settings
from jaxcheck.check.stopping import finished, unprepared
from jaxcheck.check.where import blamed
from jaxcheck.check.wider import at_full_length, may_differ
from jaxcheck.options import Exhaustive, Sketch, Tolerance
from jaxcheck.problem.of_loss import prepare
from jaxcheck.problem.subject import name_of
from jaxcheck.program.run import hosts, spread
from jaxcheck.result import Report


@door
@minimisable("params", "args", "kwargs")
@at_full_length
def check_grad(
    loss: Callable[..., Any],
    params: Any,
    grad: Any = None,
    *,
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    argnums: int | Sequence[int] | None = None,
    has_aux: bool = False,
    mode: Exhaustive | Sketch | Literal["exhaustive", "sketch"] | None = None,
    tolerance: Tolerance | float | None = None,
    must_catch: float | None = None,
    precision: Literal["float64", "native"] = "float64",
    surrogate: Any = False,
    seed: int = 0,
    name: str | None = None,
    budget: float | None = SECONDS,
    progress: Callable[..., Any] | bool | None = None,
    devices: Any = None,
    where: bool | float = True,
    resume: str | os.PathLike[str] | None = None,
) -> Report:
    """Check the gradient of a scalar loss against centred differences and autodiff.

    Args:
        loss: `loss(params, *args)`, a real scalar (or `(scalar, aux)` with `has_aux`). May be written
            in NumPy; then it is evaluated on the host, row by row, and autodiff stays silent.
        params: any pytree. Inexact leaves are differentiated; the rest is carried and reported.
        grad: `grad(params, *args)`, the hand-written backprop, returning a tree like `params`; or a
            function like `jax.value_and_grad`'s; or the tree of numbers itself; or None, then
            `jax.grad(loss)` is under test, custom rules included.
        args: extra positional arguments of both, not differentiated.
        kwargs: keyword arguments of both, not differentiated.
        argnums: as in `jax.grad`, of the arguments (params, *args): those to differentiate, where `grad` returns
            their gradients alike. With (0, 1) the leaves are `[0]...` and `[1]...`. Default 0.
        has_aux: whether `loss` returns `(value, aux)`.
        mode: `Exhaustive(...)`, `Sketch(...)`, "exhaustive" or "sketch"; None lets the cost decide.
        tolerance: relative and absolute bound per leaf, beside the error bars; see `Tolerance` for the default.
            A number is the relative one.
        must_catch: if the check could not have caught an error of this relative size in a leaf,
            it is VACUOUS, not PASS. None (default) is 1e-3, or what the tolerance leaves to be caught where that
            is coarser: ten times its rtol. On a kink, where a range of gradients is right, it asks for nothing.
        precision: "float64" (default: the formula is judged in float64 whatever the parameters'
            dtype) or "native".
        surrogate: True, or a function of the leaf path, for gradients that differ from the derivative
            on purpose (straight-through, clipping): structure, finiteness and repeatability only.
        seed: of the random directions.
        name: shown in the report; default the loss's own name.
        budget: seconds that the check may take; None for as long as it takes. Every leaf is looked at once before any
            is looked at twice; what was left out is INCONCLUSIVE (INTERRUPTED), and the report says what more time
            would buy. So it is after Ctrl-C (once; twice stops at once). Kept but for a program that is under way.
        progress: False, or a function of a `jaxcheck.progress.Moment`; default a line on stderr after a second, in
            terminals and notebooks only.
        devices: a device of `jax.devices()`, or a sequence of several (a `Mesh` counts as one): rows of a check that
            takes a second or more are spread over them. Default all there are; but arrays that were committed to
            devices (`jax.device_put(x, device)`) stay there, and what `jax.default_device` says holds. The numbers
            are the same but for rounding. After `jax.distributed.initialize()` every process makes the same call, each
            takes its share of the rows, and all return the report of process 0, which alone shows progress. (A check
            that is too short to be split exchanges nothing: each process judges what it holds itself.)
            `jax.local_devices()` keeps a check to its own process.
        where: whether, after a FAIL, the wrong line of the backward pass is looked for, some 10 s at most
            (`Report.culprits`); a number is that of the seconds. False leaves that out.
        resume: path of a file (SQLite) in which evidence is kept as it comes. The same call goes on from there when
            the process was ended, whatever ended it; a check that came to its end is answered from it at once.

    Returns:
        A `Report`. It never raises for a wrong gradient; `report.assert_ok()` does.

    Raises:
        TypeError: the loss is not a real scalar, no leaf is differentiable, an argument has the wrong
            kind, or the check was called while JAX is tracing.
        ValueError: an option is out of range; `resume` is the file of another check, and the text says what differs.
        OSError: `resume` cannot be written, the disk is full, or another run has it (BlockingIOError).
        RuntimeError: another process of the check died, failed, or makes another call.
        Whatever the loss or the gradient raises, and, without `grad`, what JAX raises when it differentiates the loss.

    Reference: formulas (1) and (2) of the gradient-checking procedure taught in the deep-learning
    courses (Ng, "Gradient checking"): per component (J(theta+eps e_i) - J(theta-eps e_i)) / (2 eps) and
    ||grad - approx|| / (||grad|| + ||approx||).
    """
    start = time.perf_counter()
    settings = Settings.make(mode, tolerance, must_catch, surrogate, seed, precision)
    refuse_data_as_grad(loss, params, grad, args, kwargs or {})
    refuse_params_in_one(loss, params, args, kwargs or {})
    given = params
    called = Called(beside, (loss, grad), first_and(params, args), kwargs, of_others=AS_THE_LOSS)
    loss, params, grad, args = gathered(loss, params, grad, args, argnums, {} if kwargs is None else kwargs)
    call = Call(loss, grad, params, args)
    with (
        running(budget, hosts.watch(progress)) as clock,
        spread.over(devices, params, args, kwargs),
        resuming(resume, clock) as file,
    ):
        report = problem = None
        with until_stopped(), about_lists(given), called:
            problem, preface = prepare(loss, params, grad, args, has_aux, precision)
            earlier = file.before(call, problem, preface, settings, where=where, name=name or preface.name)
            if earlier is not None:
                return earlier
            report = examine(problem, preface, settings, kind="check_grad", name=name or preface.name, start=start)
            with hosts.by_itself():
                report = blamed(report, problem, where, rules=grad is None)
        if report is None:
            report = unprepared("check_grad", name_of(loss, name), params, settings.seed)
        done = hosts.same(file.after(finished(report, grad if callable(grad) else loss)))
        return done if problem is None else may_differ(done, problem)


check_grad.__module__ = "jaxcheck"
__all__ = ["check_batch", "check_grad", "check_rule"]
