"""What a check may take, and what it has taken: seconds, programs, bytes. And who may stop it.

One `Budget` is in force while a front door is open, and it is asked before each program and between blocks of rows.
Once the time is spent, or Ctrl-C was pressed, it answers by raising `Stopped`; whoever holds evidence by then goes
on with what is known. A second Ctrl-C is an ordinary KeyboardInterrupt.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import numbers
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from jaxcheck.progress import Moment, line
from jaxcheck.tracebacks import of_a_signal

# Seconds that a check may take if the caller says nothing. A choice: what a person waits for.
SECONDS = 60.0
# What is granted beyond the budget to a program whose time is foreseen, as a part of it.
OVER = 0.2
# Part of the budget after which directions beyond the first ones are no longer begun: what contradicts the gradient
# is looked at more closely before anyone is blamed, and that takes time as well.
DIRECTIONS = 0.6
# Evaluations shorter than this say nothing of how long many take: calls have their own cost.
TELLING = 0.05
# Seconds that a compilation takes at least to tell of another, and how much larger that one may be. Choices.
COMPILING, MUCH = 1.0, 4
# What a block of rows is to take, in seconds and as a part of the budget: an interrupt loses no more.
BLOCK, BLOCK_PART = 1.0, 0.05

TIME, USER, MEMORY = "time", "user", "memory"


class Stopped(BaseException):
    """The check ends here with what it knows. No `Exception`, so that nobody takes it for an error of the caller's."""


class Budget:
    """The time of one check, its spending, and whoever watches it.

    Attributes:
        seconds: what may be taken, infinite for as long as it takes.
        stopped: why the check was stopped: `TIME`, `USER`, `MEMORY`, or "".
        compile_seconds, run_seconds, search_seconds, peak_bytes: spent so far; the largest compiled program's memory, 0
            if not known.
        last_need: bytes of the program that ran last, or was to run.
        planned, left_out: evaluations of the function that were planned at first, and of them those not made.
        row_seconds: of one evaluation among many, pair_seconds: of one loss with its gradient, each as it was last
            measured; NaN where none was.
        said: what memory was missing, or what would not have fitted into the time.
        kept: the file in which chunks of evidence are kept (`program.run.kept.Kept`), None without one.
    """

    def __init__(self, seconds: float | None = None, watch: Callable[[Moment], None] | None = None):
        self.seconds = math.inf if seconds is None else float(seconds)
        self.start, self._work = time.perf_counter(), time.process_time()
        self.stopped = self.said = ""
        self.compile_seconds = self.run_seconds = self.search_seconds = 0.0
        self.peak_bytes = self.last_need = self.planned = self.left_out = 0
        self.row_seconds = self.pair_seconds = math.nan
        self._pressed = False
        self.kept: Any = None
        self._times: dict[Any, float] = {}
        self._compilations: list[tuple[int, float, bool]] = []
        self._watch, self._failure = watch, None

    @staticmethod
    def make(seconds: Any, watch: Callable | None = None) -> Budget:
        """Raises ValueError or TypeError naming the option."""
        if seconds is not None:
            if isinstance(seconds, bool) or not isinstance(seconds, numbers.Real):
                raise TypeError(f"budget={seconds!r}: seconds, or None for as long as it takes")
            if not float(seconds) > 0:
                raise ValueError(f"budget={seconds!r}: seconds, above 0; None takes as long as it takes")
        return Budget(None if seconds is None else float(seconds), watch)

    @property
    def taken(self) -> float:
        return time.perf_counter() - self.start

    @property
    def worked(self) -> float:
        """Seconds taken, without those in which others kept this process waiting."""
        return min(self.taken, time.process_time() - self._work)

    @property
    def left(self) -> float:
        return self.seconds - self.taken

    @property
    def block(self) -> float:
        """Seconds that a block of rows may take."""
        return min(BLOCK, BLOCK_PART * self.seconds)

    def ask(self, seconds: float = 0.0, part: float = 1.0) -> None:
        """Go on?

        Args:
            seconds: what is about to be taken, where that was measured: a guess must not cost a verdict.
            part: of the budget that may be used for this.

        Raises:
            Stopped: the time is spent, or would be by far; or Ctrl-C was pressed.
        """
        if self._pressed:
            self._stop(USER)
        granted = part * self.seconds
        if self.taken > granted or self.taken + seconds > granted + OVER * self.seconds:
            if part == 1 and self.taken <= granted:
                self.said = self.said or f"what comes next takes about {seconds:.2g} s"
            self._stop(TIME if part == 1 else "")

    def _stop(self, why: str) -> NoReturn:
        self.stopped = self.stopped or why
        raise Stopped(why)

    def stop(self, said: str) -> NoReturn:
        """The check ends here, for a reason that lies elsewhere. Raises Stopped."""
        self.said = self.said or said
        self._stop(TIME)

    def pressed(self) -> None:
        """Ctrl-C. Raises KeyboardInterrupt the second time."""
        if self._pressed:
            raise KeyboardInterrupt
        self._pressed = True
        self.stopped = self.stopped or USER

    def out_of_memory(self, said: str) -> None:
        self.stopped, self.said = self.stopped or MEMORY, self.said or said

    def compiled(self, seconds: float, equations: int = 0, small: bool = False) -> None:
        """A program of so many equations was compiled in so many seconds; `small`: with little optimisation."""
        self.compile_seconds += seconds
        if equations:
            self._compilations.append((equations, seconds, small))

    def compilation(self, equations: int, small: bool = False) -> float:
        """Seconds that compiling a program takes by what programs of its kind took before in this check.

        By their equations, to which a compiler's time is about proportional, and by the fastest of those that are
        large enough to tell of this one; 0 where there is none.
        """
        telling = [
            seconds / count
            for count, seconds, kind in self._compilations
            if kind == small and count <= equations <= MUCH * count and seconds > COMPILING
        ]
        return min(telling, default=0.0) * equations

    def ran(self, program: Any, seconds: float, part: float, peak: int) -> None:
        """A program ran for so long, with so many bytes, and did a part of what it can in one call."""
        self.run_seconds += seconds
        self.peak_bytes = max(self.peak_bytes, peak)
        if math.isfinite(self.seconds):  # without a limit nobody asks, and outside of a front door it would only grow
            self._times[program] = seconds / part

    def foreseen(self, program: Any, part: float) -> float:
        """Seconds that a program takes by what it took before in this check; 0 where it did not run yet."""
        return self._times.get(program, 0.0) * part

    def tell(self, doing: str, done: int = 0, total: int = 0) -> None:
        """Tell whoever watches. What the watcher raises comes out when the check is done, not in the middle of it."""
        if self._watch is None or self._failure is not None:
            return
        try:
            self._watch(Moment(doing, done, total, self.taken, self.seconds))
        except Exception as error:
            if of_a_signal(error):
                raise
            error.add_note("raised by progress=, a function of one argument, what the check is doing")
            self._failure = error

    def close(self) -> None:
        if self._failure is not None:
            raise self._failure


_CURRENT: contextvars.ContextVar[Budget | None] = contextvars.ContextVar("jaxcheck_budget", default=None)


_OUTSIDE = threading.local()


def current() -> Budget:
    """The budget in force in this thread; outside of a front door one without a limit."""
    found = _CURRENT.get()
    if found is None:
        found = _OUTSIDE.budget = getattr(_OUTSIDE, "budget", None) or Budget()
    return found


@contextlib.contextmanager
def running(seconds: Any, progress: Any = None) -> Iterator[Budget]:
    """A budget in force, with whoever watches, and Ctrl-C taken as a wish to see what is known.

    Raises:
        ValueError, TypeError: naming `budget` or `progress`.
        Whatever a `progress` function of the caller's raised, at the end.
    """
    with line(progress) as watch:
        budget = Budget.make(seconds, watch)
        token = _CURRENT.set(budget)
        try:
            with _one_interrupt(budget):
                yield budget
        finally:
            _CURRENT.reset(token)
    budget.close()


@contextlib.contextmanager
def _one_interrupt(budget: Budget) -> Iterator[None]:
    """The first Ctrl-C is noted, and told when the budget is next asked; so no program is left half done. Whoever has
    a handler of their own keeps it: what it raises is taken for the same wish by `until_stopped`."""
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: budget.pressed())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def cut_short() -> Iterator[None]:
    """What is done inside ends early where the budget or the user says so; the budget knows why."""
    try:
        yield
    except Stopped:
        pass
    except KeyboardInterrupt:
        current().pressed()


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """As `cut_short`, and where the memory does not suffice."""
    try:
        with cut_short():
            yield
    except MemoryError as error:
        current().out_of_memory(str(error))
