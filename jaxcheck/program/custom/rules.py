"""Custom derivative rules as they stand in a jaxpr: which equations they are, and their programs.

A rule's own program (its jvp, or its fwd and bwd) is not in the jaxpr. It is got here by
differentiating the one equation with JAX's public transformations, which works the same whatever
a JAX version calls the parameters that hold the rule.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.custom_derivatives import SymbolicZero

from jaxcheck.program import interpret
from jaxcheck.program.ask import Refused, ask, on_purpose

_VJP_NAMES = ("custom_vjp_call", "custom_vjp_call_jaxpr")
# The forward pass of a rule with `optimize_remat`, once it was differentiated: a call, whose own derivative is not the
# rule's any more.
FORWARD = "remat_opt"
_HI_LINEAR = "call_hi_primitive_linearized"


def rule_kind(eqn: Any) -> str | None:
    """`custom_vjp`, `custom_jvp`, `hijax`, `unknown`, or None for an ordinary equation."""
    name = eqn.primitive.name
    if name in _VJP_NAMES:
        return "custom_vjp"
    if name == "custom_jvp_call":
        return "custom_jvp"
    if name == _HI_LINEAR:
        return None  # the linear half of a rule that was differentiated already
    if name == "call_hi_primitive" or "_prim" in eqn.params:
        return _hi_kind(eqn.params.get("_prim"))
    return "unknown" if name.startswith(("custom_jvp", "custom_vjp")) else None


def is_reverse_only(eqn: Any) -> bool:
    """Whether an equation is the tangent of a custom_vjp: JAX traces it, and can transpose it, but not run it."""
    if eqn.primitive.name == _HI_LINEAR:
        return _hi_kind(eqn.params.get("_prim")) == "custom_vjp"
    return eqn.primitive.name == "custom_lin"


def _hi_kind(prim: Any) -> str | None:
    if "Remat" in type(prim).__name__:
        return None  # it recomputes, but has no derivative of its own
    for _ in range(16):
        if type(prim).__name__.startswith("CustomVJP"):
            return "custom_vjp"
        if type(prim).__name__.startswith("CustomJVP"):
            return "custom_jvp"
        if not hasattr(prim, "prim"):
            break
        prim = prim.prim
    return "hijax"


def primal(eqn: Any) -> Any | None:
    """The closed jaxpr of what a rule's equation computes, or None where it is not to be had."""
    if eqn.primitive.name == _HI_LINEAR:
        return None
    if "_prim" in eqn.params:
        return _expanded(eqn)
    for key in ("call_jaxpr", "fun_jaxpr", "fwd_jaxpr", "callee", "jaxpr"):
        if interpret.is_jaxpr(eqn.params.get(key)):
            return interpret.closed(eqn.params[key])
    for _, inner in interpret.sub_jaxprs(eqn.params):
        if len(interpret.opened(inner).invars) == len(eqn.invars):
            return interpret.closed(inner)
    return None


def _expanded(eqn: Any) -> Any | None:
    """What a hijax primitive says that it computes; under vmap its parts have other shapes."""
    prim = eqn.params["_prim"]

    def expand(*flat: Any) -> list[Any]:
        return jax.tree_util.tree_leaves(prim.expand(*jax.tree_util.tree_unflatten(prim.in_tree, flat)))

    try:
        with jax.enable_x64(interpret.is_64_bits((*eqn.invars, *eqn.outvars))):
            return ask(jax.make_jaxpr(expand), *abstract(eqn.invars))
    except Refused:
        # A user's primitive of high-level types may have no expansion over arrays.
        return None


def abstract(atoms: Sequence[Any]) -> list[Any]:
    return [jax.ShapeDtypeStruct(a.aval.shape, a.aval.dtype) for a in atoms]


def is_inexact(aval: Any) -> bool:
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, np.inexact)


def inexact_positions(atoms: Sequence[Any]) -> tuple[int, ...]:
    return tuple(i for i, a in enumerate(atoms) if is_inexact(a.aval))


def live_operands(eqn: Any) -> tuple[int, ...]:
    """The operands that a rule's equation may be differentiated in: what its function closes over comes first, and
    is not among them (JAX refuses it)."""
    first = eqn.params.get("num_consts", 0) if rule_kind(eqn) in ("custom_vjp", "custom_jvp") else 0
    return tuple(i for i in inexact_positions(eqn.invars) if i >= first)


def _partial(eqn: Any, values: Sequence[Any], live: tuple[int, ...], outs: tuple[int, ...]):
    """The equation as a function of its live operands alone, giving only some results.

    What is left out reaches the rule as a symbolic zero, as it would in the whole program.
    """

    def call(*chosen: Any) -> list[Any]:
        full = list(values)
        for i, value in zip(live, chosen, strict=True):
            full[i] = value
        results = interpret.bind(eqn, full)
        if len(results) != len(eqn.outvars):  # checkify adds its errors to the function, and not to its derivative
            text = f"differentiated, `{interpret.label(eqn)}` has {len(results)} results, and not {len(eqn.outvars)}"
            raise on_purpose(ValueError(text))
        return [results[i] for i in outs]

    return call


def jvp_program(eqn: Any, live: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """The jaxpr of an equation's jvp: (operands, live tangents) -> (results, their tangents).

    The second value lists the results which have a tangent. Raises what the rule raises.
    """
    outs = tuple(range(len(eqn.outvars)))
    moving = inexact_positions(eqn.outvars)

    def program(values: list[Any], tangents: list[Any]) -> list[Any]:
        call = _partial(eqn, values, live, outs)
        results, dots = jax.jvp(call, [values[i] for i in live], tangents)
        return [*results, *(dots[i] for i in moving)]

    primals = abstract(eqn.invars)
    return jax.make_jaxpr(program)(primals, [primals[i] for i in live]), moving


def fwd_program(eqn: Any, live: tuple[int, ...]) -> Any:
    """The jaxpr of a rule's forward pass, results only: a rule may change the primal, too."""
    outs = tuple(range(len(eqn.outvars)))

    def program(*values: Any) -> list[Any]:
        results, _ = jax.vjp(_partial(eqn, values, live, outs), *(values[i] for i in live))
        return results

    return jax.make_jaxpr(program)(*abstract(eqn.invars))


def vjp_program(eqn: Any, live: tuple[int, ...], outs: tuple[int, ...]) -> Any:
    """The jaxpr of an equation's vjp: (operands, cotangents of `outs`) -> cotangents of `live`."""

    def program(values: list[Any], cotangents: list[Any]) -> list[Any]:
        call = _partial(eqn, values, live, outs)
        _, pull = jax.vjp(call, *(values[i] for i in live))
        return list(pull(cotangents))

    results = abstract(eqn.outvars)
    return jax.make_jaxpr(program)(abstract(eqn.invars), [results[i] for i in outs])


def falls_short(eqn: Any) -> bool:
    """Whether a rule's equation has fewer results where it is differentiated: only the function that it was traced from
    can be."""
    live = live_operands(eqn)
    if not live:
        return False
    try:
        ask(fwd_program, eqn, live)
    except Refused as no:
        return hasattr(no.error, "on_purpose")
    return False


def rule_programs(eqn: Any) -> list[Any]:
    """The jaxprs of a rule with every inexact operand perturbed; those that it refuses are absent.

    A rule may refuse (non-differentiable operands, forward mode of a custom_vjp): what cannot be
    traced cannot be reached by a gradient either, so nothing is lost.
    """
    live, outs = live_operands(eqn), inexact_positions(eqn.outvars)
    if not live or not outs:
        return []
    found = []
    kind = rule_kind(eqn)
    builders: list[Callable[[], Any]] = []
    if kind != "custom_vjp":
        builders.append(lambda: jvp_program(eqn, live)[0])
    if kind != "custom_jvp":
        builders += [lambda: fwd_program(eqn, live), lambda: vjp_program(eqn, live, outs)]
    for build in builders:
        with contextlib.suppress(Refused):  # what a user's rule raises here, it raises when it is differentiated
            found.append(ask(build))
    return found


def rebuild(
    eqn: Any,
    change: Callable[[Any], Callable[..., list[Any]]],
    call: Callable[..., list[Any]],
    build: Callable[[Callable[[], Any]], Any] = lambda trace: trace(),
) -> Callable[..., list[Any]]:
    """The same custom rule around changed programs.

    `call(*operands)` computes the primal; `change(jaxpr)` turns each of the rule's own jaxprs,
    traced when differentiation first needs it, into a function of flat operands. The result is
    differentiable, with the changed rule, in the modes in which the original was. `build` runs
    the tracing of the rule's jaxprs, in a precision mode of its choice.
    """
    if rule_kind(eqn) == "custom_vjp" or not build(lambda: _has_jvp(eqn)):
        return _rebuild_vjp(eqn, change, call, build)
    return _rebuild_jvp(eqn, change, call, build)


def _has_jvp(eqn: Any) -> bool:
    """Whether a rule works forward. A hijax primitive may have either kind of rule, or both."""
    if rule_kind(eqn) == "custom_jvp":
        return True
    try:
        ask(jvp_program, eqn, live_operands(eqn))
    except Refused:  # the other mode is what is left
        return False
    return True


def _rebuild_jvp(eqn: Any, change: Any, call: Any, build: Any) -> Callable[..., list[Any]]:
    @jax.custom_jvp
    def function(*args: Any) -> list[Any]:
        return call(*args)

    def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        live = tuple(i for i in inexact_positions(eqn.invars) if not isinstance(tangents[i], SymbolicZero))
        program, moving = build(lambda: jvp_program(eqn, live))
        out = change(program)(*primals, *(tangents[i] for i in live))
        results, dots = out[: len(eqn.outvars)], iter(out[len(eqn.outvars) :])
        return results, [
            next(dots) if i in moving else np.zeros(np.shape(r), jax.dtypes.float0) for i, r in enumerate(results)
        ]

    function.defjvp(rule, symbolic_zeros=True)
    return function


def _rebuild_vjp(eqn: Any, change: Any, call: Any, build: Any) -> Callable[..., list[Any]]:
    @jax.custom_vjp
    def function(*args: Any) -> list[Any]:
        return call(*args)

    def fwd(*args: Any) -> tuple[list[Any], Any]:
        values = [a.value for a in args]
        live = tuple(i for i in inexact_positions(eqn.invars) if args[i].perturbed)
        # Residuals are arrays; which operands are perturbed travels in the tree's structure.
        marks = tuple(() if i in live else None for i in range(len(args)))
        program = build(lambda: fwd_program(eqn, live))
        return change(program)(*values), (values, marks)

    def bwd(residuals: Any, cotangents: Sequence[Any]) -> tuple[Any, ...]:
        values, marks = residuals
        live = tuple(i for i, mark in enumerate(marks) if mark is not None)
        outs = tuple(i for i in inexact_positions(eqn.outvars) if not isinstance(cotangents[i], SymbolicZero))
        grads: list[Any] = [None] * len(marks)
        if outs:
            program = build(lambda: vjp_program(eqn, live, outs))
            found = change(program)(*values, *(cotangents[i] for i in outs))
            for i, grad in zip(live, found, strict=True):
                grads[i] = grad
        return tuple(grads)

    function.defvjp(fwd, bwd, symbolic_zeros=True)
    return function
