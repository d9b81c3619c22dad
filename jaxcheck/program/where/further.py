"""Further points: at two of them a comparison that is wrong may decide as the right one does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from jaxcheck.program.where.nonsense import tried
from jaxcheck.program.where.tape import Tape

# How far the second point is from the first, relative to each number, and to the leaf's RMS.
FAR, APART = 0.25, 0.05
# The further points; every other one is as far from the first as a number is large, or farther.
COUNT = 100
# How far those are, as a power of e.
WIDE = 1.0


@dataclasses.dataclass(eq=False)
class Further:
    """A backward pass and the truth at as many points as are asked for.

    Args:
        back, ahead: the tapes of the backward pass and of the loss; `seeds` are the cotangents of the loss's outputs.
        moving: the inputs that are others at other points.
        outputs: which of the loss's inputs each result of the backward pass is the gradient in.
    """

    back: Tape
    ahead: Tape
    seeds: Mapping[int, np.ndarray]
    moving: Collection[int]
    outputs: Sequence[int]
    known: list[tuple[list[np.ndarray], list[np.ndarray]] | None] = dataclasses.field(default_factory=list)

    def only(self, k: int) -> Further:
        """The same of one result alone."""
        return dataclasses.replace(self, outputs=[self.outputs[k]], known=[])

    def at(self, n: int) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
        """(all values of the backward pass, what its results should be) at a further point; None where the loss has
        nothing to say there."""
        while len(self.known) <= n:
            self.known.append(tried(self._at, len(self.known)))
        return self.known[n]

    def _at(self, n: int) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
        here = [self.back.values[i] for i in self.back.inputs]
        run, loss = self.runs([_another(x, n, k) if k in self.moving else x for k, x in enumerate(here)])
        total, _ = self.ahead.back(loss, self.seeds)
        targets = [as_result(total.get(self.ahead.inputs[k]), run[self.back.outputs[k]]) for k in self.outputs]
        return (run, targets) if all(np.isfinite(x).all() for x in targets) else None

    def runs(self, inputs: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """All values of the backward pass, and of the loss, at other inputs."""
        back, ahead = self.back, self.ahead
        return (
            back.replay(back.values, dict(zip(back.inputs, inputs, strict=True))),
            ahead.replay(ahead.values, dict(zip(ahead.inputs, inputs[: len(ahead.inputs)], strict=True))),
        )


def as_result(x: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    """A gradient in the shape in which a backward pass gives it."""
    return np.zeros(like.shape) if x is None else np.reshape(x, like.shape)


def second_point(x: np.ndarray, k: int) -> np.ndarray:
    """Another value of an input, of the same signs."""
    return _by_parts(x, lambda part: _beside(part, np.random.default_rng([5, k])))


def _beside(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rms = np.sqrt(np.mean(x**2)) if x.size else 0.0
    return x * (1 + FAR * rng.uniform(-1, 1, x.shape)) + APART * rms * np.sign(x) * rng.uniform(0, 1, x.shape)


def _another(x: np.ndarray, n: int, k: int) -> np.ndarray:
    """An input's value at a further point; with other signs only where it has both, for it may have to be positive."""
    return _by_parts(x, lambda part: _elsewhere(part, n, k))


def _by_parts(x: np.ndarray, f: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Another value of a number; of a complex one by its real and imaginary parts, of what is neither the same."""
    if x.dtype.kind == "c":
        return f(np.real(x)) + 1j * f(np.imag(x))
    return f(x) if x.dtype.kind == "f" else x


def _elsewhere(x: np.ndarray, n: int, k: int) -> np.ndarray:
    rng = np.random.default_rng([6, n, k])
    if n % 2:
        return _beside(x, rng)
    signs = rng.choice([-1.0, 1.0], x.shape) if (x < 0).any() and (x > 0).any() else 1.0
    return x * signs * np.exp(WIDE * rng.uniform(-1, 1, x.shape))
