"""Kernels and host functions in a flattened program: each result of theirs is one operation, which is not looked into.

The rest of the program is searched. A kernel is run, and differentiated, as what it computes; a host function is called
with the numbers that there are, and has no derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.program import kernels as pallas
from jaxcheck.program.interpret import bind
from jaxcheck.program.where.kernels import wide
from jaxcheck.program.where.nonsense import NONSENSE, Unflattened

HOST = "pure_callback"
Arrays = Sequence[np.ndarray]


def is_foreign(name: str) -> bool:
    """Whether what a primitive computes cannot be looked into."""
    return name in (HOST, pallas.NAME)


def without_hosts(tape: Any) -> Any:
    """The tape of a program that is to be differentiated.

    Raises:
        Unflattened: numbers of its come from a host function, which has no derivative.
    """
    if any(op.name == HOST and tape.values[op.outs[0]].dtype.kind in "fc" for op in tape.ops):
        raise Unflattened("a host function has no derivative")
    return tape


def results(eqn: Any, record: Callable[[Any, Arrays], Any]) -> list[tuple[Callable, Callable]] | None:
    """Of each result of a foreign equation how it is made of the operands, and how its cotangent is handed back; None
    where the equation is another, or a kernel that cannot be opened.

    Args:
        record: what writes a program down at some values, as a tape.
    """
    if eqn.primitive.name == HOST:
        called = _once(lambda xs: _called(eqn, xs))
        return [(_picked(called, j), _without_derivative) for j in range(len(eqn.outvars))]
    program = pallas.opened(eqn) if pallas.is_kernel(eqn) else None
    if program is None:
        return None
    recorded = _once(lambda xs: record(program, xs))

    def made(j: int) -> Callable:
        def run(*xs: np.ndarray) -> Arrays:
            tape = recorded(xs)
            return (tape.values[tape.outputs[j]],)

        return run

    def back(j: int) -> Callable:
        def pulled(xs: Arrays, ys: Arrays, gs: Sequence[Any]) -> list[np.ndarray | None]:
            tape = recorded(xs)
            total, _ = tape.back(tape.values, {tape.outputs[j]: gs[0]})
            return [total.get(i) for i in tape.inputs]

        return pulled

    return [(made(j), back(j)) for j in range(len(eqn.outvars))]


def _picked(called: Callable, j: int) -> Callable:
    return lambda *xs: (called(xs)[j],)


def _once(f: Callable[[Arrays], Any]) -> Callable[[Arrays], Any]:
    """A function of arrays that remembers its last answer: the results of one equation are asked for in turn."""
    last: list[Any] = [None, None]

    def again(xs: Arrays) -> Any:
        if last[0] is None or any(x is not y for x, y in zip(last[0], xs, strict=True)):
            last[:] = xs, f(xs)
        return last[1]

    return again


def _called(eqn: Any, xs: Arrays) -> list[np.ndarray]:
    """What a host function makes of numbers in float64; of those that it was written for, where it takes no others."""
    shapes = [v.aval.shape for v in eqn.outvars]
    try:
        with jax.enable_x64(True):
            given = [x if x.dtype.kind in "fc" else x.astype(v.aval.dtype) for x, v in zip(xs, eqn.invars, strict=True)]
            found = [wide(x) for x in eqn.params["callback"](*given)]
        if [x.shape for x in found] == shapes:
            return found
    except NONSENSE:
        pass
    narrow = [x.astype(v.aval.dtype) for x, v in zip(xs, eqn.invars, strict=True)]
    return [wide(x) for x in bind(eqn, narrow)]


def _without_derivative(xs: Arrays, ys: Arrays, gs: Sequence[Any]) -> list[None]:
    return [None] * len(xs)
