"""A change may make nonsense of a program: operands that do not fit, which NumPy and JAX say in their own words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcheck.program.abandoned import let_go

# JAX asserts, as well, what it takes for granted of an equation's operands.
NONSENSE = (ArithmeticError, AssertionError, IndexError, NotImplementedError, TypeError, ValueError,
            jax.errors.JaxRuntimeError)  # fmt: skip


class Unflattened(Exception):
    """The program cannot be flattened: it is too long, or calls what is not JAX's."""


class Late(Unflattened):
    """The time for the search is over."""


def tried(f: Callable, *args: Any) -> Any | None:
    """`f(*args)`, overflows included; None where it is nonsense."""
    try:
        with np.errstate(all="ignore"):
            return f(*args)
    except NONSENSE as error:
        let_go(error)
        return None
