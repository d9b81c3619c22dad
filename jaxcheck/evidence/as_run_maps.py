"""The path that is run, of maps (`maps`): see `as_run`."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.formula import norm2
from jaxcheck.problem.map import Map
from jaxcheck.problem.real_view import from_vector
from jaxcheck.program.alike import alike
from jaxcheck.program.derived import own_values
from jaxcheck.program.float64.shadow import to_float64
from jaxcheck.program.narrower import narrower
from jaxcheck.program.objective import in_float64
from jaxcheck.program.rounding import round_off


def same_maps(one: Map, native: Map) -> bool:
    """Whether a map's derivatives are, natively, what they are in float64, but for rounding."""
    pairs = [(getattr(one, slot), getattr(native, slot)) for slot in ("primal", "tangent", "cotangent")]
    return all((a is None) == (b is None) for a, b in pairs) and all(
        alike(b.program.closed, a.program.closed, tolerances=True) for a, b in pairs if a is not None
    )


def narrower_map(native: Map) -> str:
    """The dtype in which a derivative of a map computes, and the map does not, see `narrower`; else ""."""
    return next(filter(None, (narrower(t, native.primal) for t in (native.tangent, native.cotangent) if t)), "")


def map_without_rounding(native: Map) -> Map | None:
    """A map that was traced natively, in float64; None where it cannot be lifted."""
    point = list(native.point)
    tangents = [np.zeros_like(x) for x in own_values(native.primal.closed, point)]
    cts = [np.zeros(a.shape, a.dtype) for a in native.primal.closed.out_avals]
    values = {
        "primal": point,
        "tangent": [*point, *tangents],
        "cotangent": [*point, *cts],
        "reference": [*point, *tangents],
        "reference_pull": [*point, *cts],
    }
    lifted = {}
    for slot, given in values.items():
        traced = getattr(native, slot)
        lifted[slot] = None if traced is None else in_float64(traced, given)
        if traced is not None and lifted[slot] is None:
            return None
    return dataclasses.replace(native, **lifted)


def constants_of_map(lifted: Map, evidence: MapEvidence, unit: float) -> float:
    """What the rounding of constants to `unit` may change in the derivatives of a map: relative, of the leaf in which
    it is most, along one direction each."""
    largest = 0.0
    values = [(lifted.tangent, evidence.directions), (lifted.cotangent, evidence.cotangents)]
    point = list(map(to_float64, lifted.point))
    for traced, rows in values:
        if traced is None:
            continue
        rest = traced.program.closed.in_avals[len(point) :]
        given = [*point, *(np.asarray(x) for x in from_vector(rows[0], rest))]
        found, _ = round_off("map", [traced.program], list, list, given, [False], unit, constants=True)
        for value, bar in zip(*found[0], strict=True):
            size = norm2(value)
            largest = max(largest, float(norm2(bar) / size) if size else 0.0)
    return largest
