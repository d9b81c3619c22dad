"""A wrong leaf next to the truth, as the kinds of mistake look at it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from jaxcheck.bars import ENTRY, EXPLAINS, FITS, LEAVES
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.formula import formula2
from jaxcheck.problem.beside import Beside


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """A wrong leaf next to the truth `t`, both (G, n), and `bars` of their difference; `others` are other leaves with
    theirs."""

    ev: LeafEvidence
    m: np.ndarray
    t: np.ndarray
    bars: np.ndarray
    others: Sequence[tuple[LeafEvidence, np.ndarray]] = ()
    beside: Beside = dataclasses.field(default_factory=Beside)

    @property
    def residual(self) -> np.ndarray:
        return self.m - self.t

    @property
    def live(self) -> np.ndarray:
        """Where the truth is not near zero."""
        return np.abs(self.t) > ENTRY * np.abs(self.t).max()

    @functools.cached_property
    def close(self) -> float:
        """What an explanation may be off by: a small error is close to many guesses, so little of it may be left."""
        return min(EXPLAINS, LEAVES * formula2(self.m, self.t))

    def shaped(self, x: np.ndarray) -> np.ndarray:
        """(G, *shape) in the caller's convention; of yes and no of a complex leaf, whether one of both parts is so."""
        x, leaf = np.asarray(x), self.ev.leaf
        if leaf.is_complex:
            parts = x[:, : leaf.size], x[:, leaf.size :]
            x = parts[0] | parts[1] if x.dtype == bool else parts[0] - 1j * parts[1]
        return x.reshape(-1, *leaf.shape)

    def is_(self, explained: np.ndarray) -> bool:
        """Whether M is that."""
        return formula2(self.m, np.broadcast_to(explained, self.m.shape)) < self.close

    def entries(self, found: np.ndarray, explained: np.ndarray, live: np.ndarray | None = None) -> str:
        """On how many entries of the leaf an explanation holds, of those where it says something (`live`).

        Entries of the caller's leaf are counted: not once per cotangent, not twice for a complex number.
        """
        leaf = self.ev.leaf
        live = self.live if live is None else live
        with np.errstate(all="ignore"):
            holds = np.abs(found - explained) <= FITS * np.abs(explained)
        live = np.broadcast_to(live, found.shape)
        some, every = np.asarray(live.any(axis=0)), np.asarray((holds | ~live).all(axis=0))
        if leaf.is_complex:
            some, every = some[: leaf.size] | some[leaf.size :], every[: leaf.size] & every[leaf.size :]
        count, total = int((some & every).sum()), int(some.sum())
        if leaf.size == 1:
            return "its one entry"
        if count < total:
            return f"{count} of {leaf.size} entries"
        return f"all {total} entries" + ("" if total == leaf.size else f" that are not near zero, of {leaf.size}")


def number(x: float) -> str:
    if 0 < abs(x - 1) < FITS:
        return f"1{x - 1:+.2g}"
    return f"{x:.4g}" if abs(x - round(x)) > ENTRY or not round(x) else f"{x:.3f}"
