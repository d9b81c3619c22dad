"""A planted error: a linear change of a gradient, of a random kind, place and size, and the same of tangents."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from tests.generated.programs import ALIKE, Program

KINDS = ("factor", "sign", "zeroed", "swapped", "component", "own", "transposed", "missing term")


@dataclasses.dataclass(frozen=True)
class Plant:
    """g'[leaf] = g[leaf] * (1 + F) + C * <U, g[leaf]>, or another leaf's, or its own transposed, in the part `share`.

    `share` is 1 for the kinds that have no size. `output` is the output whose term is missing (-1: all), `where` the
    leaf, `other` the one it is swapped with.
    """

    kind: str
    where: str
    other: str = ""
    share: float = 1.0
    output: int = -1
    f: Any = 0.0
    c: Any = 0.0
    u: Any = 0.0

    def gradient(self, g: dict[str, Any], of_term: Any = None) -> dict[str, Any]:
        """The wrong gradient; `of_term` is the gradient of the output whose term is missing."""
        x = g[self.where]
        if self.kind == "swapped":
            y = g[self.other]
            return {**g, self.where: x + self._share(x) * (y - x), self.other: y + self._share(y) * (x - y)}
        if self.kind == "transposed":
            return {**g, self.where: x + self._share(x) * (x.T - x)}
        if self.kind == "missing term":
            return {**g, self.where: x - self._share(x) * of_term[self.where]}
        return {**g, self.where: x + x * _like(self.f, x) + _like(self.c, x) * jnp.sum(_like(self.u, x) * x)}

    def tangents(self, t: dict[str, Any]) -> dict[str, Any]:
        """Tangents of which the right push-forward is the wrong one: the transpose of `gradient`."""
        x = t[self.where]
        if self.kind in ("swapped", "transposed"):
            return self.gradient(t)
        if self.kind == "missing term":
            return {**t, self.where: x - self._share(x) * x}
        return {**t, self.where: x + x * _like(self.f, x) + _like(self.u, x) * jnp.sum(_like(self.c, x) * x)}

    def _share(self, x: Any) -> Any:
        return _like(self.share, x)  # not a scalar, which would stand in the program itself

    @property
    def leaves(self) -> set[str]:
        return {self.where, self.other} - {""}


def _like(array: Any, x: Any) -> Any:
    return jnp.asarray(np.broadcast_to(array, x.shape), x.dtype)


def plant(one: Program, outputs: int) -> Plant:
    """A random error for a program: of the same kind and place for programs that are alike, so that they share
    compilations here, too; size and component are its own."""
    alike, rng = np.random.default_rng([one.number // ALIKE, 7]), np.random.default_rng([one.number, 7])
    names, shapes = list(one.leaves), {k: x.shape for k, x in one.leaves.items()}
    size = 10.0 ** rng.uniform(-7, -1)
    kind, where = str(alike.choice(KINDS)), str(alike.choice(names))
    others = [
        k for k in names if k != where and shapes[k] == shapes[where] and one.leaves[k].dtype == one.leaves[where].dtype
    ]
    square = len(shapes[where]) == 2 and shapes[where][0] == shapes[where][1]
    if (kind == "swapped" and not others) or (kind == "transposed" and not square):
        kind = "factor"
    if kind == "missing term" and outputs < 2:
        kind = "component"
    spot = np.zeros(shapes[where])
    at = tuple(int(rng.integers(n)) for n in shapes[where])
    spot[at] = 1.0
    sign = rng.choice([-1.0, 1.0])
    if kind == "factor":
        return Plant(kind, where, f=sign * size)
    if kind in ("sign", "zeroed"):
        return Plant(kind, where, f=-2.0 if kind == "sign" else -1.0)
    if kind == "own":  # one component by a part of itself
        return Plant(kind, where, f=sign * size * spot)
    if kind == "component":  # one component by a part of the whole leaf
        return Plant(kind, where, c=sign * size * spot, u=rng.normal(size=shapes[where]))
    share = float(rng.choice([1.0, size]))
    if kind == "missing term":
        return Plant(kind, where, share=share, output=int(alike.integers(outputs)))
    return Plant(kind, where, other=others[0] if kind == "swapped" else "", share=share)
