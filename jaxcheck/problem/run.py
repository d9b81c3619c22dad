"""The caller's programs as they are run: in the dtypes, and with the rules, that the caller has."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.converge import iterates
from jaxcheck.program.derived import gradient, plain
from jaxcheck.program.narrower import narrower
from jaxcheck.program.objective import Traced


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """The caller's programs as they are run. `source` is the loss with its rules in place, to be differentiated;
    `manual` is the gradient under test, None where it is no program."""

    source: Traced
    manual: Traced | None
    leaves: tuple[Any, ...]
    extras: tuple[Any, ...]
    known: dict[str, Any] = dataclasses.field(default_factory=dict)  # what was measured of it, by name

    @property
    def primal(self) -> Traced:
        return dataclasses.replace(self.source, program=plain(self.source))

    @property
    def stops(self) -> bool:
        """Whether a loop inside stops at a tolerance: rounding alone may make it stop earlier or later."""
        return iterates(self.source.closed) or (self.manual is not None and iterates(self.manual.closed))

    @property
    def unit(self) -> float:
        """The spacing of the coarsest dtype that goes in or comes out."""
        return self.manual.unit if self.manual is not None else self.source.unit

    @functools.cached_property
    def narrower(self) -> str:
        """The dtype in which the gradient under test computes, see `narrower`."""
        return "" if self.manual is None else narrower(self.manual, self.primal)

    @functools.cached_property
    def native_autodiff(self) -> Traced | None:
        """`autodiff("native")`."""
        return self.autodiff("native")

    def autodiff(self, precision: str) -> Traced | None:
        """The native loss's own derivative, without the user's rules; None where JAX has none."""
        try:
            return ask(
                gradient,
                self.source,
                self.leaves,
                self.extras,
                stripped=True,
                precision=precision,
            )
        except Refused:
            return None
