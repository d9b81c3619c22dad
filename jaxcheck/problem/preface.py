"""What is known of a problem before any difference is taken, and what the ways of preparing one share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.budget import current
from jaxcheck.notebook import cell
from jaxcheck.problem import repeat
from jaxcheck.problem.at_theta import gradient_of, outputs_of
from jaxcheck.problem.beside import Beside
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.run import Run
from jaxcheck.program.constants import own as owned
from jaxcheck.program.custom.census import rules_in
from jaxcheck.program.custom.given_solves import given_solves
from jaxcheck.program.mode import is_wide
from jaxcheck.program.objective import Traced
from jaxcheck.program.run.compile import execute
from jaxcheck.result import Witness
from jaxcheck.there import there
from jaxcheck.theta import Theta


@dataclasses.dataclass(frozen=True, eq=False)
class Preface:
    """What is known before any difference is taken.

    `structure` is what is wrong with the gradient's structure, or ""; `native` is M in the caller's
    own precision (G, P), None where it is the same as in float64, and `native_finite` whether the outputs are
    finite there; `native_scatter` is how far it moves between neighbours, where M runs on the host, and
    `native_otherwise` measures how far rounding takes it at points farther away; `native_again` runs it once more at
    the point itself; `run` holds the programs that were run
    so; `random` is what differs between two traces or two native runs, or ""; `beside` is what a hint may name;
    `left_out` counts outputs that are not finite at the point and took no part.
    """

    name: str
    witnesses: tuple[Witness, ...]
    notes: tuple[str, ...]
    structure: str = ""
    random: str = ""
    native: np.ndarray | None = None
    native_finite: bool = True
    native_scatter: np.ndarray | None = None
    native_otherwise: Callable[[], np.ndarray] | None = None
    native_again: Callable[[], np.ndarray] | None = None
    run: Run | None = None
    compiled: int = 0
    beside: Beside = dataclasses.field(default_factory=Beside)
    left_out: int = 0


def seen(theta: Theta) -> Theta:
    """The tree with its differentiable leaves as a program of the caller's sees them."""
    values = list(theta.values)
    for leaf in theta.leaves:
        values[leaf.position] = owned(values[leaf.position])
    return dataclasses.replace(theta, values=tuple(values))


def of_no_rule(closed: Any) -> str:
    """What is under test where autodiff without the user's rules would be the same program."""
    made = [cell(said) for said in given_solves(closed)]
    if made:
        return (
            "No custom rule is inside, but a derivative that JAX makes of functions it was handed. That is under test, "
            f"and not taken out for an autodiff witness: {'; '.join(made[:6])}"
        )
    installed = dict.fromkeys(f"{r.name} ({cell(r.file)}:{r.line})" for r in rules_in(closed) if r.origin != "jax")
    if not installed:
        return "No custom rule but JAX's own is inside: JAX's own derivative is under test."
    return (
        "The custom rules inside are of installed packages and are not taken out for an autodiff witness; "
        f"the derivative under test is made with them: {'; '.join(list(installed)[:6])}"
    )


def effects(own: Traced) -> list[str]:
    """What is said of a loss that does more than compute."""
    notes = []
    if own.effects:
        notes.append(f"The loss has side effects ({', '.join(own.effects)}); prints and logs are left out.")
    if own.closed.effects:
        notes.append("It calls back for numbers that it uses: once per evaluation, row by row.")
    return notes


def units(theta: Theta, picked: Sequence[Any]) -> np.ndarray:
    """(P,) rounding unit of each number of a given gradient, leaf by leaf."""
    parts = []
    for leaf, g in zip(theta.leaves, picked, strict=True):
        # Numbers of NumPy's are looked at as they are: no program of JAX's rounds them to float32.
        dtype = g.dtype if isinstance(g, (np.ndarray, np.generic)) else jax.dtypes.result_type(g)
        inexact = jax.dtypes.issubdtype(dtype, np.inexact) and hasattr(g, "dtype")
        parts.append(np.full(leaf.stop - leaf.start, float(jnp.finfo(dtype).eps) if inexact else 0.0))
    return np.concatenate(parts)


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
    units = max(np.finfo(np.float64).eps, *(float(jnp.finfo(x.dtype).eps) for x in run.leaves))
    loss, gradient = (repeat.differ(x, y, units) for x, y in zip(*runs, strict=True))
    random = repeat.LOSS if loss else repeat.GRADIENT if gradient else ""
    return dataclasses.replace(
        preface,
        run=run,
        native=runs[0][1],
        native_finite=bool(np.isfinite(runs[0][0]).all()),
        random=preface.random or random,
        compiled=preface.compiled + compiled,
    )
