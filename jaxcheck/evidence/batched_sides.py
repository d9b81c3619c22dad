"""At which of many points the gradient under test is that of a smooth piece next to the point: on kinks, where it
may differ from autodiff's choice. One program for all; what it cannot confirm is left to a check of the point alone.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.bars import MUST_CATCH
from jaxcheck.evidence import sides, sketch
from jaxcheck.evidence.differences import Ladder, Slopes, slopes
from jaxcheck.problem.at_theta import gradient_of, outputs_of
from jaxcheck.problem.problem import Problem
from jaxcheck.program.run.compile import execute
from jaxcheck.there import there

# Fine enough for one-sided slopes that are compared with a gradient's.
RUNGS = Ladder(first=1e-2, ratio=8.0, count=6)


def adjacent(problem: Problem, points: np.ndarray, rtol: float, seed: int) -> tuple[np.ndarray, int, int]:
    """(which of the points (n, P), evaluations, programs compiled).

    Args:
        rtol: what a component may be off by beside the round-off, relative.
    """
    n, size = points.shape
    scale = np.stack(
        [
            np.concatenate([sketch.own_scale(x[leaf.start : leaf.stop], 1e-2) for leaf in problem.theta.leaves])
            for x in points
        ]
    )
    rng = np.random.default_rng([seed, 23])
    scale *= rng.uniform(0.5, 1.5, size)
    signs = rng.choice([-1.0, 1.0], size)
    # Padded to a power of two, so that the next batch finds this one's program.
    rows = np.minimum(np.arange(1 << int(np.ceil(np.log2(n)))), n - 1)
    programs = [there(t).program for t in (problem.primal, problem.manual, problem.autodiff)]
    with jax.enable_x64(True):
        out, compiled = execute(
            ("adjacent", len(rows), rtol, tuple(problem.theta.leaves)),
            _program(problem, rtol),
            programs,
            points[rows],
            scale[rows],
            signs,
            tuple(problem.extras),
            RUNGS.offsets,
            work=problem.cost * len(rows) * 30,
            keep=True,
        )
    m, a, found, way, samples = (np.asarray(x)[:n] for x in out)
    near, beside = found[:, :4], found[:, 4:]
    with np.errstate(all="ignore"):
        pieces = 2 * near[:, :2] - near[:, 2:]
        error = np.abs(near[:, 2:] - near[:, :2]) + 16 * problem.unit * np.abs(near[:, :2])
    sure = _confirmed(pieces, error, way, slopes(samples.T, RUNGS, problem.unit))
    with np.errstate(all="ignore"):
        pieces = sides.meeting(pieces, beside, a[:, None])
    right = [
        sides.between(m[k][None], pieces[k, 0][None], pieces[k, 1][None], error[k].max(axis=0)[None], rtol)
        for k in range(n)
    ]
    return sure & np.array(right), n * (len(RUNGS.offsets) + 8), compiled


def _program(problem: Problem, rtol: float) -> Callable:
    """What is run at points: (M, A, A at six steps along a way, that way, values along it)."""
    near, beside = max(sides.NEAR, sides.ROOTS * np.sqrt(problem.unit)), sides.AT * problem.resolution

    def build(programs, points, scales, signs, extras, offsets):
        primal, manual, autodiff = programs

        def gradient(x):
            return gradient_of(problem, there(problem.autodiff), autodiff, x, extras)[0]

        def at(where):
            x, scale = where
            m, a = gradient_of(problem, there(problem.manual), manual, x, extras)[0], gradient(x)
            apart = jnp.abs(m - a) > rtol * jnp.maximum(jnp.abs(m), jnp.abs(a))
            first = jnp.where(apart, jnp.sign(m - a), signs) * scale
            bends = (gradient(x + near * first) - gradient(x - near * first)) * first
            # Up the gradient where the function is convex, down where it is concave.
            way = first * jnp.where(apart, jnp.sign(bends), 1.0)
            steps = jnp.array([near, -near, 2 * near, -2 * near, beside, -beside])
            found = jax.lax.map(lambda t: gradient(x + t * way), steps)
            samples = jax.lax.map(lambda t: outputs_of(problem, primal, x + t * way, extras)[0], offsets)
            return m, a, found, way, samples

        return jax.lax.map(at, (points, scales))

    return build


def _confirmed(pieces: np.ndarray, error: np.ndarray, way: np.ndarray, along: Slopes) -> np.ndarray:
    """(n,) whether the function's own slopes on both sides are those of the pieces' gradients (n, 2, P)."""
    with np.errstate(all="ignore"):
        said = np.einsum("nsp,np->sn", pieces, way)
        doubt = np.einsum("nsp,np->sn", error, np.abs(way))
        size = np.sqrt(np.einsum("nsp,np->sn", pieces**2, way**2))
        seen, seen_error = np.stack([along.right, along.left]), np.stack([along.right_error, along.left_error])
        sure = (np.abs(said - seen) <= sides.BARS * (seen_error + doubt) + sides.ALIKE * size).all(axis=0)
        return sure & (seen_error <= MUST_CATCH * size.max(axis=0)).all(axis=0) & np.isfinite(pieces).all(axis=(1, 2))
