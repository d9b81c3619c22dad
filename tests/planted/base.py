"""What a planted case is, and the few helpers all the modules of cases share.

A family is a function `family(dtype, bug=None) -> Problem`: without a bug it is right, with one it
is wrong in exactly one named way. Data are drawn in float64 and cast, so that every precision sees
the same point. A keyword `low=` is a precision that the loss pins, whatever its parameters have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

REAL = ("float32", "float64")
ALL_REAL = ("bfloat16", "float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")


@dataclass(frozen=True)
class Problem:
    """One loss at one point, with the gradient under test.

    `grad` is None where the loss carries custom rules and `jax.grad` of it is what is tested.
    `truth` is for `verify.py` alone: the true gradient, where neither `jax.grad` nor central
    differences can be trusted to give it.
    """

    loss: Callable
    params: Any
    grad: Callable | None = None
    args: tuple = ()
    options: dict = field(default_factory=dict)
    truth: Callable | None = None


@dataclass(frozen=True)
class Case:
    """A problem with the verdict that a checker owes it.

    `reasons` are the acceptable ones ("" is none). `leaves` are exactly the wrong leaves: dict keys
    and attributes joined by '.', sequence indices in [..]; a bare array as params is the leaf "".
    """

    id: str
    build: Callable[[Any], Problem]
    what: str
    verdict: str
    reasons: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = REAL


def wrong(id, family, bug, what, leaves, dtypes=REAL, reasons=("MANUAL_WRONG",)):
    """A case that must FAIL; `leaves` is one string, paths between blanks ("" is the bare leaf)."""
    build = partial(family, bug=bug)
    return Case(id, build, what, "FAIL", tuple(reasons), tuple(leaves.split()) or ("",), dtypes)


def right(id, family, what, dtypes=REAL, reasons=("",), **keywords):
    """A case that must PASS."""
    build = partial(family, **keywords) if keywords else family
    return Case(id, build, what, "PASS", tuple(reasons), (), dtypes)


def draws(seed, dtype):
    """A source of normal arrays: r(3, 4), r(5, scale=0.1); complex where dtype is."""
    rng, dtype = np.random.default_rng(seed), jnp.dtype(dtype)

    def draw(*shape, scale=1.0):
        value = rng.normal(size=shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            value = value + 1j * rng.normal(size=shape)
        return jnp.asarray(value * scale, dtype)

    return draw


def ints(seed, high, *shape):
    return jnp.asarray(np.random.default_rng(seed).integers(0, high, size=shape), jnp.int32)


def spread(dtype, low, high, *shape):
    """Distinct values evenly from low to high, shuffled: no two are near a tie."""
    n = int(np.prod(shape))
    values = np.random.default_rng(n).permutation(np.linspace(low, high, n))
    return jnp.asarray(values.reshape(shape), dtype)


def sigmoid(x):
    # Written out: jax.nn's own carries a rule, and these cases are to be plain programs.
    return 1 / (1 + jnp.exp(-x))


def leaf_paths(tree):
    """The paths of a pytree's leaves, written as in `Case.leaves`."""
    paths = []
    for keys, _ in jax.tree_util.tree_flatten_with_path(tree)[0]:
        text = ""
        for key in keys:
            if isinstance(key, jax.tree_util.SequenceKey):
                text += f"[{key.idx}]"
            elif isinstance(key, jax.tree_util.DictKey):
                text += f".{key.key}"
            elif isinstance(key, jax.tree_util.GetAttrKey):
                text += f".{key.name}"
            else:
                text += f"[{key.key}]"
        paths.append(text.removeprefix("."))
    return paths
