"""The custom rules that a program runs, each as a backward pass next to what it is the derivative of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxcheck.program import interpret, rules, rules_source
from jaxcheck.program.where import kernels, tape
from jaxcheck.program.where.problem import Problem, of_loss

MOST = 8


def problems(closed: Any, values: Sequence[Any], wide: bool, deadline: float) -> Iterator[Problem]:
    """One problem for each of the user's reverse rules that is wrong where the program meets it first.

    A rule's backward pass is traced by itself: in the derivative of a program its lines are lost.

    Args:
        closed: the program, rules in place, and `values` of its inputs.
        wide: whether it was traced in the 64-bit mode.
        deadline: of the search, by `time.perf_counter`.
    """
    way = _Meeting(tape.Tape([], [], [], [], set(), {}))
    way.tape.inputs = [way.new(kernels.wide(x)) for x in values]
    tape.run(way, closed)
    for eqn, operands in way.met[:MOST]:
        with jax.enable_x64(wide):
            made = _programs(eqn, operands)
        if made is None:
            continue
        loss, manual, ordered, count, cotangents = made
        problem = of_loss(loss, manual, ordered, count, cotangents, deadline)
        if problem is not None:
            yield problem


class _Meeting(tape.Recording):
    """Notes the rules on the way, each once."""

    def __init__(self, empty: tape.Tape):
        super().__init__(empty)
        self.met: list[tuple[Any, list[np.ndarray]]] = []
        self._seen: set[Any] = set()

    def whole(self, eqn: Any, operands: list[int]) -> bool:
        if rules.rule_kind(eqn) == "custom_vjp":
            owner = rules_source.owner(eqn)
            shapes = tuple(np.shape(self.tape.values[i]) for i in operands)
            if owner.origin != "jax" and (owner, shapes) not in self._seen:
                self._seen.add((owner, shapes))
                self.met.append((eqn, [self.tape.values[i] for i in operands]))
        return super().whole(eqn, operands)


def _programs(eqn: Any, operands: list[np.ndarray]) -> tuple[Any, Any, list[Any], int, list[Any]] | None:
    """(the function, its backward pass, operands with those that move first, how many these are, cotangents)."""
    first = eqn.params.get("num_consts", 0)
    moving = [i for i, x in enumerate(operands) if i >= first and x.dtype.kind == "f"]
    rest = [i for i in range(len(operands)) if i not in moving]
    primal = rules.primal(eqn)
    if primal is None or not moving or any(not rules.is_inexact(v.aval) for v in eqn.outvars):
        return None
    given = [np.asarray(x).astype(v.aval.dtype) for x, v in zip(operands, eqn.invars, strict=True)]
    order = [*moving, *rest]

    def back(flat: Sequence[Any]) -> list[Any]:
        out: list[Any] = [None] * len(order)
        for i, x in zip(order, flat, strict=True):
            out[i] = x
        return out

    def loss(*flat: Any) -> list[Any]:
        return jaxpr_as_fun(primal)(*back(flat))

    def manual(*flat: Any) -> list[Any]:
        full = back(flat[: len(order)])
        grads = _pulled(eqn, full, list(flat[len(order) :]))[len(full) - len(eqn.invars):]
        return [jax.numpy.zeros(np.shape(full[i])) if grads[i - first] is None else grads[i - first] for i in moving]

    rng = np.random.default_rng(13)
    cotangents = [rng.normal(size=v.aval.shape).astype(v.aval.dtype) for v in eqn.outvars]
    ordered = [given[i] for i in order]
    programs = jax.make_jaxpr(loss)(*ordered), jax.make_jaxpr(manual)(*ordered, *cotangents)
    return *programs, ordered, len(moving), cotangents


def _pulled(eqn: Any, operands: list[Any], cotangents: list[Any]) -> list[Any]:
    """What the rule's own functions make of operands and cotangents: of each operand but constants, None for zero."""
    first = eqn.params.get("num_consts", 0)
    jaxpr, consts = eqn.params["fwd_jaxpr_thunk"].call_wrapped(*([True] * (len(operands) - first)))
    results = jaxpr_as_fun(interpret.closed(jaxpr) if not consts else ClosedJaxpr(jaxpr, consts))(*operands[first:])
    _, residuals, forwarded = eqn.params["out_trees"]()
    kept = iter(results)
    whole = [next(kept) if f is None else operands[first:][f] for f in forwarded]
    if len(whole) != residuals.num_leaves:
        raise ValueError("the residuals are not where they were thought to be")
    found = eqn.params["bwd"].call_wrapped(*whole, *cotangents)
    return [x if hasattr(x, "dtype") and hasattr(x, "ndim") else None for x in found]
