"""Slopes of projections, made of those of the outputs that they weigh; and of tangents that are known."""

from __future__ import annotations

import numpy as np

from jaxcheck.bars import BARS
from jaxcheck.evidence.differences import Slopes
from jaxcheck.formula import norms_along


def transposed(s: Slopes) -> Slopes:
    """Slopes (D, m) as those of m single components under D columns."""
    return s.each(lambda x: np.swapaxes(x, 0, 1))


def projected(s: Slopes, g: np.ndarray) -> Slopes:
    """Slopes (D, G) along D directions of g @ f, from the slopes (D, m) of f's outputs.

    Args:
        g: (G, m). A projection is known where each output is that it weighs. On kinks of several outputs any choice
            of slopes may be right: the range is that of their sum.
    """
    weight, weighs = np.abs(g), (g != 0).astype(float)
    usable = np.isfinite(s.value) & np.isfinite(s.error) & ~s.jump

    def any_of(what: np.ndarray) -> np.ndarray:
        return what.astype(float) @ weighs.T > 0

    def known(x: np.ndarray) -> np.ndarray:
        return np.where(usable & np.isfinite(x), x, 0.0)

    def in_squares(x: np.ndarray) -> np.ndarray:
        return norms_along(known(x), g)

    kink = s.kink & usable
    middle = np.where(kink, 0.5 * (known(s.left) + known(s.right)), known(s.value))
    half = np.where(kink, 0.5 * np.abs(known(s.left) - known(s.right)), 0.0) @ weight.T
    error = in_squares(np.where(kink, 0.0, s.error))
    sided = error + np.where(kink, np.maximum(known(s.left_error), known(s.right_error)), 0.0) @ weight.T
    dark = any_of(~usable)
    value = np.where(dark, np.nan, middle @ g.T)
    # By how much an output moves that scatters, at most; by how much one that does not.
    scatters = np.isfinite(s.steepest)
    most = np.where(scatters, s.steepest, np.abs(known(s.value)) + BARS * known(s.error))
    error, rough = (np.where(dark, np.inf, x) for x in (error, in_squares(s.rough)))
    size, reach, noise, span = (known(x) @ weight.T for x in (s.size, s.reach, s.noise, s.span))
    kinked, one_sided, noisy, wakes = (any_of(x & usable) for x in (kink, s.one_sided, s.noisy, s.wakes))
    slope, flags = (value, error, value - half, sided, value + half, sided), (kinked & (half > 0), any_of(s.jump))
    quotients = np.einsum("dmk,gm->dgk", s.quotients, g)
    steepest = np.where(any_of(scatters & usable), known(most) @ weight.T, np.inf)
    return Slopes(*slope, *flags, one_sided, rough, noisy, size, quotients, reach, noise, steepest, span, wakes)


def exact(value: np.ndarray, error: np.ndarray) -> Slopes:
    """Slopes that are known to their error bars, from elsewhere than a ladder."""
    no, none = np.zeros(value.shape, bool), np.zeros((*value.shape, 0))
    size, far = np.abs(value), np.full(value.shape, np.inf)
    return Slopes(
        value, error, value, error, value, error, no, no, no, error, no, size, none, size, error, far, size, no
    )
