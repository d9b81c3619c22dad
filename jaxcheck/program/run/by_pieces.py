"""A small program run operation by operation, where that needs no compiler: each is NumPy's, or was compiled before.

To compile a program of fifty operations takes some 50 ms, and to run it so some 0.3 ms.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck import budget
from jaxcheck.program import interpret, jaxpr
from jaxcheck.program.run.by_numpy import known_by_numpy, result
from jaxcheck.program.run.compile import Program
from jaxcheck.program.run.eagerly import compiled_before
from jaxcheck.there import there

# Operations, and elements computed, up to which this takes less time than the compiler does.
OPERATIONS, ELEMENTS = 4000, 1e7
# Operations of what is run once: the compiler takes longer for each the more there are, seconds for some thousands. And
# those of a program with loops, turn by turn, some eight times as many where its round-off is measured: the compiler
# takes no longer for more turns, and these here as long as it (some 100 ms).
ONCE, TURNED = 50000, 300
# What was traced to be run so, by what it computes; the last used last.
_TRACED: dict[Any, tuple[Any, Any]] = {}
_KEPT, _LOCK = 32, threading.Lock()


class _NotSo(Exception):
    """An operation is not done so after all."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pieces:
    """The operations of one program, see `pieces`."""

    closed: Any
    compiled: dict[int, Callable]

    def __call__(self, *flat: Any) -> list[np.ndarray] | None:
        """The results, on the host; None where it cannot be done so."""
        try:
            return [
                np.asarray(x, v.aval.dtype)
                for x, v in zip(self._run(self.closed, flat), self.closed.jaxpr.outvars, strict=True)
            ]
        except _NotSo:
            return None

    def _run(self, program: Any, args: Sequence[Any]) -> list[Any]:
        opened = interpret.opened(program)
        values: dict[Any, Any] = dict(zip(opened.constvars, interpret.constants(program), strict=True))
        values.update(zip(opened.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if interpret.is_literal(atom) else values[atom]

        for eqn in opened.eqns:
            operands = list(map(read, eqn.invars))
            found = self._equation(eqn, operands)
            if found is None:
                raise _NotSo
            values.update(zip(eqn.outvars, found, strict=True))
        return list(map(read, opened.outvars))

    def _scan(self, eqn: Any, operands: list[Any]) -> list[Any]:
        body = eqn.params["jaxpr"]
        consts, carry = jaxpr.scan_layout(eqn, interpret.opened(body))
        fixed, values, rows = operands[:consts], operands[consts : consts + carry], operands[consts + carry :]
        length = eqn.params["length"]
        stacked = [np.empty(v.aval.shape, v.aval.dtype) for v in eqn.outvars[carry:]]
        for i in reversed(range(length)) if eqn.params["reverse"] else range(length):
            out = self._run(body, [*fixed, *values, *(np.asarray(x)[i] for x in rows)])
            values = out[:carry]
            for whole, row in zip(stacked, out[carry:], strict=True):
                whole[i] = row
        return [*values, *stacked]

    def _equation(self, eqn: Any, operands: list[Any]) -> Sequence[Any] | None:
        if eqn.primitive.name == "scan":
            return self._scan(eqn, operands)
        if (run := self.compiled.get(id(eqn))) is not None:
            found = run(*operands)
            return found if eqn.primitive.multiple_results else [found]
        if (inner := _inner(eqn)) is not None:
            return self._run(inner, operands)
        return result(eqn.primitive, [v.aval for v in eqn.invars], operands, eqn.params)


def pieces(program: Program, runs: int = 1) -> Pieces | None:
    """The program by its operations, or None where compiling it is better; `runs`: how often it is run."""
    if jax.default_backend() != "cpu" or program.lifted or program.closed.effects or runs * program.cost > ELEMENTS:
        return None
    compiled: dict[int, Callable] = {}
    count = _count(program.closed, compiled)
    return Pieces(program.closed, compiled) if count is not None and runs * count <= OPERATIONS else None


def once(key: Any, f: Callable, args: Sequence[Any], programs: Sequence[Program], times: float) -> Any | None:
    """What `f(*args)` gives, a tree of arrays of the host's; None where NumPy does not know each of its operations, or
    it is better compiled.

    Args:
        key: hashable; together with the programs' identity and all shapes it identifies `f`.
        programs: what `f` runs, with their operations and elements some `times` over.
    """
    cost = sum(p.cost for p in programs) * times
    if jax.default_backend() != "cpu" or cost > ELEMENTS or any(p.lifted for p in programs):
        return None
    leaves = jax.tree_util.tree_leaves(args)
    key = key, tuple(p.identity for p in programs), tuple((np.shape(x), str(jax.typeof(x).dtype)) for x in leaves)
    with _LOCK:
        known = _TRACED.get(key)
        if known is not None:
            _TRACED[key] = _TRACED.pop(key)
    if known is None:
        known = _traced(f, args) if all(map(_is_small, programs)) else (None, None)
        with _LOCK:
            _TRACED[key] = known
            while len(_TRACED) > _KEPT:
                del _TRACED[next(iter(_TRACED))]
    if known[0] is None:
        return None
    budget.current().ask()
    found = known[0](*leaves)
    return None if found is None else jax.tree_util.tree_unflatten(known[1], found)


def _traced(f: Callable, args: Sequence[Any]) -> tuple[Pieces | None, Any]:
    closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    known = not closed.effects and _is_numpys(closed) and there(_count(closed, {}, loops=True)) <= ONCE
    run = Pieces(closed, {}) if known else None
    return run, jax.tree_util.tree_structure(shapes)


def _is_small(program: Program) -> bool:
    """Whether NumPy knows every operation, and no loop makes too many of them."""
    if not _is_numpys(program.closed):
        return False
    loops = any(site.eqn.primitive.name == "scan" for site in interpret.walk(program.closed))
    return not loops or there(_count(program.closed, {}, loops=True)) <= TURNED


def _is_numpys(program: Any) -> bool:
    """Whether NumPy knows every operation: what was compiled for another is not at hand in every run."""
    for eqn in interpret.opened(program).eqns:
        inner = None if known_by_numpy(eqn) else _inner(eqn, loops=True)
        if not known_by_numpy(eqn) and (inner is None or not _is_numpys(inner)):
            return False
    return True


def _count(program: Any, compiled: dict[int, Callable], loops: bool = False) -> int | None:
    total = 0
    for eqn in interpret.opened(program).eqns:
        if known_by_numpy(eqn):
            count: int | None = 1
        elif (run := compiled_before(eqn)) is not None:
            count, compiled[id(eqn)] = 1, run
        else:
            inner = _inner(eqn, loops)
            count = None if inner is None else _count(inner, compiled, loops)
            if count is not None and eqn.primitive.name == "scan":
                count *= eqn.params["length"]
        if count is None:
            return None
        total += count
    return total


def _inner(eqn: Any, loops: bool = False) -> Any | None:
    """The program that an equation calls, and does nothing else; with `loops`, also that which a scan repeats."""
    if eqn.primitive.name == "scan" and loops:
        return eqn.params["jaxpr"]
    return None if eqn.primitive.name in ("scan", "while", "cond", "custom_linear_solve") else jaxpr.nested(eqn)
