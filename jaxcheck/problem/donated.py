"""Programs that give the buffers of their arguments away."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxcheck.program.interpret import walk
from jaxcheck.program.native import is_dynamic


def donates(closed: Any) -> bool:
    """Whether the program gives the buffers of its arguments away."""
    return any(any(eqn.params.get("donated_invars", ())) for eqn, _ in walk(closed))


def undonated(f: Callable) -> Callable:
    """`f` inside a jit of its own, where JAX donates nothing: the caller's arrays, and ours, live on.

    Copies would not do: eagerly, JAX's own reverse mode of a donating program finds its residuals deleted.
    """
    known: dict[Any, tuple[Callable, list[Any]]] = {}

    @functools.wraps(f, updated=())
    def careful(*args: Any, **kwargs: Any) -> Any:
        flat, tree = jax.tree_util.tree_flatten((args, kwargs))
        data = [isinstance(x, jax.Array) or is_dynamic(x) for x in flat]
        fixed = [x for x, d in zip(flat, data, strict=True) if not d]
        key = (tree, tuple(data), tuple(map(id, fixed)))
        if key not in known:  # `fixed` is kept, so that the ids stay its own

            def inside(moving: list[Any]) -> Any:
                pools = iter(moving), iter(fixed)
                a, k = jax.tree_util.tree_unflatten(tree, [next(pools[not d]) for d in data])
                return f(*a, **k)

            known[key] = jax.jit(inside), fixed
        return known[key][0]([x for x, d in zip(flat, data, strict=True) if d])

    return careful
