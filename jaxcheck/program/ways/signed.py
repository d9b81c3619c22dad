"""Branch signature: one number that stays the same for as long as every decision in a program does.

Between two points with the same signature a program is one smooth piece, as far as decisions tell: comparisons,
who won a maximum, the order of a sort, integers that floats were rounded to, branches, counts of loops, sides of
poles and of branch cuts. What the moving inputs do not reach decides the same always and is left out. Beyond its
sight are decisions inside foreign functions, and those of factorisations (eigenvalues that cross).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util

from jaxcheck.program import interpret, jaxpr
from jaxcheck.program.custom import rules
from jaxcheck.program.ways import deciding

__all__ = ["Decision", "decisions", "signed"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Value:
    """An array, and whether it may move with the inputs; integers do only as the bits of a float."""

    array: Any
    moving: bool = dataclasses.field(default=False, metadata={"static": True})


def _mixed(state: Any, digest: Any) -> Any:
    """The signature after one more decision; the order counts."""
    state = (state ^ digest) * np.uint32(0x9E3779B1)
    return state ^ (state >> np.uint32(15)) ^ np.uint32(0x85EBCA6B)


class Signed(jaxpr.Way[Any]):
    """The way. Its state is the signature so far."""

    def constant(self, value: Any, aval: Any) -> Value:
        return Value(interpret.as_declared(value, aval))

    def plain(self, value: Value) -> Any:
        return value.array

    def general(self, value: Value, aval: Any) -> Value:
        # Taking for moving what is not costs time only: it decides the same always.
        return Value(jaxpr.array(value.array, aval), rules.is_inexact(aval) or value.moving)

    def whole(self, eqn: Any, operands: list[Value]) -> bool:
        return not any(v.moving for v in operands)

    def begin(self, eqn: Any, state: Any, index: Any = None) -> Any:
        return state if index is None else self._decided(eqn, state, index.astype(np.uint32))

    def turn(self, eqn: Any, state: Any) -> Any:
        return self._decided(eqn, state, np.uint32(1)) if eqn.primitive.name == "while" else state

    def equation(self, eqn: Any, operands: list[Value], state: Any) -> tuple[list[Value], Any]:
        arrays, moving = [v.array for v in operands], [v.moving for v in operands]
        out = interpret.bind(eqn, arrays)
        if not any(moving):
            return [Value(x) for x in out], state
        for outcome in deciding.outcomes(eqn, arrays, moving, out):
            state = self._decided(eqn, state, deciding.digest(outcome))
        follows = deciding.follows(eqn, moving)
        return [Value(x, follows or rules.is_inexact(v.aval)) for x, v in zip(out, eqn.outvars, strict=True)], state

    def _decided(self, eqn: Any, state: Any, digest: Any) -> Any:
        return _mixed(state, digest)


def _run(program: Any, way: Signed, args: Sequence[Any], state: Any, moving: Sequence[bool] | None) -> Any:
    invars = interpret.opened(program).invars
    marks = [rules.is_inexact(v.aval) for v in invars] if moving is None else moving
    values = [Value(a, m and rules.is_inexact(v.aval)) for a, v, m in zip(args, invars, marks, strict=True)]
    out, state = jaxpr.run(way, program, values, state)
    return [v.array for v in out], state


def signed(program: Any, moving: Sequence[bool] | None = None) -> Callable[..., tuple[list[Any], Any]]:
    """A closed jaxpr as `run(*args) -> (results, signature)`, a uint32; jit and vmap it.

    `moving` says which arguments differ between the runs to be compared; all inexact ones if absent.
    """

    def run(*args: Any) -> tuple[list[Any], Any]:
        return _run(program, Signed(), args, jnp.uint32(0), moving)

    return run


@dataclasses.dataclass(frozen=True)
class Decision:
    """Where a program decides: the primitive, and the line of the caller's file."""

    primitive: str
    where: str

    def __str__(self) -> str:
        return f"`{self.primitive}` at {self.where}" if self.where else f"`{self.primitive}`"


class _Sited(Signed):
    """A signature for each place. Places go by line: an equation may be traced anew in every run."""

    def __init__(self, sites: dict[Decision, int]):
        super().__init__()
        self._sites = sites

    def _site(self, eqn: Any) -> Decision:
        # A function of a library that is jitted knows nothing of the line that called it; the call does.
        lines = (source_info_util.summarize(e.source_info) for e in (eqn, *reversed(self.callers)))
        return Decision(eqn.primitive.name, next(filter(None, lines), ""))

    def _decided(self, eqn: Any, state: Any, digest: Any) -> Any:
        site = self._sites[self._site(eqn)]
        return state.at[site].set(_mixed(state[site], digest))


class _Scout(_Sited):
    """Finds the places where something is decided; their order is that of the program."""

    def _decided(self, eqn: Any, state: Any, digest: Any) -> Any:
        self._sites.setdefault(self._site(eqn), len(self._sites))
        return state


def decisions(
    program: Any, moving: Sequence[bool] | None = None
) -> tuple[tuple[Decision, ...], Callable[..., tuple[list[Any], Any]]]:
    """Where a program decides, and `run(*args) -> (results, signature of each place)`; slower than `signed`.

    Run it on a program as it was traced: one that was emitted again names the lines that emitted it.
    """
    inputs = rules.abstract(interpret.opened(program).invars)
    sites: dict[Decision, int] = {}

    def scout(*args: Any) -> Any:
        return _run(program, _Scout(sites), args, jnp.uint32(0), moving)

    jax.eval_shape(scout, *inputs)

    def run(*args: Any) -> tuple[list[Any], Any]:
        start = jnp.zeros(len(sites), np.uint32)
        return _run(program, _Sited(sites), args, start, moving)

    return tuple(sites), run
