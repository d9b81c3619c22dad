"""Gathers the three witnesses at one point: M (under test), N (differences), A (autodiff).

Everything is in the real view: a leaf is a vector of n real numbers (a complex leaf gives its real
parts, then its imaginary parts), a gradient is d output / d that vector, and G outputs ("columns",
1 for a loss) are handled at once. JAX's gradient of a complex leaf is dJ/dx - i dJ/dy.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence import rows
from jaxcheck.evidence.differences import EPS, Ladder, Slopes
from jaxcheck.evidence.sketch import units
from jaxcheck.known import known
from jaxcheck.program.compile import execute
from jaxcheck.program.objective import Traced, call
from jaxcheck.theta import Leaf, Theta


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What is checked, ready to run.

    `primal`, `manual`, `autodiff` are traced programs of (leaves, extras), or None; the `host_*` twins
    are Python functions of the real vector theta for code that JAX cannot trace. `numbers` is a
    gradient given as data. `columns` is G.
    """

    theta: Theta
    extras: tuple[Any, ...]
    primal: Traced | None
    manual: Traced | None
    autodiff: Traced | None
    columns: int = 1
    numbers: np.ndarray | None = None
    host_primal: Callable | None = None
    host_manual: Callable | None = None
    host_autodiff: Callable | None = None
    host_unit: float = EPS
    is_autodiff: bool = False  # M is jax.grad itself, without a rule of the user's
    numbers_unit: np.ndarray | None = None  # rounding unit of each given number, (P,)
    numbers_bar: np.ndarray | None = None  # what rounding did to autodiff in their precision, where measured, (1, P)
    at_limit: bool = False  # loops that stop at a tolerance are run on

    @property
    def cost(self) -> float:
        return self.primal.program.cost if self.primal else 1e5

    @property
    def sharp(self) -> bool:
        """Whether the gradient and autodiff are programs in float64, and that is the caller's own precision."""
        programs = (self.manual, self.autodiff)
        return all(t is not None and t.how == "float64" and not t.rounded for t in programs) and all(
            leaf.native in ("float64", "complex128") for leaf in self.theta.leaves)

    @property
    def loss(self) -> Traced:
        """The primal of a problem that is known to have been traced."""
        return known(self.primal)

    @property
    def unit(self) -> float:
        return self.primal.unit if self.primal else self.host_unit

    @property
    def resolution(self) -> float:
        """Rounding unit of the coarsest that looks at the point: the function, or what gave the gradient as numbers."""
        return self.unit if self.numbers_unit is None else max(self.unit, float(np.max(self.numbers_unit, initial=0.0)))


@dataclasses.dataclass(frozen=True, eq=False)
class Probes:
    """Differences along D directions of one leaf.

    Attributes:
        slopes: arrays (D, G), derivatives along the directions.
        directions: (D, n), or None when every direction is one component.
        indices: (D,) components, when `directions` is None (slopes are then per unit of the component).
        crossed: (D,) something is decided at the point, see `smooth.Pieces`; None where that is not known.
        analytic: (D,) the smallest steps are known to see one analytic formula, enough of them; None likewise.
    """

    slopes: Slopes
    directions: np.ndarray | None = None
    indices: np.ndarray | None = None
    crossed: np.ndarray | None = None
    analytic: np.ndarray | None = None

    @property
    def along(self) -> np.ndarray:
        """The directions of probes that are known to have them."""
        return known(self.directions)

    @property
    def at(self) -> np.ndarray:
        """The components of probes that are known to be of single ones."""
        return known(self.indices)

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
            return np.sqrt(self.directions**2 @ (error**2).T)


@dataclasses.dataclass(frozen=True, eq=False)
class LeafEvidence:
    """What the witnesses say of one leaf: gradients and bars (G, n); `a` is None without autodiff.

    `m_given` (G, n) is the rounding of a gradient that was given as numbers; `is_autodiff` says that M
    is JAX's own derivative of the program, no rule of the user's in it; `measured` that the bars of M and A are
    measured round-off. `stopped` is M as its loops stop, where `m` is M with them run on. `pieces` are the least and
    the largest gradient on the smooth pieces that meet at the point, and where those differ, each (G, n).
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

    @functools.cached_property
    def unit_sizes(self) -> np.ndarray:
        """(n,) the size of each component's unit (see `sketch.units`)."""
        return units(self.values)

    @functools.cached_property
    def unit_sizes_of_zeros(self) -> np.ndarray:
        """The same with zeros counted among the largest unit."""
        return units(self.values, "largest")


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """All leaves, with the outputs (G,) at the point and what was spent; `sharpened` counts the slopes
    that came from the path integral."""

    outputs: np.ndarray
    leaves: tuple[LeafEvidence, ...]
    repeatable: bool
    evaluations: int
    compiled: int
    sharpened: int = 0


def real_gradient(leaf: Leaf, gradient: Any, xp: Any = jnp) -> Any:
    """(G, *shape) in JAX's convention to (G, n) in the real view."""
    flat = gradient.reshape(gradient.shape[0], -1)
    if not leaf.is_complex:
        return flat.real if xp.iscomplexobj(flat) else flat
    return xp.concatenate([flat.real, -flat.imag], axis=1)


def outputs_of(problem: Problem, program: Any, vector: Any, extras: Sequence[Any]) -> Any:
    """(G,) outputs at a traced real vector theta."""
    out = call(program, problem.loss.program.closed.in_avals, [*problem.theta.unravel(vector), *extras])[0]
    return out.reshape(-1).astype(jnp.float64)


def gradient_of(problem: Problem, traced: Traced, program: Any, vector: Any, extras: Sequence[Any]) -> Any:
    """(G, P) gradient at a traced real vector theta."""
    out = call(program, traced.program.closed.in_avals, [*problem.theta.unravel(vector), *extras])
    parts = [
        real_gradient(leaf, g.reshape(problem.columns, *leaf.shape)).astype(jnp.float64)
        for leaf, g in zip(problem.theta.leaves, out, strict=True)
    ]
    return jnp.concatenate(parts, axis=1)


def nearby(point: np.ndarray, seed: int, unit: float) -> np.ndarray:
    """(4, P): the point, the point again, and two neighbours a few rounding units away.

    A gradient's scatter over the neighbours is its round-off: inputs that differ by rounding alone
    should give results that differ by rounding alone (backward error; Higham 2002, section 1.5).
    """
    noise = _signs(seed, point.size) * (4 * unit)
    with np.errstate(all="ignore"):
        return np.concatenate([point[None], point[None], point * (1 + noise)])


def measure(problem: Problem, point: np.ndarray, directions: np.ndarray, ladder: Ladder, seed: int, *,
            gradients: bool = True):
    """Run the witnesses at `point`: the ladder along every direction, M and A at the point and beside it.

    Returns:
        (samples (T, D, G), M (4, G, P) or None, A likewise, programs compiled).
    """
    if problem.primal is None:
        return _measure_host(problem, point, directions, ladder, seed, gradients)
    traced = [t for t in (problem.manual, problem.autodiff) if gradients and t is not None]
    count = len(directions) * len(ladder.offsets)
    chunk = rows.chunk_of(problem.loss.program, count)

    def build(programs, points, extras, directions, offsets):
        primal, *rest = programs
        samples = rows.sample(lambda x: outputs_of(problem, primal, x, extras), points[0], directions, offsets, chunk)
        grads = [jax.lax.map(lambda x, t=t, p=p: gradient_of(problem, t, p, x, extras), points)
                 for t, p in zip(traced, rest, strict=True)]
        return samples, grads

    with jax.enable_x64(True):
        name = ("measure", chunk, problem.columns, tuple(problem.theta.leaves))
        (samples, grads), compiled = execute(
            name, build, [problem.loss.program, *(t.program for t in traced)],
            nearby(point, seed, problem.unit) if gradients else point[None], tuple(problem.extras), directions,
            ladder.offsets, work=problem.cost * count,
        )
        samples = np.asarray(samples)
        grads = [np.asarray(g) for g in grads]
    m = grads.pop(0) if gradients and problem.manual is not None else None
    a = grads.pop(0) if gradients and problem.autodiff is not None else None
    if gradients and m is None and problem.host_manual is not None:
        m = np.stack([problem.host_manual(x) for x in nearby(point, seed, problem.unit)])
    return samples, m, a, compiled


def gradients(problem: Problem, point: np.ndarray, seed: int):
    """M and A at the point, and their scatter beside it, with no array of more than a few times P.

    Returns:
        (outputs (G,), one entry for each of M and A: (gradient (G, P), scatter (G, P), whether a second run gave the
        same) or None, programs compiled).
    """
    traced = [t for t in (problem.manual, problem.autodiff) if t is not None]

    def build(programs, point, signs, extras, step):
        primal, *rest = programs

        def witness(t, p):
            first = gradient_of(problem, t, p, point, extras)

            def turn(carried, sign):
                spread, same = carried
                # The first row of signs is zero: the point again.
                found = gradient_of(problem, t, p, point * (1 + step * sign.astype(point.dtype)), extras)
                again = jnp.all((found == first) | (jnp.isnan(found) & jnp.isnan(first)))
                return (jnp.maximum(spread, jnp.abs(found - first)), same & (again | jnp.any(sign != 0))), None

            (spread, same), _ = jax.lax.scan(turn, (jnp.zeros_like(first), jnp.bool_(True)), signs)
            return first, spread, same

        return outputs_of(problem, primal, point, extras), [
            witness(t, p) for t, p in zip(traced, rest, strict=True)]

    signs = np.concatenate([np.zeros((1, point.size), np.int8), _signs(seed, point.size)])
    with jax.enable_x64(True):
        (outputs, found), compiled = execute(
            ("gradients", problem.columns, tuple(problem.theta.leaves)), build,
            [problem.loss.program, *(t.program for t in traced)], point, signs, tuple(problem.extras),
            4 * problem.unit, work=4 * problem.cost)
        found = [(np.asarray(g), np.asarray(spread), bool(same)) for g, spread, same in found]
    m = found.pop(0) if problem.manual is not None else None
    a = found.pop(0) if problem.autodiff is not None else None
    if m is None and problem.host_manual is not None:
        stack = np.stack([problem.host_manual(x) for x in nearby(point, seed, problem.unit)])
        with np.errstate(all="ignore"):
            m = (stack[0], np.abs(stack[2:] - stack[0]).max(axis=0), np.array_equal(stack[0], stack[1], equal_nan=True))
    return np.asarray(outputs), m, a, compiled


def _signs(seed: int, size: int) -> np.ndarray:
    """(2, size) of +1 and -1, for the two neighbours."""
    return np.random.default_rng([seed, 7]).integers(0, 2, (2, size), dtype=np.int8) * np.int8(2) - np.int8(1)


def _measure_host(problem, point, directions, ladder, seed, gradients):
    samples = rows.sample_host(problem.host_primal, point, directions, ladder.offsets)
    points = nearby(point, seed, problem.unit)
    m = a = None
    if gradients and problem.host_manual is not None:
        m = np.stack([problem.host_manual(x) for x in points])
    if gradients and problem.host_autodiff is not None:
        a = np.stack([problem.host_autodiff(x) for x in points])
    return samples, m, a, 0
