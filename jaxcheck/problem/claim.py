"""The gradient under test, as it was had."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxcheck.program.objective import Traced
from jaxcheck.result import Witness


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
