"""Several evaluations of a function with its rules, in one compiled program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.check.laws.site import host, unit_in, unit_of
from jaxcheck.program import interpret
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.converge import run_on
from jaxcheck.program.custom.rules import is_reverse_only
from jaxcheck.program.mode import as_jax, is_wide
from jaxcheck.program.objective import NOT_TRACEABLE
from jaxcheck.program.run.by_pieces import pieces
from jaxcheck.program.run.compile import Program, execute


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """`fn(fixed, row)` for every row; rows are lists of arrays of equal shapes."""

    fn: Callable
    fixed: Sequence[Any]
    rows: Sequence[Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Answer:
    """The results of a job, row by row, on the host; or why there are none. `off`, where it was asked for: by row and
    result, how far it may be off by rounding, as a norm."""

    rows: list[list[np.ndarray]]
    unit: float = float("nan")
    error: BaseException | None = None
    closed: Any = None
    off: list[list[float]] = dataclasses.field(default_factory=list)


class Once:
    """A function of pytrees that gives a flat list, as one compiled program for each shape of its arguments: run as it
    is, each of its operations would be a program to compile. What JAX cannot trace is run as it is."""

    def __init__(self, fn: Callable):
        self.fn, self._programs = fn, {}

    def __call__(self, *args: Any) -> list[Any]:
        program = self.program(*args)
        if program is None:
            return list(ask(self.fn, *args))
        flat = list(map(as_jax, jax.tree_util.tree_leaves(args)))
        small = pieces(program)
        if small is not None and (known := small(*flat)) is not None:
            return known
        found, _ = ask(execute, ("once",), lambda calls, *x: list(calls[0](*x)), [program], *flat, work=program.cost)
        return found

    def program(self, *args: Any) -> Program | None:
        """The traced form for arguments of these shapes, or None where JAX cannot trace it."""
        flat, tree = jax.tree_util.tree_flatten(args)
        flat = list(map(as_jax, flat))
        key = (tree, tuple((x.shape, str(x.dtype)) for x in flat), is_wide())
        if key not in self._programs:
            self._programs[key] = self._traced(flat, tree)
        return self._programs[key]

    def _traced(self, flat: list[Any], tree: Any) -> Program | None:
        try:
            return Program.of(
                ask(jax.make_jaxpr(lambda *x: list(self.fn(*jax.tree_util.tree_unflatten(tree, x)))), *flat)
            )
        except Refused as no:
            if isinstance(no.error, NOT_TRACEABLE):
                return None
            raise


class Pulled:
    """A function of arrays with its pull-back, both by one program: the value is there when the pull-back is."""

    def __init__(self, call: Callable):
        self._alone, self._both = Once(call), Once(lambda x, g: _with_values(call, x, g))

    def values(self, x: Sequence[Any]) -> list[Any]:
        """The results at `x`, also where there is no pull-back."""
        x = list(map(as_jax, x))
        try:
            outs = ask(jax.eval_shape, self._alone.fn, *x)
            found = self._both(x, [np.zeros(o.shape, o.dtype) for o in outs])
        except Refused:
            return self._alone(*x)
        return list(found[: len(outs)])

    def back(self, x: Sequence[Any], g: Sequence[Any]) -> list[Any]:
        """The cotangents of `x` for `g`."""
        return list(self._both(list(x), list(g))[len(g) :])

    def traced(self, x: Sequence[Any], g: Sequence[Any]) -> Any:
        """The program of the pull-back, closed, of x and g; None where JAX cannot trace it."""
        program = self._both.program(list(x), list(g))
        if program is None:
            return None
        return interpret.results(program.closed, len(g))


def _with_values(call: Callable, x: Sequence[Any], g: Sequence[Any]) -> list[Any]:
    out, pulled = jax.vjp(call, *x)
    return [*out, *pulled(list(g))]


def run(jobs: dict[str, Job], at_limit: bool = False) -> dict[str, Answer]:
    """All jobs in one compiled program; those that cannot be traced, row by row as they are.

    Args:
        at_limit: loops that stop at a tolerance are run on until they rest.
    """
    answers: dict[str, Answer] = {}
    programs: dict[str, Program] = {}
    for name, job in jobs.items():
        try:
            closed = ask(jax.make_jaxpr(_flat(job)), *job.fixed, *job.rows[0])
        except Refused as no:  # the user's rule and JAX may raise anything; it is the answer
            eager = isinstance(no.error, NOT_TRACEABLE)
            answers[name] = _eager(job) if eager else Answer([], error=no.error)
            continue
        if any(is_reverse_only(eqn) for eqn, _ in interpret.walk(closed)):
            answers[name] = Answer([], error=TypeError("a custom_vjp has no forward mode"))
            continue  # JAX says so only when it compiles
        programs[name] = run_on(Program(closed)) if at_limit else Program(closed)
    try:
        answers |= _compiled(jobs, programs)
    except Refused:
        for name, program in programs.items():  # one by one, so that one failure is not everybody's
            try:
                answers |= _compiled(jobs, {name: program})
            except Refused as no:
                answers[name] = Answer([], error=no.error)
    return answers


def _flat(job: Job) -> Callable:
    n = len(job.fixed)
    return lambda *flat: list(job.fn(list(flat[:n]), list(flat[n:])))


def _compiled(jobs: dict[str, Job], programs: dict[str, Program]) -> dict[str, Answer]:
    known = {name: found for name, p in programs.items() if (found := _by_pieces(jobs[name], p)) is not None}
    programs = {name: p for name, p in programs.items() if name not in known}
    if not programs:
        return known
    counts = tuple(len(jobs[name].rows) for name in programs)

    def whole(calls, fixed, stacks):
        return [jax.lax.map(lambda row, c=c, x=x: c(*x, *row), stack)
                for c, x, stack in zip(calls, fixed, stacks, strict=True)]  # fmt: skip

    fixed = [tuple(jobs[name].fixed) for name in programs]
    stacks = [tuple(map(_stack, zip(*jobs[name].rows, strict=True))) for name in programs]
    work = sum(p.cost * n for p, n in zip(programs.values(), counts, strict=True))
    found, _ = ask(execute, ("laws", counts), whole, list(programs.values()), fixed, stacks, work=work)
    return known | {
        name: Answer([host([x[k] for x in map(np.asarray, out)]) for k in range(n)], unit_in(p.closed), None, p.closed)
        for (name, p), out, n in zip(programs.items(), found, counts, strict=True)
    }


def _by_pieces(job: Job, program: Program) -> Answer | None:
    """The answer without a compiler, where that takes less time."""
    small = pieces(program, len(job.rows))
    found = [] if small is None else [small(*job.fixed, *row) for row in job.rows]
    if not found or any(row is None for row in found):
        return None
    return Answer([host(row or []) for row in found], unit_in(program.closed), None, program.closed)


def _stack(values: Sequence[Any]) -> np.ndarray:
    return np.stack([np.asarray(v) for v in values])


def _eager(job: Job) -> Answer:
    try:
        found = [list(ask(job.fn, list(job.fixed), list(map(jnp.asarray, row)))) for row in job.rows]
    except Refused as no:
        return Answer([], error=no.error)
    unit = unit_of(*(x.dtype for x in found[0]), *(x.dtype for x in job.fixed))
    return Answer([host(row) for row in found], unit)
