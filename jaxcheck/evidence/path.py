"""The path-integral witness, for programs that cannot run in float64.

By the fundamental theorem phi(h) - phi(-h) is the integral of phi' over [-h, h]; phi' is what the
gradient under test claims, M(theta + s v) . v. There is no truncation error, so h may be large and the
round-off of two function values is divided by it: far sharper than differences in low precision. It
tests the gradient on a segment, not at a point, and a kink on the way is integrated, not stumbled on.
Quadrature: Gauss-Legendre (Davis & Rabinowitz 1984, section 2.7), two orders for the error bar.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from jaxcheck.evidence import blocks
from jaxcheck.evidence.differences import Slopes
from jaxcheck.formula import norms_along
from jaxcheck.problem.at_theta import gradient_of, outputs_of
from jaxcheck.problem.problem import Problem
from jaxcheck.program.run.compile import execute
from jaxcheck.there import there

# How far the path goes to either side, relative to the scale of its direction, and the nodes of its two quadratures:
# five are exact to degree 9, and what the eight say otherwise is the error bar. Choices.
REACH = 0.1
COARSE, FINE = 5, 8


@dataclasses.dataclass(frozen=True, eq=False)
class Sharpened:
    """Slopes, how many of them were sharpened, and what that took."""

    slopes: Slopes
    count: int
    evaluations: int
    compiled: int


def sharpen(problem: Problem, point: np.ndarray, directions: np.ndarray, found: Slopes, m: np.ndarray) -> Sharpened:
    """Replace slopes by the path integral's where its bar is smaller: by M.v plus the mean of what the path says is
    missing, in the units of the slopes.

    Args:
        directions: (D, P); found: their slopes (D, G); m: (G, P), the gradient under test at the point.
    """
    nodes, weights = zip(np.polynomial.legendre.leggauss(COARSE), np.polynomial.legendre.leggauss(FINE), strict=True)
    (plus, minus, slope), compiled = _along(problem, point, directions, REACH * np.concatenate(nodes))
    with np.errstate(all="ignore"):
        coarse = np.einsum("s,dsg->dg", weights[0], slope[:, :COARSE])
        fine = np.einsum("s,dsg->dg", weights[1], slope[:, COARSE:])
        mean = fine / 2  # weights add up to 2
        measured = (plus - minus) / (2 * REACH)
        claimed = directions @ m.T
        value = claimed + measured - mean
        size = np.maximum(np.abs(plus), np.abs(minus))
        terms = norms_along(directions, m)
        error = np.abs(fine - coarse) / 2 + (2 * problem.unit * size + found.noise) / REACH + 4 * problem.unit * terms
        better = np.isfinite(error) & (error < found.error) & ~found.kink & ~found.jump
    sharp = dataclasses.replace(
        found,
        value=np.where(better, value, found.value),
        error=np.where(better, error, found.error),
        rough=np.where(better, error, found.rough),
        quotients=np.where(better[..., None], np.nan, found.quotients),
    )
    return Sharpened(sharp, int(better.sum()), len(directions) * (2 + COARSE + FINE), compiled)


def _along(
    problem: Problem, point: np.ndarray, directions: np.ndarray, places: np.ndarray
) -> tuple[list[np.ndarray], int]:
    """([values (D, G) at either end, slopes (D, S, G) at the places between], programs compiled)."""

    def build(programs, point, extras, directions, places):
        primal, manual = programs

        def along(v):
            ends = [outputs_of(problem, primal, point + s * v, extras) for s in (REACH, -REACH)]

            def slope(s):
                return gradient_of(problem, there(problem.manual), manual, point + s * v, extras) @ v

            return ends[0], ends[1], jax.lax.map(slope, places)

        return jax.lax.map(along, directions)

    with jax.enable_x64(True):
        programs, parts, compiled = [problem.loss.program, there(problem.manual).program], [], 0
        # One direction at a time where they take long: between calls the clock is looked at.
        alone = blocks.long(there(problem.manual).program, len(directions) * len(places))
        for some in np.split(directions, len(directions)) if alone else [directions]:
            found_here, new = execute(
                ("path", tuple(problem.theta.leaves)),
                build,
                programs,
                problem.place(point),
                tuple(problem.extras),
                problem.place(some),
                places,
                keep=True,
            )
            parts.append([np.asarray(x) for x in found_here])
            compiled += new
    return [np.concatenate(x) for x in zip(*parts, strict=True)], compiled
