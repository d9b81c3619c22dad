"""Which parts of a program draw random numbers, what is computed for them alone, and what cannot move.

A draw must be the same whoever makes it: the same bits, rounded the same way. JAX moves parts of a sampler about when
it differentiates (constants out of a loop, known parts out of a call), so that what belongs to a draw is told by what
it is used for, not by where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from jaxcheck.program import interpret, jaxpr
from jaxcheck.program.custom import rules

# Draws whose bits depend on the dtype that is drawn.
NATIVE = ("random_gamma", "rng_uniform")
# Those that a moving parameter goes into, with a derivative of their own.
IMPLICIT = ("random_gamma",)
PRIMITIVES = ("random_bits", "threefry2x32", "rng_bit_generator", *NATIVE)
# Where JAX keeps its samplers, in one file or a folder of them.
_SAMPLERS = ("/jax/_src/random.py", "/jax/_src/random/")

Flags = Sequence[bool]
# Of each program, which of its outputs may move with which of its inputs: every equation around it asks again.
_MOVING: WeakKeyDictionary[Any, dict[tuple[bool, ...], tuple[bool, ...]]] = WeakKeyDictionary()


class Nested(NamedTuple):
    """A program in an equation's parameters: which operand each of its inputs is, and which result each of its
    outputs (None: none of them). `carried` are the inputs that a loop makes anew, from the outputs of that place."""

    program: Any
    operands: tuple[int, ...]
    results: tuple[int | None, ...]
    carried: dict[int, int]


def draws(program: Any) -> bool:
    """Whether random bits are drawn anywhere in a program."""
    return any(eqn.primitive.name in PRIMITIVES for eqn, _ in interpret.walk(program))


def samples(eqn: Any) -> bool:
    """Whether an equation is one draw: of random bits, by one of JAX's samplers, or in a loop that they may end."""
    if eqn.primitive.name in PRIMITIVES:
        return True
    if eqn.primitive.name != "while" and not any(map(_is_sampler, interpret.sub_jaxprs(eqn.params))):
        return False
    return any(draws(inner) for _, inner in interpret.sub_jaxprs(eqn.params))


def _is_sampler(labelled: tuple[str, Any]) -> bool:
    info = getattr(interpret.opened(labelled[1]), "debug_info", None)
    source = str(getattr(info, "func_src_info", "") or "").replace("\\", "/")
    return any(place in source for place in _SAMPLERS)


def nested(eqn: Any) -> Iterator[Nested]:
    """The programs in an equation whose inputs are its operands one by one; others are left out."""
    name, n, m = eqn.primitive.name, len(eqn.invars), len(eqn.outvars)
    everything, results = tuple(range(n)), tuple(range(m))
    if name == "scan":
        body = eqn.params["jaxpr"]
        consts, carry = jaxpr.scan_layout(eqn, interpret.opened(body))
        yield Nested(body, everything, results, {consts + i: i for i in range(carry)})
    elif name == "while":
        a, b = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        yield Nested(eqn.params["cond_jaxpr"], (*range(a), *range(a + b, n)), (None,), {})
        yield Nested(eqn.params["body_jaxpr"], tuple(range(a, n)), results, {b + i: i for i in range(m)})
    elif name == "cond":
        for branch in eqn.params["branches"]:
            yield Nested(branch, everything[1:], results, {})
    else:
        primal = rules.primal(eqn) if rules.rule_kind(eqn) is not None else None
        programs = [inner for _, inner in interpret.sub_jaxprs(eqn.params)] if primal is None else [primal]
        for program in programs:
            inner = interpret.opened(program)
            if len(inner.invars) == n and len(inner.outvars) == m:
                yield Nested(program, everything, results, {})


def moving_inputs(inner: Nested, moving: Flags) -> list[bool]:
    """Which inputs of a nested program may depend on what moves, over all turns of a loop."""
    program = interpret.opened(inner.program)
    flags = [moving[i] and rules.is_inexact(v.aval) for i, v in zip(inner.operands, program.invars, strict=True)]
    while inner.carried:
        out = _moving_outputs(program, flags)
        new = [m or (i in inner.carried and out[inner.carried[i]]) for i, m in enumerate(flags)]
        if new == flags:
            break
        flags = new
    return flags


def moving_results(eqn: Any, moving: Flags) -> list[bool]:
    """Which results of an equation may depend on what moves."""
    inexact = [rules.is_inexact(v.aval) for v in eqn.outvars]
    if not any(moving) or not any(inexact):
        return [False] * len(inexact)
    found, known = [False] * len(inexact), False
    for inner in nested(eqn):
        flags = moving_inputs(inner, moving)
        out = _moving_outputs(inner.program, flags)
        for i, place in inner.carried.items():  # a loop may make no turn
            out[place] = out[place] or flags[i]
        for i, m in zip(inner.results, out, strict=True):
            if i is not None:
                found[i], known = found[i] or m, True
    return [a and b for a, b in zip(found, inexact, strict=True)] if known else inexact


def _moving_outputs(program: Any, moving: Flags) -> list[bool]:
    program = interpret.opened(program)
    if not any(moving):
        return [False] * len(program.outvars)
    known = _MOVING.setdefault(program, {})
    found = known.get(tuple(moving))
    if found is None:
        found = known[tuple(moving)] = tuple(_outputs(program, moving, moving_results))
    return list(found)


def _outputs(program: Any, moving: Flags, results: Callable[[Any, Flags], Flags]) -> list[bool]:
    known = dict(zip(program.invars, moving, strict=True))

    def read(atom: Any) -> bool:
        return not interpret.is_literal(atom) and known.get(atom, False)

    for eqn in program.eqns:
        known.update(zip(eqn.outvars, results(eqn, [read(v) for v in eqn.invars]), strict=True))
    return [read(v) for v in program.outvars]


def for_draws(program: Any, moving: Flags, outputs: Flags | None = None) -> frozenset[Any]:
    """The still inexact variables of a program that are used for draws and for nothing else; `outputs` says which of
    its outputs are."""
    program = interpret.opened(program)
    still: set[Any] = {v for v, m in zip(program.invars, moving, strict=True) if not m} | set(program.constvars)
    at: list[list[bool]] = []

    def results(eqn: Any, flags: Flags) -> Flags:
        at.append(list(flags))
        found = moving_results(eqn, flags)
        still.update(v for v, m in zip(eqn.outvars, found, strict=True) if not m)
        return found

    _outputs(program, moving, results)
    used: dict[Any, bool] = {}

    def use(atom: Any, drawn: bool) -> None:
        if not interpret.is_literal(atom) and rules.is_inexact(atom.aval):
            used[atom] = used.get(atom, True) and drawn

    for i, v in enumerate(program.outvars):
        use(v, outputs is not None and outputs[i])
    for eqn, flags in zip(reversed(program.eqns), reversed(at), strict=True):
        for v, drawn in zip(eqn.invars, _uses(eqn, flags, used), strict=True):
            use(v, drawn)
    return frozenset(v for v, drawn in used.items() if drawn and v in still)


def prepares(eqn: Any, drawn: Any) -> bool:
    """Whether all that an equation makes is used for draws alone, by the variables that are."""
    made = [v for v in eqn.outvars if rules.is_inexact(v.aval)]
    return bool(made) and len(made) == len(eqn.outvars) and all(v in drawn for v in made)


def _uses(eqn: Any, moving: Flags, used: dict[Any, bool]) -> list[bool]:
    """Which operands of an equation go into draws only."""
    drawn = {v for v, flag in used.items() if flag}
    if not any(moving) and (samples(eqn) or prepares(eqn, drawn)):
        return [True] * len(eqn.invars)
    found = [True] * len(eqn.invars)
    reached = [False] * len(eqn.invars)
    for inner in nested(eqn):
        inputs = inputs_for_draws(inner, eqn, moving, drawn)
        for i, flag in zip(inner.operands, inputs, strict=True):
            found[i], reached[i] = found[i] and flag, True
    return [a and b for a, b in zip(found, reached, strict=True)]


def inputs_for_draws(inner: Nested, eqn: Any, moving: Flags, drawn: Any) -> list[bool]:
    only = for_draws(inner.program, moving_inputs(inner, moving), outputs_for_draws(inner, eqn, drawn))
    return [v in only and i not in inner.carried for i, v in enumerate(interpret.opened(inner.program).invars)]


def outputs_for_draws(inner: Nested, eqn: Any, drawn: Any) -> list[bool]:
    """Which outputs of a nested program go into draws only, given the variables around it that do."""
    turned = set(inner.carried.values())
    return [i is not None and i not in turned and eqn.outvars[i] in drawn for i in inner.results]


def implicit(program: Any, moving: Flags) -> bool:
    """Whether what moves is the parameter of a sampler by rejection that is differentiated as a distribution: JAX's
    own, or a loop that draws until it accepts, with a rule of its own around it."""
    for eqn, flags in _moved(program, moving):
        if eqn.primitive.name in IMPLICIT:
            return True
        programs = list(nested(eqn))
        if rules.rule_kind(eqn) is not None and any(_rejects(p.program, moving_inputs(p, flags)) for p in programs):
            return True
        if any(implicit(inner.program, moving_inputs(inner, flags)) for inner in programs):
            return True
        if not programs and any(e.primitive.name in IMPLICIT for _, p in interpret.sub_jaxprs(eqn.params)
                                for e, _ in interpret.walk(p)):  # fmt: skip
            return True
    return False


def _moved(program: Any, moving: Flags) -> list[tuple[Any, list[bool]]]:
    """The equations of a program into which something goes that moves, with which of their operands do."""
    at: list[tuple[Any, list[bool]]] = []

    def results(eqn: Any, flags: Flags) -> Flags:
        at.append((eqn, list(flags)))
        return moving_results(eqn, flags)

    _outputs(interpret.opened(program), moving, results)
    return [(eqn, flags) for eqn, flags in at if any(flags)]


def _rejects(program: Any, moving: Flags) -> bool:
    """Whether what moves goes into a loop that draws as it turns, or until it has accepted."""
    for eqn, flags in _moved(program, moving):
        if eqn.primitive.name in ("while", "cond") and any(
            draws(inner) for _, inner in interpret.sub_jaxprs(eqn.params)
        ):
            return True
        if any(_rejects(inner.program, moving_inputs(inner, flags)) for inner in nested(eqn)):
            return True
    return False
