"""The value that a rule's forward pass gives, beside the function's own: a derivative is taken at the former."""

from __future__ import annotations

import jax
import numpy as np

from jaxcheck.problem.real_view import from_vector, to_vector
from jaxcheck.program.derived import plain
from jaxcheck.program.objective import Traced
from jaxcheck.program.run.compile import execute


def measure(
    primal: Traced, point: tuple[np.ndarray, ...], values: dict[str, Traced]
) -> tuple[np.ndarray, dict[str, np.ndarray], int]:
    """The function's outputs as one real vector, those of each of `values`, and programs compiled; in float64."""
    own = plain(primal)
    others = {name: t.program for name, t in values.items() if t.program.identity != own.identity}
    if not others:
        return np.zeros(0), {}, 0

    def build(programs, vector):
        return [
            to_vector(run(*from_vector(vector, p.closed.in_avals)))
            for run, p in zip(programs, (own, *others.values()), strict=True)
        ]

    with jax.enable_x64(True):
        (outputs, *found), compiled = execute(("values",), build, [own, *others.values()], to_vector(point, np))
        return np.asarray(outputs), dict(zip(others, map(np.asarray, found), strict=True)), compiled
