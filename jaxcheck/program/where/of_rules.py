"""The custom rules that a program runs, each as a backward pass next to what it is the derivative of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxcheck.bars import ASTRAY_AS_RUN, RIGHT_AS_RUN
from jaxcheck.program import constants, interpret
from jaxcheck.program.abandoned import let_go
from jaxcheck.program.custom import owner, rules
from jaxcheck.program.objective import Traced
from jaxcheck.program.where import kernels, smaller, tape
from jaxcheck.program.where.nonsense import NONSENSE, Unflattened, tried
from jaxcheck.program.where.problem import Problem, of_loss
from jaxcheck.program.where.projections import normal

MOST = 8
# A rule's equation, its operands, and what tells it from others.
_Met = tuple[Any, list[np.ndarray], Any]
Made = tuple[Any, Any, list[Any], int, list[Any], tuple[int, ...], tuple[int, ...]]


def problems(traced: Traced, values: Sequence[Any], deadline: float) -> Iterator[Problem]:
    """One problem for each of the user's rules that is wrong where the program meets it first; of one that is right,
    for each that its own derivative meets: the rules of a second derivative.

    A rule's backward pass is traced by itself: in the derivative of a program its lines are lost.

    Args:
        traced: the program, and `values` of its inputs.
        deadline: of the search, by `time.perf_counter`.
    """
    queue, met = _met(traced.closed, values, set()), [0]
    known = {key for _, _, key in queue}
    while queue:
        yield from _of_one(queue.pop(0), traced, deadline, known, queue, met)


def _of_one(
    rule: _Met, traced: Traced, deadline: float, known: set[Any], later: list[_Met], met: list[int]
) -> Iterator[Problem]:
    """The problem of a rule that is wrong, or, where there are such, those of the rules of its function that are: its
    derivative may be made with them, and holds none of their lines. What the derivative of one that is right meets is
    for `later`."""
    met[0] += 1
    if met[0] > MOST:
        return
    eqn, operands, _ = rule
    with jax.enable_x64(traced.wide):
        made = (_forward if rules.rule_kind(eqn) == "custom_jvp" else _programs)(eqn, operands)
    if made is None:
        return
    # NumPy's data, as the caller's own program sees them: in the function they are so already.
    made = *(constants.settled(program, traced.wide, traced.rounded) for program in made[:2]), *made[2:]
    problem = _cut_down(made, deadline, traced.wide) if smaller.is_large(*made[:2]) else None
    problem = problem or _problem(made, deadline)
    stated = owner.stated_by(eqn.params.get("bwd"))
    if problem is not None and stated is not None:
        problem.backward = stated[1], stated[0]
    loss, manual, given, _, cotangents, _, _ = made
    program = manual if problem is None else loss
    inner = _met(program, [*given, *cotangents][: len(program.in_avals)], known if problem is None else set())
    known |= {key for _, _, key in inner}
    if problem is None:
        later += inner
        return
    now = {key for _, _, key in inner}
    later[:] = [one for one in later if one[2] not in now]
    wrong = False
    for one in inner:
        for found in _of_one(one, traced, deadline, known, later, met):
            wrong = True
            yield found
    if not wrong:
        yield problem


def _met(closed: Any, values: Sequence[Any], known: set[Any]) -> list[_Met]:
    """(a rule's equation, its operands, what tells it from others), of those that are not known."""
    way = _Meeting(tape.Tape([], [], [], [], set(), {}), set(known))
    way.tape.inputs = [way.new(kernels.wide(x)) for x in values]
    tape.run(way, closed)
    return way.met


class _Meeting(tape.Recording):
    """Notes the rules on the way, each once."""

    def __init__(self, empty: tape.Tape, seen: set[Any]):
        super().__init__(empty)
        self.met: list[tuple[Any, list[np.ndarray], Any]] = []
        self._seen = seen

    def whole(self, eqn: Any, operands: list[int]) -> bool:
        if rules.rule_kind(eqn) in ("custom_vjp", "custom_jvp"):
            who = owner.owner(eqn)
            key = (who, tuple(np.shape(self.tape.values[i]) for i in operands))
            if who.origin != "jax" and key not in self._seen:
                self._seen.add(key)
                self.met.append((eqn, [self.tape.values[i] for i in operands], key))
        return super().whole(eqn, operands)


def _problem(made: Made, deadline: float, cut: Mapping[int, int] | None = None) -> Problem | None:
    loss, manual, given, count, cotangents, moving, tangents = made
    return of_loss(loss, manual, given, count, cotangents, deadline, moving, tangents, cut)


def _cut_down(made: Made, deadline: float, is_wide: bool) -> Problem | None:
    """The first smaller problem of the same programs with the same results wrong, None where there is none.

    Args:
        is_wide: whether the programs were traced in the 64-bit mode.
    """
    loss, manual, given, count, cotangents, moving, tangents = made
    with jax.enable_x64(is_wide):
        wrong = tried(_wrong, made)
    for sizes in smaller.cuts((loss, manual), count) if wrong is not None else ():
        try:
            programs = [smaller.resized(program, sizes) for program in (loss, manual)]
            small = [smaller.cut(x, sizes) for x in given], count, [smaller.cut(x, sizes) for x in cotangents]
            problem = _problem((*programs, *small, moving, tangents), deadline, sizes)
        except (*NONSENSE, Unflattened) as error:  # at other sizes the program may be nonsense
            let_go(error)
            continue
        if problem is not None and problem.wrong() == wrong:
            return problem
    return None


def _wrong(made: Made) -> list[bool] | None:
    """Which results are wrong, as the programs are run; None where rounding leaves that open."""
    loss, manual, given, count, cotangents, _, _ = made
    _, pull = jax.vjp(lambda *moving: jaxpr_as_fun(loss)(*moving, *given[count:]), *given[:count])
    results = jaxpr_as_fun(manual)(*[*given, *cotangents][: len(manual.in_avals)])
    off = []
    for truth, result in zip(pull(cotangents), results, strict=True):
        x, y = kernels.wide(truth).ravel(), kernels.wide(result).ravel()
        off.append(float(np.linalg.norm(x - y) / max(np.linalg.norm(x), np.finfo(np.float32).tiny)))
    return None if any(RIGHT_AS_RUN < x < ASTRAY_AS_RUN for x in off) else [x >= ASTRAY_AS_RUN for x in off]


def _programs(eqn: Any, operands: list[np.ndarray]) -> Made | None:
    """(the function, its backward pass, operands with those that move first, how many these are, cotangents, the inputs
    that move, those that are tangents)."""
    first = eqn.params.get("num_consts", 0)
    moving = [i for i, x in enumerate(operands) if i >= first and x.dtype.kind in "fc"]
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
        grads = _pulled(eqn, full, list(flat[len(order) :]))[len(full) - len(eqn.invars) :]
        nothing = {i: jax.numpy.zeros_like(full[i]) for i in moving}
        return [nothing[i] if grads[i - first] is None else grads[i - first] for i in moving]

    rng = np.random.default_rng(13)
    cotangents = [_normal(rng, v.aval) for v in eqn.outvars]
    ordered = [given[i] for i in order]
    programs = jax.make_jaxpr(loss)(*ordered), jax.make_jaxpr(manual)(*ordered, *cotangents)
    return *programs, ordered, len(moving), cotangents, tuple(range(len(moving))), ()


def _forward(eqn: Any, operands: list[np.ndarray]) -> Made | None:
    """The same of a forward rule: its tangents are the slopes, in a weight for each, of their weighted sum as it
    follows from the function."""
    live, primal = rules.live_operands(eqn), rules.primal(eqn)
    outs = rules.inexact_positions(eqn.outvars)
    if primal is None or not live or not outs:
        return None
    given = [np.asarray(x).astype(v.aval.dtype) for x, v in zip(operands, eqn.invars, strict=True)]
    rng = np.random.default_rng(13)
    tangents = [_normal(rng, given[i]) for i in live]
    weights = [np.ones(eqn.outvars[i].aval.shape, eqn.outvars[i].aval.dtype) for i in outs]

    def pushed(f: Any, flat: Sequence[Any]) -> list[Any]:
        full, dots = list(flat[len(outs) : len(outs) + len(given)]), flat[len(outs) + len(given) :]

        def moved(*chosen: Any) -> list[Any]:
            whole = list(full)
            for i, x in zip(live, chosen, strict=True):
                whole[i] = x
            found = f(*whole)
            return [found[i] for i in outs]

        return jax.jvp(moved, [full[i] for i in live], list(dots))[1]

    def loss(*flat: Any) -> list[Any]:
        return [w * dot for w, dot in zip(flat, pushed(jaxpr_as_fun(primal), flat), strict=False)]

    def manual(*flat: Any) -> list[Any]:
        return pushed(lambda *xs: interpret.bind(eqn, xs), flat)

    values = [*weights, *given, *tangents]
    programs = jax.make_jaxpr(loss)(*values), jax.make_jaxpr(manual)(*values)
    moving = tuple(k for k, x in enumerate(values) if k >= len(outs) and x.dtype.kind in "fc")
    first = len(outs) + len(given)
    return *programs, values, len(outs), weights, moving, tuple(range(first, len(values)))


def _normal(rng: np.random.Generator, like: Any) -> np.ndarray:
    """Random numbers of a shape and dtype."""
    return normal(rng, np.zeros(like.shape, like.dtype)).astype(like.dtype)


def _pulled(eqn: Any, operands: list[Any], cotangents: list[Any]) -> list[Any]:
    """What the rule's own functions make of operands and cotangents: of each operand but constants, None for zero."""
    first = eqn.params.get("num_consts", 0)
    jaxpr, consts = eqn.params["fwd_jaxpr_thunk"].call_wrapped(*([True] * (len(operands) - first)))
    results = jaxpr_as_fun(interpret.closed(jaxpr) if not consts else ClosedJaxpr(jaxpr, consts))(*operands[first:])
    _, residuals, forwarded = eqn.params["out_trees"]()
    kept = iter(results)
    whole = [next(kept) if f is None else operands[f] for f in forwarded]  # counted with the constants
    if len(whole) != residuals.num_leaves:
        raise ValueError("the residuals are not where they were thought to be")
    found = eqn.params["bwd"].call_wrapped(*whole, *cotangents)
    if isinstance(found, tuple) and found and isinstance(found[0], list):  # since JAX 0.11 with what else it knows
        found = found[0]
    return [x if hasattr(x, "dtype") and hasattr(x, "ndim") else None for x in found]
