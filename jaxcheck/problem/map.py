"""A function of any pytrees with its derivatives: what `derivatives` makes, and `evidence.maps` measures."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.program.objective import Traced


@dataclasses.dataclass(frozen=True, eq=False)
class Map:
    """One function on flat inexact inputs, with its derivatives traced as programs.

    `tangent` and `cotangent` are under test (None where not asked for); `reference` is the tangent of
    the program without the user's rules (None without such rules, or where JAX has no forward mode; then
    `reference_pull` is its cotangent). `own`: what is under test is JAX's own derivative, of a function without
    rules of the user's, or of a derivative, whose code any other derivative shares.
    """

    name: str
    primal: Traced
    point: tuple[np.ndarray, ...]
    tangent: Traced | None
    cotangent: Traced | None
    reference: Traced | None
    reference_pull: Traced | None = None
    own: bool = False

    @property
    def cost(self) -> float:
        return self.primal.program.cost
