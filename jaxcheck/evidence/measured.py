"""What was measured of a problem: plain data, in the real view of `problem.problem`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from jaxcheck.evidence.differences import EPS, Slopes
from jaxcheck.evidence.sketch import Units, typical, units
from jaxcheck.formula import norms_along
from jaxcheck.there import there
from jaxcheck.theta import Leaf

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Probes:
    """Differences along D directions of one leaf.

    Attributes:
        slopes: arrays (D, G), derivatives along the directions.
        directions: (D, n), or None when every direction is one component.
        indices: (D,) components, when `directions` is None (slopes are then per unit of the component).
        crossed: (D,) something is decided at the point, see `smooth.Pieces`; None where that is not known.
        analytic: (D,) the smallest steps are known to see one analytic formula, enough of them; None likewise.
        beyond: (D,) no step is known to look at the point's own piece, see `smooth.Pieces`; None likewise.
        smooth: (D,) how many of the smallest steps lie on the point's own piece on both sides; None likewise.
    """

    slopes: Slopes
    directions: np.ndarray | None = None
    indices: np.ndarray | None = None
    crossed: np.ndarray | None = None
    analytic: np.ndarray | None = None
    beyond: np.ndarray | None = None
    smooth: np.ndarray | None = None

    @property
    def along(self) -> np.ndarray:
        """The directions of probes that are known to have them."""
        return there(self.directions)

    @property
    def at(self) -> np.ndarray:
        """The components of probes that are known to be of single ones."""
        return there(self.indices)

    def project(self, gradient: np.ndarray) -> np.ndarray:
        """(G, n) gradients to (D, G) derivatives along the directions."""
        if self.directions is None:
            return gradient[:, self.at].T
        with np.errstate(all="ignore"):
            return self.directions @ gradient.T

    def project_error(self, error: np.ndarray) -> np.ndarray:
        """Error bars of `project`: independent errors add in squares."""
        if self.directions is None:
            return error[:, self.at].T
        with np.errstate(all="ignore"):
            return norms_along(self.directions, error)


@dataclasses.dataclass(frozen=True, eq=False)
class LeafEvidence:
    """What the witnesses say of one leaf: gradients and bars (G, n); `a` is None without autodiff.

    `m_given` (G, n) is the rounding of a gradient that was given as numbers; `is_autodiff` says that M
    is JAX's own derivative of the program, no rule of the user's in it; `measured` that the bars of M and A are
    measured round-off. `stopped` is M as its loops stop, where `m` is M with them run on. `pieces` are the least and
    the largest gradient on the smooth pieces that meet at the point, and where those differ, each (G, n), with `alone`
    where each component decides its own there. `held` (G, n) is autodiff's gradient where `a` is that of the function
    with nothing held back from it (`stop_gradient`). What is below `least` is zero in the caller's own dtype.
    """

    leaf: Leaf
    values: np.ndarray
    m: np.ndarray
    m_error: np.ndarray
    a: np.ndarray | None
    a_error: np.ndarray | None
    probes: tuple[Probes, ...]
    m_given: np.ndarray
    unit: float = EPS
    is_autodiff: bool = False
    measured: bool = False
    sharp: bool = False  # see `Problem.sharp`
    stopped: np.ndarray | None = None
    pieces: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    alone: bool = False
    least: float = 0.0
    held: np.ndarray | None = None

    @functools.cached_property
    def units(self) -> Units:
        """The size of each component's unit."""
        return units(self.values)

    @property
    def unit_sizes(self) -> np.ndarray:
        """The same as an array, (n,)."""
        return self.units.sizes

    @functools.cached_property
    def own_sizes(self) -> np.ndarray:
        """(n,) each component's own size; of zeros that of the leaf's largest unit."""
        return self._own("largest")

    @functools.cached_property
    def own_sizes_strict(self) -> np.ndarray:
        """The same, of zeros that of the leaf's smallest unit."""
        return self._own("smallest") if (self.values == 0).any() else self.own_sizes

    def _own(self, zero: str) -> np.ndarray:
        none, sizes = self.values == 0, np.abs(self.values)
        return np.where(none, units(self.values, zero).sizes, sizes) if none.any() else sizes

    @functools.cached_property
    def typical(self) -> np.ndarray:
        """(G, n) the size to which the rounding of each component of M is relative."""
        return typical(self.m, self.units)

    @functools.cached_property
    def _known(self) -> dict[Callable, Any]:
        return {}

    def once(self, find: Callable[[LeafEvidence], T]) -> T:
        """`find(self)`, found once: it takes passes over all components."""
        if find not in self._known:
            self._known[find] = find(self)
        return self._known[find]


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """All leaves, with the outputs (G,) at the point and what was spent; `random` says what gave two values at one
    point, or ""; `sharpened` counts the slopes
    that came from the path integral, `unseen` are the leaves that time left without what they need, `left_out`
    counts the directions that were not taken."""

    outputs: np.ndarray
    leaves: tuple[LeafEvidence, ...]
    random: str
    evaluations: int
    compiled: int
    sharpened: int = 0
    unseen: tuple[int, ...] = ()
    left_out: int = 0
