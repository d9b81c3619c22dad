"""The derivatives of a function as programs: JVP, VJP, and theirs, for `maps`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.problem.map import Map
from jaxcheck.program import bits
from jaxcheck.program.ask import Refused, ask, on_purpose
from jaxcheck.program.custom.given_solves import given_solves
from jaxcheck.program.custom.strip import count_rules
from jaxcheck.program.derived import base, derivative, own_values, plain, refuse_reverse_only
from jaxcheck.program.objective import Traced, trace
from jaxcheck.there import there


def make(name: str, primal: Traced, point: Sequence[Any], modes: Sequence[str], precision: str = "float64") -> Map:
    """Trace the derivatives of `primal` that `modes` asks for ("fwd", "rev", "lin"), and beside them one without the
    rules of the user's; of a derivative, those that are left in it.

    Raises:
        Whatever JAX raises when it differentiates (forward mode of a custom_vjp: TypeError).
    """
    closed = base(primal)
    values = own_values(closed, point)
    tangents = [values, [np.zeros_like(x) for x in values]]
    cotangents = [values, [np.zeros(a.shape, a.dtype) for a in closed.out_avals]]
    tangent = cotangent = reference = other = None
    if "fwd" in modes or "lin" in modes:
        tangent = derivative(primal, _push if "fwd" in modes else _linear, tangents, precision=precision)
        _refuse_reverse_only(tangent)
    if "rev" in modes:
        cotangent = derivative(primal, _pull, cotangents, precision=precision)
    has_rules = count_rules(primal.closed, "user") > 0
    handed = bool(given_solves(primal.closed))  # both modes of it are made of the same functions
    lost = bits.loses_derivatives(closed, len(values))  # then nobody but the differences knows
    if (has_rules or (tangent is None and not handed)) and not lost:
        try:
            reference = ask(derivative, primal, _push, tangents, stripped=has_rules, precision=precision)
            ask(_refuse_reverse_only, reference)
        except Refused:
            reference = None
        if reference is None and has_rules and cotangent is not None:
            with contextlib.suppress(Refused):  # no reverse mode either: the differences must do
                other = ask(derivative, primal, _pull, cotangents, stripped=True, precision=precision)
    runnable = dataclasses.replace(primal, program=plain(primal))
    programs = map(_plain, (tangent, cotangent, reference, other))
    own = bool(name) or not (has_rules or handed)
    return Map(name, runnable, tuple(np.asarray(x) for x in point), *programs, own=own)


def _push(f: Callable) -> Callable:
    return lambda xs, ts: jax.jvp(lambda *a: f(*a), xs, ts)[1]


def _linear(f: Callable) -> Callable:
    return lambda xs, ts: jax.linearize(lambda *a: f(*a), *xs)[1](*ts)


def _pull(f: Callable) -> Callable:
    return lambda xs, cts: jax.vjp(lambda *a: f(*a), *xs)[1](list(cts))


def _refuse_reverse_only(traced: Traced) -> None:
    try:
        refuse_reverse_only(traced)
    except TypeError as error:
        raise on_purpose(error) from None


def _plain(traced: Traced | None) -> Traced | None:
    """Nothing is differentiated after this: rules that are left over are only in the way."""
    return None if traced is None else dataclasses.replace(traced, program=plain(traced))


def jvp_map(primal: Traced, point: Sequence[Any]) -> tuple[Traced, tuple[Any, ...]]:
    """(x, t) -> (f(x), J t) as a traced function, beside t = x, where jax.test_util looks: there the derivative of a
    function that does not depend on scale is zero, and so is whatever its rule forgets."""
    closed = base(primal)
    values = own_values(closed, point)
    tangents = [_beside(x, m) for x, m in zip(point, _mixed(closed.in_avals), strict=True)]

    def both(f):
        def pushed(xs, ts):
            out, tangent = jax.jvp(lambda *a: f(*a), xs, ts)
            return [*out, *tangent]

        return pushed

    return derivative(primal, both, [values, values]), (*point, *tangents)


def vjp_map(primal: Traced, point: Sequence[Any]) -> tuple[Traced, tuple[Any, ...]]:
    """x -> J(x)^T (f(x) + c) as a traced function, c constant: with f(x) alone, as in jax.test_util, a function
    that does not depend on scale shows nothing. What is infinite in f(x) takes no part."""
    closed = base(primal)
    values, fixed = own_values(closed, point), _mixed(closed.out_avals)

    def pull_back(f):
        def pulled(xs):
            out, pull = jax.vjp(lambda *a: f(*a), *xs)
            return list(pull([jnp.where(jnp.isfinite(y), y + c, 0) for y, c in zip(out, fixed, strict=True)]))

        return pulled

    return derivative(primal, pull_back, [values]), tuple(point)


def pulled_map(primal: Traced, point: Sequence[Any]) -> tuple[Traced, tuple[Any, ...]]:
    """(x, g) -> J(x)^T g: every second derivative of a rule's reverse mode, its linear part in g included.

    Where x is real, its part in x at a fixed g is a gradient, and the derivative of that is a Hessian.
    """
    closed = base(primal)
    values, cts = own_values(closed, point), _mixed(closed.out_avals)
    return derivative(primal, _pull, [values, cts]), (*point, *cts)


def pushed_map(primal: Traced, point: Sequence[Any]) -> tuple[Traced, tuple[Any, ...]]:
    """(x, t) -> J(x) t: the same of a rule's forward mode."""
    closed = base(primal)
    values, tangents = own_values(closed, point), _mixed(closed.in_avals)
    return derivative(primal, _push, [values, tangents]), (*point, *tangents)


def _beside(x: Any, mixed: np.ndarray) -> np.ndarray:
    """Numbers of the size of x, and none of them zero."""
    size = np.sqrt(np.mean(np.abs(np.asarray(x, mixed.dtype)) ** 2)) if np.size(x) else 0.0
    return (x + mixed * (size or 1.0)).astype(np.asarray(x).dtype)


def _mixed(avals: Sequence[Any]) -> list[np.ndarray]:
    """Fixed numbers of mixed signs, in the shapes and dtypes of these."""
    found = []
    for k, aval in enumerate(avals):
        x = np.cos(1.0 + k + np.arange(int(np.prod(aval.shape)))).reshape(aval.shape)
        found.append((x * (1 - 1j) if jnp.issubdtype(aval.dtype, jnp.complexfloating) else x).astype(aval.dtype))
    return found


def orders(name: str, primal: Traced, point: Sequence[Any], order: int, modes: Sequence[str]) -> Iterator[Map]:
    """The maps of all orders, nested as in jax.test_util: f, the JVP of f, the VJP of f, and theirs."""
    suffix = f" of {name}" if name else ""
    yield make(name, primal, point, modes)
    if order == 1:
        return
    if "fwd" in modes or "lin" in modes:
        yield from orders(f"JVP{suffix}", *jvp_map(primal, point), order - 1, modes)
    if "rev" in modes:
        yield from orders(f"VJP{suffix}", *vjp_map(primal, point), order - 1, modes)


def values(primal: Traced, point: Sequence[Any], modes: Sequence[str]) -> dict[str, Traced]:
    """What the derivatives of a function with rules say its value is, by the mode that says it."""
    own = own_values(base(primal), point)

    def pushed(f):
        return lambda xs: list(jax.jvp(lambda *a: f(*a), tuple(xs), tuple(map(jnp.zeros_like, xs)))[0])

    def pulled(f):
        return lambda xs: list(jax.vjp(lambda *a: f(*a), *xs)[0])

    if not count_rules(primal.closed, "user"):
        return {}
    ways = {mode: way for mode, way in (("fwd", pushed), ("rev", pulled)) if mode in modes}
    return {mode: there(_plain(derivative(primal, way, [own]))) for mode, way in ways.items()}


def given_values(theta: Any, point: Sequence[Any], f_jvp: Callable | None, f_vjp: Callable | None) -> dict[str, Traced]:
    """The same of derivatives that are functions of the caller's, see `given`."""

    def flat(out):
        return [x for x in jax.tree_util.tree_leaves(out) if jnp.issubdtype(x.dtype, jnp.inexact)]

    blanks = dataclasses.replace(theta, values=tuple(map(_blank, theta.values)))
    found = {}
    if f_jvp is not None:
        found["fwd"] = trace(
            lambda leaves, extras: flat(
                f_jvp(theta.rebuild(leaves), blanks.rebuild([jnp.zeros_like(x) for x in leaves]))[0]
            ),
            list(point),
            [],
        )
    if f_vjp is not None:
        found["rev"] = trace(lambda leaves, extras: flat(f_vjp(*theta.rebuild(leaves))[0]), list(point), [])
    return found


def _blank(leaf: Any) -> Any:
    """The tangent of a leaf that is carried along."""
    if getattr(leaf, "dtype", None) is None:
        return leaf if leaf is None else np.zeros((), jax.dtypes.float0)
    return np.zeros(np.shape(leaf), jax.dtypes.float0)


def given(
    theta: Any,
    primal: Traced,
    point: Sequence[Any],
    f_jvp: Callable | None,
    f_vjp: Callable | None,
    precision: str = "float64",
) -> Map:
    """A map whose derivative is a function of the caller's: `f_jvp(args, tangents)` or `f_vjp(*args)`."""
    blanks = dataclasses.replace(theta, values=tuple(map(_blank, theta.values)))

    def push(leaves, extras):
        half = len(leaves) // 2
        out = there(f_jvp)(theta.rebuild(leaves[:half]), blanks.rebuild(leaves[half:]))[1]
        return [x for x in jax.tree_util.tree_leaves(out) if x.dtype != jax.dtypes.float0]

    def pull(leaves, extras):
        xs, cts = leaves[: len(point)], list(leaves[len(point) :])
        out, back = there(f_vjp)(*theta.rebuild(xs))
        flat, tree = jax.tree_util.tree_flatten(out)
        none = jax.dtypes.float0
        full = [cts.pop(0) if jnp.issubdtype(x.dtype, jnp.inexact) else np.zeros(x.shape, none) for x in flat]
        found = jax.tree_util.tree_leaves(back(jax.tree_util.tree_unflatten(tree, full)), is_leaf=lambda x: x is None)
        return [found[leaf.position] for leaf in theta.leaves]

    tangent = cotangent = None
    if f_jvp is not None:
        tangent = trace(push, [*point, *map(np.zeros_like, point)], [], precision)
    if f_vjp is not None:
        cotangent = trace(pull, [*point, *(np.zeros(a.shape, a.dtype) for a in primal.closed.out_avals)], [], precision)
    runnable = dataclasses.replace(primal, program=plain(primal))
    return Map("", runnable, tuple(map(np.asarray, point)), tangent, cotangent, None)
