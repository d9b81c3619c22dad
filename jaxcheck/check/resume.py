"""`resume=`: a check goes on where another process was ended, and is answered at once where that came to its end.

The file belongs to one problem: what is checked, at which point, with which options, by which versions. Evidence in it
is found by its content (`program.kept`), so the problem's part is to say by name why a file is another one's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any

import jax
import jaxlib
import numpy as np

from jaxcheck.budget import Budget, current
from jaxcheck.check.settings import Settings
from jaxcheck.problem.preface import Preface
from jaxcheck.problem.problem import Problem
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.mode import is_wide
from jaxcheck.program.objective import Traced
from jaxcheck.program.objective import call as call_program
from jaxcheck.program.run import hosts, portable
from jaxcheck.program.run.kept import Kept
from jaxcheck.result import Report
from jaxcheck.store import Store


@dataclasses.dataclass(frozen=True)
class Call:
    """What the caller gave: functions and numbers, by which a file is known again."""

    loss: Any
    grad: Any
    params: Any
    args: Any
    kind: str = "check_grad"


class Resumed:
    """The file of a check; without one nothing is kept. `answered`: an earlier run has answered the call."""

    def __init__(self, store: Store | None):
        self._store = store
        self._claimed = self.answered = False

    def before(self, call: Call, problem: Problem, preface: Preface, settings: Settings, **more: Any) -> Report | None:
        """The report of an earlier run that came to its end. Where there is none, chunks are kept from now on.

        Raises:
            ValueError: the file holds the evidence of another problem; the text says what differs.
        """
        if self._store is None or preface.random or preface.structure:
            return None  # a function that is another one each time has no evidence to go on with
        self._store.claim(fingerprint(call, problem, preface, settings, **more))
        self._claimed = True
        text = hosts.together("the finished check of a file", self._store.finished)[0]
        if text:
            self.answered = True
            report = Report.from_json(json.loads(text))
            again = dataclasses.replace(
                report.cost, reused=report.cost.reused + report.seconds, compiling=0.0, running=0.0, searching=0.0
            )
            return dataclasses.replace(report, seconds=current().taken, compiled=0, cost=again)
        self._store.begin()
        kept = current().kept = Kept(self._store)
        kept.trust(list(problem.extras))
        return None

    def after(self, report: Report) -> Report:
        """The report, stored where the check came to its end."""
        clock = current()
        if self._store is None or not self._claimed:
            return report
        report = dataclasses.replace(report, cost=dataclasses.replace(report.cost, reused=self._store.reused))
        if not clock.stopped and not clock.left_out:
            self._store.finish(json.dumps(report.to_json(), allow_nan=False))
        return report


@contextlib.contextmanager
def resuming(path: Any, clock: Budget) -> Iterator[Resumed]:
    """The file in force, or nothing for `path` None. Of several processes in one check each has its own.

    Raises:
        TypeError, ValueError, OSError: naming `resume` and what to do (`Store.open`).
    """
    if path is None:
        yield Resumed(None)
        return
    process, _ = hosts.share()
    store = Store.open(path, f"-{process}" if process else "")
    try:
        yield Resumed(store)
    finally:
        clock.kept = None
        store.close()


def fingerprint(call: Call, problem: Problem, preface: Preface, settings: Settings, **more: Any) -> dict[str, str]:
    """What makes a problem this one, each part by its name: a text, and in brackets what its content is."""
    theta = problem.theta
    described = {
        "check": call.kind,
        "jaxcheck": _own_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "backend": jax.default_backend(),
        "64-bit mode": "on" if is_wide() else "off",
        "loss": f"{preface.name} [{portable.text(*_loss(call, problem, preface))}]",
        "grad": f"{_name(call.grad)} [{portable.text(*_gradient(call, problem, preface))}]",
        "points"
        if call.kind == "check_batch"
        else "params": f"{theta.size:,} numbers in {len(theta.leaves)} arrays [{portable.text(call.params)}]",
        "args": f"[{portable.text(call.args)}]",
    }
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        described[field.name] = f"{_name(value)} [{portable.text(value)}]" if callable(value) else repr(value)
    return described | {name: repr(value) for name, value in more.items()}


@functools.cache  # whoever may read no more than the file may not read what is installed
def _own_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("jaxcheck")
    except metadata.PackageNotFoundError:  # run from its source
        return "not installed"


def _loss(call: Call, problem: Problem, preface: Preface) -> list[Any]:
    """A program is known by what it computes; a function of Python by its code, and its value at the point."""
    if problem.primal is None:
        host = problem.host_primal
        return [call.loss, None if host is None else np.float64(host(problem.theta.ravel()))]
    run = preface.run
    own = None if run is None else run.source.program.portable
    return [problem.primal.program.portable, own, *_called_back(problem, problem.primal)]


def _gradient(call: Call, problem: Problem, preface: Preface) -> list[Any]:
    if problem.manual is None:
        if problem.numbers is not None:
            return [problem.numbers]
        # Its code says little: what it calls, and reads, may be another one. So does its value at the point.
        host = problem.host_manual
        return [call.grad, None if host is None else np.asarray(host(problem.theta.ravel()))]
    run = preface.run
    own = None if run is None or run.manual is None else run.manual.program.portable
    return [problem.manual.program.portable, own, *_called_back(problem, problem.manual)]


def _called_back(problem: Problem, traced: Traced) -> list[np.ndarray]:
    """The values at the point of a program that calls Python: what that reads may be another, and its code the same."""
    if not traced.program.calls_back:
        return []
    with jax.enable_x64(True):
        values = [*problem.theta.unravel(problem.theta.ravel()), *problem.extras]
        try:
            found = ask(call_program, traced.program, traced.program.closed.in_avals, values)
        except Refused:  # the check itself will meet it, and say so
            return []
        return [np.asarray(x) for x in found]


def _name(value: Any) -> str:
    if value is None:
        return "jax.grad of the loss"
    return getattr(value, "__name__", type(value).__name__) if callable(value) else "numbers"
