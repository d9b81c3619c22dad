"""A program made from a number: pieces one after the other on a matrix, leaves in units of their own,
several outputs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.generated.pieces import FAMILIES, WRAPS

# Programs with the same number over this have the same structure and other values, so that they share compilations.
ALIKE = 5
# Values that are drawn before another structure is.
DRAWS = 8
# A value or gradient beyond this, or a leaf that does less than the second part of what the largest does, is another
# test than of arithmetic.
LARGEST, LEAST = 1e6, 1e-5
# What the right gradient may lose in float32, relative.
RUNS = 1e-2


@dataclasses.dataclass(frozen=True)
class Structure:
    """What programs that are alike share: `run(which, leaves, data)` gives the outputs by the one or the other way,
    `pulled(leaves, data, share)` the loss and its gradient, of each output the part `share`."""

    name: str
    dtype: str
    shapes: tuple[tuple[tuple[int, ...], str], ...]
    exits: tuple[int, ...]
    mixed: bool
    sketch: bool
    run: Callable
    pulled: Callable


@dataclasses.dataclass(frozen=True)
class Program:
    """`main(leaves)` and `other(leaves)` give the same tuple of outputs, `weighed` the sum that is the loss.

    JAX may not be able to pull `main` back; `other` it can. `data` is what the program closes over.
    """

    number: int
    structure: Structure
    leaves: dict[str, np.ndarray]
    data: dict[str, Any]

    @property
    def dtype(self) -> str:
        return self.structure.dtype

    @property
    def name(self) -> str:
        return self.structure.name

    def main(self, p: dict[str, Any]) -> tuple[Any, ...]:
        return self.structure.run(0, p, self.data)

    def other(self, p: dict[str, Any]) -> tuple[Any, ...]:
        return self.structure.run(1, p, self.data)

    def weighed(self, out: tuple[Any, ...]) -> Any:
        return weighed(out, self.data)

    @property
    def outputs(self) -> int:
        return len(self.structure.exits) + 1

    def gradient(self, output: int = -1) -> tuple[float, dict[str, np.ndarray]]:
        """(the loss, its right gradient in float64), or of the latter the part that goes through one output."""
        share = np.ones(self.outputs) if output < 0 else np.eye(self.outputs)[output]
        with jax.enable_x64(True):
            value, grads = self.structure.pulled(in_64(self.leaves), self.data, share)
        return float(value), {k: np.asarray(g) for k, g in grads.items()}

    def loss(self, p: dict[str, Any]) -> Any:
        return self.weighed(self.main(p))

    def loss_other(self, p: dict[str, Any]) -> Any:
        return self.weighed(self.other(p))


def weighed(out: tuple[Any, ...], data: dict[str, Any]) -> Any:
    return sum(
        jnp.sum(y * w[: y.size].astype(y.dtype).reshape(y.shape)) for y, w in zip(out, data["weights"], strict=True)
    )


@functools.lru_cache(maxsize=4)
def structure(number: int, attempt: int) -> Structure:
    rng = np.random.default_rng([number, attempt])
    dtype, mixed = str(rng.choice(["float32", "float64"])), bool(rng.random() < 0.5)
    sketch = bool(rng.random() < 0.25)
    kinds: list[tuple[tuple[int, ...], str]] = []

    def taker() -> Callable:
        before = len(kinds)

        def take(shape: tuple[int, ...], kind: str = "real") -> int:
            kinds.append((shape, kind))
            return len(kinds) - 1 - before

        return take

    shape = (int(rng.integers(2, 4)), int(rng.integers(2, 4)))
    taker()(shape)
    steps, names = [], []
    h = jax.ShapeDtypeStruct(shape, jnp.float32)
    for _ in range(int(rng.integers(1, 5))):
        family = FAMILIES[int(rng.integers(len(FAMILIES)))]
        name, wrap = str(rng.choice(list(family))), str(rng.choice(list(WRAPS), p=[0.6, 0.1, 0.1, 0.1, 0.1]))
        before = len(kinds)
        main, other = family[name](rng, taker(), h.shape)
        steps.append((WRAPS[wrap](main), other, range(before, len(kinds))))
        names.append(f"{name} ({wrap})" if wrap else name)
        h = jax.eval_shape(
            main,
            h,
            *[jax.ShapeDtypeStruct(s, jnp.complex64 if k == "complex" else jnp.float32) for s, k in kinds[before:]],
        )
    exits = tuple(sorted(set(rng.integers(0, len(steps), size=2).tolist()) - {len(steps) - 1}))

    def run(which: int, p: dict[str, Any], data: dict[str, Any]) -> tuple[Any, ...]:
        given = [
            jnp.asarray(x) / u.astype(jnp.asarray(x).real.dtype) for x, u in zip(p.values(), data["units"], strict=True)
        ]
        h, out = given[0], []
        for k, step in enumerate(steps):
            h = step[which](h, *[given[i] for i in step[2]])
            if k in exits:
                out.append(h.sum(0) * data["scales"][len(out)].astype(h.dtype))
        return (*out, h * data["scales"][-1].astype(h.dtype))

    @jax.jit
    def pulled(p: dict[str, Any], data: dict[str, Any], share: Any) -> tuple[Any, Any]:
        out, pull = jax.vjp(lambda p: run(1, p, data), p)
        cotangents = [
            s * w[: y.size].astype(y.dtype).reshape(y.shape)
            for s, w, y in zip(share, data["weights"], out, strict=True)
        ]
        return weighed(out, data), pull(tuple(cotangents))[0]

    return Structure(" > ".join(names), dtype, tuple(kinds), exits, mixed, sketch, run, pulled)


@functools.lru_cache(maxsize=4)
def program(number: int) -> Program:
    """The program of a number, with values at which it is finite, of moderate size, and every leaf counts."""
    for attempt in range(5 * DRAWS):
        made = _with_values(structure(number // ALIKE, attempt // DRAWS), number, attempt)
        if _tame(made):
            return made
    raise AssertionError(f"program {number}: no values found at which it is tame")


def _with_values(shared: Structure, number: int, attempt: int) -> Program:
    rng = np.random.default_rng([number, attempt, 1])
    real = np.dtype(shared.dtype)
    units, leaves = [], {}
    for k, (shape, kind) in enumerate(shared.shapes):
        unit = _unit(rng, shape) if shared.mixed else np.ones(shape)
        x = rng.normal(size=shape) * 0.7
        if kind == "complex":
            x = x + 0.7j * rng.normal(size=shape)
        units.append(np.asarray(unit, real))
        leaves[f"p{k}"] = np.asarray(x * unit, np.result_type(real, np.complex64) if kind == "complex" else real)
    outputs = len(shared.exits) + 1
    for name, x in leaves.items():
        if rng.random() < 0.05:
            leaves[name] = x * (rng.random(x.shape) < 0.5).astype(real)  # zeros have no size of their own
    data = {
        "units": units,
        # Not scalars: those would stand in the program itself, which would then be another one for each number.
        "scales": (10.0 ** rng.integers(-2, 3, size=(outputs, 1))).astype(real),
        "weights": rng.normal(size=(outputs, 64)).astype(real),
    }
    return Program(number, shared, leaves, data)


def _unit(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Of a whole leaf, or, more rarely, of each component."""
    if rng.random() < 0.25:
        return 10.0 ** rng.integers(-8, 9, size=shape)
    return np.full(shape, 10.0 ** rng.integers(-8, 9))


def in_64(p: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: x.astype(np.complex128 if np.iscomplexobj(x) else np.float64) for k, x in p.items()}


def _tame(made: Program) -> bool:
    if not _runs(made):
        return False
    value, grads = made.gradient()
    grads = list(grads.values())
    reach = [float(np.linalg.norm(g * x)) for g, x in zip(grads, made.leaves.values(), strict=True)]
    size = max(reach)
    return bool(abs(value) < LARGEST and 1 / LARGEST < size < LARGEST and all(r > LEAST * size for r in reach))


def _runs(made: Program) -> bool:
    """Whether the right gradient is right as run, too: it may overflow on the way in float32, and is wrong then."""
    if made.dtype == "float64":
        return True
    with jax.enable_x64(False):
        as_run = made.structure.pulled(
            {k: jnp.asarray(x) for k, x in made.leaves.items()}, made.data, np.ones(made.outputs, np.float32)
        )[1]
        as_run = {k: np.asarray(x) for k, x in as_run.items()}
    right = made.gradient()[1]
    return all(np.linalg.norm(as_run[k] - g) <= RUNS * np.linalg.norm(g) for k, g in right.items())
