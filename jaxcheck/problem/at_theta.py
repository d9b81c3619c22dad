"""A problem's programs as functions of the real vector theta, inside of compiled ones.

JAX's gradient of a complex leaf is dJ/dx - i dJ/dy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxcheck.problem.parts import Parts, gradient
from jaxcheck.problem.problem import Problem
from jaxcheck.program.objective import Traced, call
from jaxcheck.theta import Leaf


def real_gradient(leaf: Leaf, gradient: Any, xp: Any = jnp) -> Any:
    """(G, *shape) in JAX's convention to (G, n) in the real view."""
    flat = gradient.reshape(gradient.shape[0], -1)
    if not leaf.is_complex:
        return flat.real if xp.iscomplexobj(flat) else flat
    return xp.concatenate([flat.real, -flat.imag], axis=1)


def outputs_of(problem: Problem, program: Any, vector: Any, extras: Sequence[Any]) -> Any:
    """(G,) outputs at a traced real vector theta."""
    out = call(program, problem.loss.program.closed.in_avals, [*problem.theta.unravel(vector), *extras])[0]
    return out.reshape(-1).astype(jnp.float64)


def gradient_of(problem: Problem, traced: Traced, program: Any, vector: Any, extras: Sequence[Any]) -> Any:
    """(G, P) gradient at a traced real vector theta."""
    out = call(program, traced.program.closed.in_avals, [*problem.theta.unravel(vector), *extras])
    found = [g.reshape(problem.columns, *leaf.shape) for leaf, g in zip(problem.theta.leaves, out, strict=True)]
    if isinstance(vector, Parts):
        return gradient(found, problem.theta.leaves)
    return jnp.concatenate(
        [real_gradient(leaf, g).astype(jnp.float64) for leaf, g in zip(problem.theta.leaves, found, strict=True)],
        axis=1,
    )
