"""Maps whose loops stop at a tolerance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxcheck.problem.map import Map
from jaxcheck.program.converge import LONG, Patience, further, iterates

PROGRAMS = ("primal", "tangent", "cotangent", "reference", "reference_pull")


def stops(one: Map) -> bool:
    """Whether a loop that stops at a tolerance is in any program of a map."""
    programs = [t for t in (getattr(one, name) for name in PROGRAMS) if t is not None]
    return any(iterates(t.program.closed) for t in programs)


def at_limit(maps: Sequence[Map], patience: Patience = LONG) -> list[Map]:
    """The maps with every loop run on."""
    return [
        dataclasses.replace(one, **{name: further(getattr(one, name), patience) for name in PROGRAMS}) for one in maps
    ]
