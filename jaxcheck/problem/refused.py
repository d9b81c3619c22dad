"""What cannot be checked whatever the function: said before anything is traced, by the name that the caller wrote."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxcheck.program.mode import as_jax, is_traced
from jaxcheck.theta import path_name


def refuse_tracing(**trees: Any) -> None:
    """Raise TypeError when called under jit, grad or vmap; ValueError on arrays that are no longer there. Each tree
    goes under the name of its argument."""
    with_paths = {name: jax.tree_util.tree_flatten_with_path(tree)[0] for name, tree in trees.items()}
    traced = any(is_traced(x) for leaves in with_paths.values() for _, x in leaves)
    if traced or is_traced(as_jax(np.zeros(()))):
        raise TypeError(
            "a gradient check was called while JAX is tracing (inside jit, grad, vmap or scan); "
            "call it outside, on concrete parameters: it is for debugging, not for the training step"
        )
    for name, leaves in with_paths.items():
        for path, x in leaves:
            if isinstance(x, jax.Array) and x.is_deleted():
                where = path_name(path, name)
                raise ValueError(
                    f"{name} holds an array that was deleted (donated to a jitted function?)"
                    f"{'' if where == name else f', `{where}`'}: give one that is still there"
                )
