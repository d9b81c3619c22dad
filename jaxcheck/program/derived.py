"""Programs made from a traced one: its gradients and other derivatives, with its rules in force or without.

All are traced in the mode that the program was traced in, and lifted after: so no custom rule has to be lifted as one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxcheck.program import foreign, interpret
from jaxcheck.program.custom.called import as_called
from jaxcheck.program.custom.rules import falls_short, is_reverse_only, rule_kind
from jaxcheck.program.custom.strip import count_rules, strip
from jaxcheck.program.float64.shadow import Unliftable, islands, low_precision, to_float64
from jaxcheck.program.interpret import walk
from jaxcheck.program.kernels import without_kernels
from jaxcheck.program.leaks import LeakedTracer, refuse_leaks
from jaxcheck.program.objective import Traced, as_it_is, coarsest, emitted_again, lifted, said_of
from jaxcheck.program.run.compile import Program
from jaxcheck.program.tidy import tidy

# Inputs up to this many real numbers are pushed forward one by one, where there is no reverse mode.
MOST_PUSHED = 1024


class OutOfReach(Exception):
    """Forward mode would not come to an end."""


def base(traced: Traced, stripped: bool = False) -> Any:
    """The closed jaxpr that derivatives are made of: as traced, with the user's custom rules in force or without."""
    closed = strip(as_called(without_kernels(traced.closed)), "user") if stripped else traced.closed
    return emitted_again(closed) if traced.mixed else closed


def gradient(
    traced: Traced,
    leaves: Sequence[Any],
    extras: Sequence[Any],
    *,
    stripped: bool,
    precision: str = "float64",
    forward: bool = False,
) -> Traced:
    """Trace the gradients of a traced program, (G,) real outputs, with respect to its first inputs, the leaves.

    The result's outputs are one array (G, *leaf) per input.

    Args:
        stripped: without the user's custom rules (the autodiff witness) or with them.
        forward: by forward mode, one component after the other, which also goes through while loops.

    Raises:
        OutOfReach: forward mode would take too many components, or complex ones.
        Whatever differentiating raises (reverse mode through while_loop: ValueError).
    """
    columns, count = traced.closed.out_avals[0].shape[0], len(leaves)
    traced = dataclasses.replace(traced, closed=_of_scalar(traced.closed))
    closed = base(traced, stripped)

    def make(f: Callable) -> Callable:
        def grad(inexact, rest):
            flat = [x.astype(a.dtype) for x, a in zip(inexact, closed.in_avals[:count], strict=True)]
            out, pull = jax.vjp(lambda xs: f(*xs, *rest)[0], flat)
            if columns == 1:
                return [g[None] for g in pull(jnp.ones_like(out))[0]]
            return jax.lax.map(lambda e: pull(e)[0], jnp.eye(columns, dtype=out.dtype))

        return grad

    if forward:
        make = _pushed(closed.in_avals[:count], columns)
    native = own_values(closed, [*leaves, *extras])
    found = derivative(traced, make, [native[:count], native[count:]], stripped=stripped, precision=precision)
    # Nothing is differentiated after this: rules that are left over are only in the way.
    return dataclasses.replace(found, program=plain(found))


def _pushed(avals: Sequence[Any], columns: int) -> Callable:
    """What makes a function's gradients by forward mode. Raises OutOfReach."""
    stops = list(itertools.accumulate(a.size for a in avals))
    if stops[-1] > MOST_PUSHED or any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in avals):
        raise OutOfReach("no reverse mode, and too many components, or complex ones, for forward mode")

    def make(f: Callable) -> Callable:
        def grad(inexact, rest):
            flat = [x.astype(a.dtype) for x, a in zip(inexact, avals, strict=True)]

            def along(k):
                units = [
                    (jnp.arange(stop - a.size, stop) == k).astype(a.dtype).reshape(a.shape)
                    for a, stop in zip(avals, stops, strict=True)
                ]
                return jax.jvp(lambda xs: f(*xs, *rest)[0], (flat,), (units,))[1]

            found = jax.lax.map(along, jnp.arange(stops[-1])).reshape(stops[-1], columns).T
            return [
                found[:, stop - a.size : stop].reshape(columns, *a.shape) for a, stop in zip(avals, stops, strict=True)
            ]

        return grad

    return make


def _of_scalar(closed: Any) -> Any:
    """A closed jaxpr less the reshape of a scalar that it may end in: its derivative is then the same program as that
    of `jax.grad`, and is known to be."""
    jaxpr = interpret.opened(closed)
    last = jaxpr.eqns[-1] if jaxpr.eqns else None
    alone = last is not None and last.primitive.name == "reshape" and jaxpr.outvars == last.outvars
    if last is None or not alone or last.invars[0].aval.shape != () or interpret.is_literal(last.invars[0]):
        return closed
    return ClosedJaxpr(jaxpr.replace(eqns=jaxpr.eqns[:-1], outvars=last.invars[:1]), closed.consts)


def derivative(
    traced: Traced,
    make: Callable[[Callable], Callable],
    args: Sequence[Any],
    *,
    stripped: bool = False,
    precision: str = "float64",
) -> Traced:
    """Trace `make(f)`, a derivative of the traced program `f` of flat inputs, as `derived` does.

    A rule that is defined inside the function may hold values of the trace that the program came from, and some
    cannot be differentiated once they were traced; then the function itself is, in one trace.
    """
    try:
        found = derived(traced, make(jaxpr_as_fun(base(traced, stripped))), args, precision)
    except (LeakedTracer, jax.errors.UnexpectedTracerError, TypeError, ValueError) as error:
        if stripped or traced.source is None or not _by_source(traced, error):
            raise
        found = derived(traced, make(traced.source), args, precision)
    if stripped or traced.source is None:
        return found
    return dataclasses.replace(found, source=_flat(make(traced.source), args))


def _by_source(traced: Traced, error: Exception) -> bool:
    """Whether it is the trace that cannot be differentiated, and not the function."""
    if isinstance(error, (LeakedTracer, jax.errors.UnexpectedTracerError)):  # the latter is a TypeError as well
        return True
    with jax.enable_x64(traced.wide):  # rules are traced anew, with their float64 operands
        return any(rule_kind(eqn) is not None and falls_short(eqn) for eqn, _ in walk(traced.closed))


def _flat(f: Callable, args: Sequence[Any]) -> Callable:
    """A derivative as a function of flat inputs: the last resort for its own derivatives."""
    tree = jax.tree_util.tree_structure(tuple(args))
    return lambda *flat: jax.tree_util.tree_leaves(f(*jax.tree_util.tree_unflatten(tree, flat)))


def derived(traced: Traced, f: Callable, args: Sequence[Any], precision: str = "float64") -> Traced:
    """Trace a function made from `traced.closed` (its derivative, say), in the mode of that trace; lift after.

    Differentiating first and lifting after means that no custom rule has to be lifted as a rule.

    Args:
        args: pytrees of values in the program's own dtypes.
    """
    with jax.enable_x64(traced.wide):
        inner, shape = jax.make_jaxpr(f, return_shape=True)(*args)
    rounded = traced.rounded
    refuse_leaks(inner, "a custom rule")
    inner = tidy(inner, traced.wide, rounded)
    tree = jax.tree_util.tree_structure(shape)
    if precision == "native":
        return Traced(Program.of(inner), tree, "native", "", inner, coarsest(inner), traced.wide, rounded)
    inner = without_kernels(inner)
    narrow, native = low_precision(inner), islands(inner, traced.unheard)
    as_is = not narrow and not native and not inner.effects
    if as_is and not traced.unheard and not foreign.holds_foreign(inner):
        return Traced(Program.of(inner), tree, "float64", closed=inner, wide=traced.wide, rounded=rounded)
    try:
        out = lifted(inner, traced.wide, map(to_float64, jax.tree_util.tree_leaves(args)), unheard=traced.unheard)
    except Unliftable as error:
        return as_it_is(inner, tree, str(error), traced.wide, rounded)
    how = "native" if native else "lifted"
    return Traced(Program.of(out), tree, how, *said_of(native, inner), traced.wide, rounded)


def own_values(closed: Any, values: Sequence[Any]) -> list[Any]:
    """Values cast to the dtypes that a program was traced with."""
    return [
        np.asarray(x).astype(a.dtype) if hasattr(x, "dtype") or np.isscalar(x) else x
        for x, a in zip(values, closed.in_avals, strict=True)
    ]


def refuse_reverse_only(traced: Traced) -> None:
    """Raise JAX's TypeError where forward mode met a custom_vjp: tracing goes through, running does not."""
    if any(is_reverse_only(eqn) for eqn, _ in walk(traced.program.closed)):
        raise TypeError("can't apply forward-mode differentiation (jvp) to a custom_vjp function.")


def plain(traced: Traced) -> Program:
    """The program without any custom rule, JAX's own included: values are the same, and no rule, a new object
    with every trace, is among what identifies it, so a second check finds the compiled form."""
    closed = traced.program.closed
    if not count_rules(closed, "all"):
        return traced.program
    try:
        return Program.of(strip(closed, "all"))
    except (NotImplementedError, TypeError, ValueError, KeyError):
        return traced.program
