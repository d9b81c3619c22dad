"""Traced programs, and how they are run: compiled once, so that a second check compiles nothing (`cache`).

A check traces the caller's function every time (cheap, and it sees a changed closure or a rule that
was edited in a notebook), then looks the program up by its identity: the same computation and shapes, the
same executable. Constants that were closed over travel as arguments, so new data needs no new compilation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax._src import config
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import Mesh

from jaxcheck import budget
from jaxcheck.program import interpret
from jaxcheck.program.custom.called import as_called
from jaxcheck.program.custom.rules import is_inexact
from jaxcheck.program.custom.strip import with_forwards
from jaxcheck.program.float64.shadow import lift
from jaxcheck.program.identity import identity
from jaxcheck.program.mode import is_traced, is_wide
from jaxcheck.program.run import batching, cache, hoisting, kept, memory, portable, spread

# Held while callbacks run, see `_mode_of_callbacks`.
_MODE = threading.RLock()
# Elements that a program computes, below which compiling it costs more than running it.
SMALL = 3e7
# Equations of an ordinary program. In one with many more, a compiler that optimises takes more than its share of time:
# 18 s, where it takes 2 s with little optimisation and the run 0.7 s in place of 0.3 s (tanh of 120 leaves, squared and
# added up, 2,764 equations; 35, 5, 1 and 0.2 s with 200 leaves; 2 cores, with other work beside). What it costs more
# than that is taken to grow as the square of their number at first, and from `MANY` times as many on as their number: a
# choice of cost, not of verdicts.
ORDINARY, MANY = 100, 4


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A closed jaxpr with flat inputs. `lifted`: its low-precision parts are re-emitted in float64.

    Calling it evaluates the program (inside any JAX trace) on flat values.
    """

    closed: Any
    lifted: bool = False
    native_islands: bool = False

    @staticmethod
    def of(closed: Any) -> Program:
        """A program whose constants are settled, with those of the calls in it among its own; as it is called, however
        many rows of it are run in a batch."""
        return Program(hoisting.hoisted(as_called(closed)))

    @functools.cached_property
    def identity(self) -> Any:
        """What it computes, hashable: see `identity.identity`."""
        return identity(self.closed), self.lifted, self.native_islands

    def is_same(self, other: Program) -> bool:
        """Whether both compute the same of the same, their constants being equal."""
        return self is other or (
            self.identity == other.identity and all(map(_are_equal, self.closed.consts, other.closed.consts))
        )

    @functools.cached_property
    def portable(self) -> bytes:
        """What it computes, its own constants included, the same in every process."""
        return portable.digest(portable.of_program(self.closed), self.lifted, self.native_islands)

    @functools.cached_property
    def calls_back(self) -> bool:
        """Whether it may call Python while it runs."""
        return batching.calls_back(self.closed)

    @functools.cached_property
    def calls_back_wide(self) -> bool:
        """Whether it may call Python with 64-bit floats."""
        return batching.calls_back(self.closed, wide=True)

    @functools.cached_property
    def sequential(self) -> str:
        """Why rows of this program should run one after the other, or ""."""
        return batching.sequential(self.closed)

    @functools.cached_property
    def placed(self) -> bool:
        """Whether it says itself on which devices it runs."""
        return spread.is_placed(self.closed)

    def copies(self, over: Mesh | None) -> tuple[Any, ...]:
        """Its constants, on each of the devices; made once for as long as it is run on the same ones."""
        kept = self.__dict__.get("_copies", (None, tuple(self.closed.consts)))
        if kept[0] != spread.here(over):
            kept = self.__dict__["_copies"] = spread.here(over), spread.everywhere(tuple(self.closed.consts), over)
        return kept[1]

    def bind(self, consts: Sequence[Any]) -> Callable:
        closed = with_forwards(ClosedJaxpr(self.closed.jaxpr, list(consts)))
        return lift(closed, native_islands=self.native_islands) if self.lifted else jaxpr_as_fun(closed)

    def __call__(self, *flat: Any) -> list[Any]:
        return self.bind(self.closed.consts)(*flat)

    @functools.cached_property
    def cost(self) -> float:
        """Elements produced by all equations, loops multiplied out: a machine-independent work estimate."""
        return work(self.closed.jaxpr)

    @functools.cached_property
    def equations(self) -> int:
        return sum(1 for _ in interpret.walk(self.closed))

    @functools.cached_property
    def effort(self) -> float:
        """`cost` with what takes time and makes few elements: contractions, loops of unknown length, calls of Python.
        Rather too much: by it is decided how many rows are run without a look at the clock."""
        return batching.effort(self.closed.jaxpr)


def _are_equal(x: Any, y: Any) -> bool:
    """Whether two constants of one type are equal; those that are not numbers here, where they are one object."""
    if x is y:
        return True
    if any(is_traced(v) or not getattr(v, "is_fully_addressable", True) for v in (x, y)):
        return False
    extended = jax.dtypes.issubdtype(jax.typeof(x).dtype, jax.dtypes.extended)
    return not extended and bool(np.array_equal(np.asarray(x), np.asarray(y), equal_nan=bool(is_inexact(x))))


def work(jaxpr: Any) -> float:
    """Output elements of every equation: what elementwise work and memory traffic follow."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total = 0.0
    for eqn in jaxpr.eqns:
        inner = [work(sub) for value in eqn.params.values() for sub in _jaxprs(value)]
        if inner:
            total += sum(inner) * eqn.params.get("length", 20 if eqn.primitive.name == "while" else 1)
            continue
        size = sum(math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
        total += size
    return total


def _jaxprs(value: Any):
    for item in value if isinstance(value, (tuple, list)) else (value,):
        if hasattr(item, "eqns") or hasattr(getattr(item, "jaxpr", None), "eqns"):
            yield item


def _signature(tree: Any) -> Any:
    leaves, treedef = jax.tree_util.tree_flatten(tree)
    return treedef, tuple(
        (t.shape, str(t.dtype), spread.where(x)) for x, t in zip(leaves, map(jax.typeof, leaves), strict=True)
    )


def execute(
    name: Any,
    build: Callable,
    programs: Sequence[Program],
    *args: Any,
    work: float = 0.0,
    part: float = 1.0,
    over: Mesh | None = None,
    split: Sequence[int] = (),
    keep: bool = False,
) -> tuple[Any, int]:
    """Run `build(callables, *args)`, compiled; `callables` are the programs with their constants.

    The budget in force is asked before, and told what was spent.

    Args:
        name: hashable; together with the programs' identity and all shapes it identifies `build`.
        work: estimated elements computed. Small programs are compiled with little optimisation,
            because there the compiler costs more than the run.
        part: of that work, what this call does.
        over: devices, each of which runs `build` on its share of the rows; `split` are the args that hold them, see
            `spread.rows`.
        keep: whether the result, arrays in tuples and lists, is worth keeping for a run that goes on with this one
            (`kept`): it is small, and took long.

    Returns:
        (result, number of programs compiled now: 0 or 1).

    Raises:
        budget.Stopped: the time is spent, or would be.
        memory.Exhausted: the program needs more memory than there is.
    """

    def whole(consts, *args):
        return build([p.bind(c) for p, c in zip(programs, consts, strict=True)], *args)

    clock = budget.current()
    clock.last_need = 0
    shelf = kept.shelf(name, programs, args) if keep else None
    earlier = shelf.take() if shelf is not None else None
    if earlier is not None:
        clock.ask()
        return earlier.value, 0
    consts = [tuple(p.closed.consts) for p in programs]
    if not any(p.placed for p in programs):
        consts, args = [p.copies(over) for p in programs], spread.placed(args, over, split)
    small = work < _small(programs) and jax.default_backend() == "cpu"
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    known = tuple(p.identity for p in programs)
    key = (name, small, over or str(device), known, _signature(consts), _signature(args), is_wide())
    clock.ask(seconds=clock.foreseen(key, part))
    hit = cache.find(key)
    new = hit is None
    with _mode_of_callbacks(programs), memory.exhausted(lambda: clock.last_need):
        if hit is None:
            clock.tell("compiling")
            hit = cache.make(key, spread.rows(whole, over, split), (consts, *args), small)
            clock.ask()
        executable, need = hit
        clock.last_need = need.total
        memory.afford(need)
        if new or part == 1:  # whoever runs many parts tells how many
            clock.tell("running")
        start = time.perf_counter()
        out = jax.block_until_ready(executable(consts, *args))
        seconds = time.perf_counter() - start
        clock.ran(key, seconds, part, need.total)
    if shelf is not None:
        shelf.put(out, seconds)
    return out, int(new)


def _small(programs: Sequence[Program]) -> float:
    """Work of programs below which compiling them costs more than running them."""
    many = max(1.0, sum(p.equations for p in programs) / ORDINARY)
    return SMALL * many * min(many, MANY)


def _everybodys_mode() -> bool:
    """Whether the 64-bit mode is on outside of any thread's context. (`jax.enable_x64(None)` turns it off.)"""
    state = config.enable_x64
    return bool(state.get_global() if hasattr(state, "get_global") else jax.config.values["jax_enable_x64"])


@contextlib.contextmanager
def _mode_of_callbacks(programs: Sequence[Program]) -> Iterator[None]:
    """Callbacks run in threads of XLA's own, which know nothing of the mode of this one: what JAX hands to them, in a
    64-bit program, would be rounded to 32 bits. So while such a program runs, the mode is everybody's."""
    wide = is_wide()
    if not wide or not any(p.calls_back_wide for p in programs):
        yield
        return
    with _MODE:
        if _everybodys_mode():
            yield
            return
        jax.config.update("jax_enable_x64", True)
        try:
            with jax.enable_x64(True):
                yield
        finally:
            jax.config.update("jax_enable_x64", False)
