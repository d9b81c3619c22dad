"""Options of a check: small frozen objects, validated once, when they are made."""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
from typing import Any, Literal

from jaxcheck.bars import SHARP, TEXTBOOK


def _real(x: object) -> bool:
    return isinstance(x, numbers.Real) and not isinstance(x, bool)


def _whole(x: object) -> bool:
    """A whole number of at least 1, NumPy's own included."""
    return isinstance(x, numbers.Integral) and not isinstance(x, bool) and int(x) >= 1


def places(argnums: Any, count: int, arguments: str) -> tuple[int, ...]:
    """The places, from 0 on, that `argnums` names: a whole number or several, counted from the end where negative.

    Args:
        count: how many arguments there are.
        arguments: how many of what, as it is said of a place that is not there.

    Raises:
        TypeError, ValueError: naming `argnums`.
    """
    found = []
    for given in argnums if isinstance(argnums, (tuple, list)) else (argnums,):
        # Of NumPy and of JAX as well; an array of several is none of them.
        if isinstance(given, bool) or getattr(given, "ndim", 0) or not hasattr(given, "__index__"):
            raise TypeError(f"argnums={argnums!r}: a whole number, the place of an argument, or a tuple of several")
        try:
            at = operator.index(given)
        except TypeError:
            raise TypeError(f"argnums={argnums!r}: a whole number, not one with a fraction") from None
        if not -count <= at < count:
            raise ValueError(f"argnums={argnums!r} is out of range: {arguments}")
        found.append(at % count)
    if len(set(found)) < len(found) or not found:
        raise ValueError(f"argnums={argnums!r}: each place once, and one at least")
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Exhaustive:
    """Look at every component of theta.

    Attributes:
        step: the textbook's epsilon, absolute. None (default) lets jaxcheck choose steps and error bars;
            a number gives formula (1) exactly as written, one pair of evaluations per component.
        scheme: "central", or "forward" to see why not (error of order h instead of h^2). "forward"
            needs `step`.
        chunk: rows per batch; None chooses by a cost model.

    Raises:
        ValueError: for a step that is not finite and positive, an unknown scheme, or a chunk below 1.
    """

    step: float | None = None
    scheme: Literal["central", "forward"] = "central"
    chunk: int | None = None

    def __post_init__(self):
        if self.step is not None and not (_real(self.step) and 0 < self.step < math.inf):
            raise ValueError(f"Exhaustive(step={self.step!r}): the step must be a finite number above 0, e.g. 1e-7")
        if self.scheme not in ("central", "forward"):
            raise ValueError(f'Exhaustive(scheme={self.scheme!r}): use "central" or "forward"')
        if self.scheme == "forward" and self.step is None:
            raise ValueError('Exhaustive(scheme="forward") needs step=, e.g. step=1e-7')
        if self.chunk is not None and (not _whole(self.chunk)):
            raise ValueError(f"Exhaustive(chunk={self.chunk!r}): the chunk must be a whole number of rows, at least 1")


@dataclasses.dataclass(frozen=True)
class Sketch:
    """Look along random directions, leaf by leaf: the cost does not depend on the size of theta.

    Attributes:
        directions: directions per leaf, at least 1. For r = grad - gradtrue and v with independent
            +-1 entries E[(v.r)^2] = ||r||^2 (Hutchinson 1990, Commun. Stat. Simul. 19(2):433).

    Raises:
        ValueError: for fewer than one direction.
    """

    directions: int = 3

    def __post_init__(self):
        if not _whole(self.directions):
            raise ValueError(f"Sketch(directions={self.directions!r}): use a whole number, at least 1")


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """The caller's own bound, beside the error bars.

    Attributes:
        rtol: relative, on formula (2) of one leaf: what lies within it is right. None (default) leaves it to the
            error bars, beside which a difference of 1e-7, at which the textbook is confident, is not held against
            a gradient; nor one of 1e-10 from autodiff where both are programs in the caller's own float64.
        atol: absolute, on the 2-norm of one leaf's error.

    Raises:
        ValueError: for a negative or non-finite bound.
    """

    rtol: float | None = None
    atol: float = 0.0

    def __post_init__(self):
        for name in ("rtol", "atol"):
            value = getattr(self, name)
            if name == "rtol" and value is None:
                continue
            if not _real(value) or not 0 <= value < math.inf:
                raise ValueError(f"Tolerance({name}={value!r}): the bound must be finite and not negative")

    @property
    def bound(self) -> float:
        """What a difference may be off by beside its bar, relative."""
        return TEXTBOOK if self.rtol is None else self.rtol

    def between_programs(self, sharp: bool) -> float:
        """What the gradient may be off from autodiff by beside the round-off of both, relative.

        Args:
            sharp: both are programs in float64, the caller's own precision.
        """
        return SHARP if self.rtol is None and sharp else self.bound


for _public in (Exhaustive, Sketch, Tolerance):
    _public.__module__ = "jaxcheck"
