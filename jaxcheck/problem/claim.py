"""The gradient under test, as it was had."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcheck.problem.preface import units
from jaxcheck.problem.user import User, real_rows
from jaxcheck.program.objective import Traced
from jaxcheck.result import Witness
from jaxcheck.theta import Theta


@dataclasses.dataclass(frozen=True, eq=False)
class Claim:
    """The gradient under test, in whichever form it can be had: a program (`own` is it in the caller's dtypes), a
    function on the host (`native` is its value there), or numbers."""

    program: Traced | None = None
    own: Traced | None = None
    host: Callable | None = None
    native: np.ndarray | None = None
    numbers: np.ndarray | None = None
    unit: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    random: str = ""

    @property
    def witness(self) -> Witness:
        if self.program is None:
            return Witness("manual", "numbers" if self.numbers is not None else "host")
        return Witness("manual", self.program.how, self.program.note)


def of_numbers(user: User) -> Claim:
    """The numbers that were given. Raises StructureError."""
    picked = user.numbers()
    return Claim(numbers=real_rows(user.theta, picked), unit=units(user.theta, picked))


def unit_of(theta: Theta, avals: Sequence[Any], held: Sequence[bool]) -> np.ndarray:
    """(P,) rounding unit of the leaves that were `held` as numbers, zero for the others."""
    units = [float(jnp.finfo(a.dtype).eps) if h else 0.0 for a, h in zip(avals, held, strict=True)]
    return np.concatenate([np.full(leaf.stop - leaf.start, u) for leaf, u in zip(theta.leaves, units, strict=True)])
