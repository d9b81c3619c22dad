"""A map as a `Problem`: projections of its results, and what its derivative under test says of their gradients.

A map's own evidence is along directions; as a problem its inputs are looked at leaf by leaf and component by
component, to say where a derivative that is wrong goes wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.problem.cotangents import cotangents
from jaxcheck.problem.map import Map
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.real_view import from_vector, to_vector
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.derived import MOST_PUSHED
from jaxcheck.program.objective import Traced, cast
from jaxcheck.program.run.compile import Program
from jaxcheck.there import there
from jaxcheck.theta import Theta, take_apart


def theta_of(one: Map, names: Sequence[str]) -> Theta:
    """The inputs of a map, named after the arguments of the function that it is a derivative of.

    Args:
        names: one for each of the function's own flat inputs.
    """
    named = list(names)
    for way in reversed(one.name.split(" of ") if one.name else []):
        named += [f"tangent of {name}" for name in named] if way == "JVP" else []
    return take_apart(tuple(one.point), names=named)


def problem_of(one: Map, ev: MapEvidence, theta: Theta, reverse: bool, own: bool = False) -> Problem | None:
    """The problem, or None where there is no way to gradients of this size.

    Args:
        reverse: the cotangent of the map is under test, else its tangent.
        own: of the very cotangents of the evidence, so that what a rule makes of these is under test.
    """
    finite = np.isfinite(ev.outputs)
    g = ev.cotangents if own else cotangents(ev.results, 0, ev.outputs) * finite
    g = g[g.any(axis=1)]
    manual = _pulled(one.cotangent, len(one.point)) if reverse else _pushed(one.tangent, theta)
    if manual is None or not len(g):
        return None
    autodiff = _pushed(one.reference, theta) or _pulled(one.reference_pull, len(one.point))
    transposed = None if autodiff else _transposed(one.reference)
    avals = [*one.primal.program.closed.in_avals, jax.ShapeDtypeStruct(g.shape, np.float64)]

    def projected(*flat: Any) -> list[Any]:
        out = to_vector(one.primal.program(*flat[:-1]))
        return [flat[-1] @ jnp.where(finite, out, 0.0)]

    made = functools.partial(_made, one, avals)
    return Problem(
        theta,
        (g,),
        made(projected),
        made(manual),
        made(autodiff) if autodiff else _if_possible(made, transposed),
        columns=len(g),
        is_autodiff=one.own,
    )


def _pulled(traced: Traced | None, count: int) -> Callable | None:
    """Gradients by the pull-back of each row of cotangents."""
    if traced is None:
        return None
    avals = traced.program.closed.in_avals

    def gradients(*flat: Any) -> list[Any]:
        xs = cast(avals[:count], flat[:-1])
        return jax.lax.map(lambda row: traced.program(*xs, *from_vector(row, avals[count:], conjugate=True)), flat[-1])

    return gradients


def _pushed(traced: Traced | None, theta: Theta) -> Callable | None:
    """Gradients by pushing every component forward."""
    if traced is None or theta.size > MOST_PUSHED:
        return None
    avals = traced.program.closed.in_avals
    half = len(avals) // 2

    def gradients(*flat: Any) -> list[Any]:
        xs = cast(avals[:half], flat[:-1])
        columns = jax.lax.map(
            lambda t: to_vector(traced.program(*xs, *from_vector(t, avals[half:]))), jnp.eye(theta.size)
        )
        # Beside a result that is not finite nothing is asked of its tangents.
        rows = jnp.where((flat[-1] != 0).any(axis=0), columns, 0.0) @ flat[-1].T
        found = []
        for leaf in theta.leaves:
            part = rows[leaf.start : leaf.stop].T
            if leaf.is_complex:  # JAX's convention: dJ/dx - i dJ/dy
                part = part[:, : leaf.size] - 1j * part[:, leaf.size :]
            found.append(part.reshape(-1, *leaf.shape))
        return found

    return gradients


def _transposed(traced: Traced | None) -> Callable | None:
    """Gradients by the transpose of a tangent: without autodiff, whoever is wrong would be looked at far longer."""
    if traced is None:
        return None
    avals = traced.program.closed.in_avals
    half = len(avals) // 2

    def gradients(*flat: Any) -> list[Any]:
        xs = cast(avals[:half], flat[:-1])
        zeros = [jnp.zeros(a.shape, a.dtype) for a in avals[half:]]
        out, back = jax.vjp(lambda *ts: traced.program(*xs, *ts), *zeros)
        return jax.lax.map(lambda row: back(from_vector(row, out, conjugate=True)), flat[-1])

    return gradients


def _if_possible(made: Callable[[Callable], Traced], f: Callable | None) -> Traced | None:
    """What is not everywhere possible: a tangent's loop without a fixed count has no transpose."""
    if f is None:
        return None
    try:
        return ask(made, f)
    except Refused:
        return None


def along(one: Map, ev: MapEvidence, outputs: np.ndarray) -> Problem:
    """The tangents of a map as a problem: its parameters are how far one goes from the point along each of the
    directions of the evidence, a leaf each, for each has its own scale; its columns are `outputs`. What a rule makes of
    these very tangents is under test, not what it would make of their parts."""
    ins, count = one.primal.program.closed.in_avals, len(ev.directions)
    given = (to_vector(one.point, np), ev.directions)
    avals = [jax.ShapeDtypeStruct(x.shape, np.float64) for x in (*[np.zeros(())] * count, *given)]

    def moved(*flat: Any) -> Any:
        return flat[-2] + jnp.stack(flat[:count]) @ flat[-1]

    def primal(*flat: Any) -> list[Any]:
        return [to_vector(one.primal.program(*from_vector(moved(*flat), ins)))[outputs]]

    def pushed(traced: Traced) -> Callable:
        avals = traced.program.closed.in_avals
        half = len(avals) // 2

        def gradients(*flat: Any) -> list[Any]:
            xs = from_vector(moved(*flat), avals[:half])
            return list(
                jax.lax.map(lambda v: to_vector(traced.program(*xs, *from_vector(v, avals[half:])))[outputs], flat[-1])
            )

        return gradients

    made = functools.partial(_made, one, avals)
    theta = take_apart([np.zeros(()) for _ in range(count)], "along")
    return Problem(
        theta,
        given,
        made(primal),
        made(pushed(there(one.tangent))),
        made(pushed(one.reference)) if one.reference else None,
        columns=len(outputs),
        is_autodiff=one.own,
    )


def _made(one: Map, avals: Sequence[Any], f: Callable) -> Traced:
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(f)(*avals)
    return Traced(Program.of(closed), None, one.primal.how, one.primal.note, closed, one.primal.unit)
