"""Functions that JAX cannot trace: called on plain numbers, row by row."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.budget import current
from jaxcheck.problem.guarded import Guarded, gradient
from jaxcheck.problem.repeat import differ
from jaxcheck.problem.scale import component_scale
from jaxcheck.problem.user import StructureError, User, check_scalar, first_line, real_rows
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.mode import as_jax, is_wide
from jaxcheck.tracebacks import note


class Wide:
    """A function of the caller's, called in the 64-bit mode of JAX with float64 numbers; from the first time on that it
    works in the caller's own mode and dtypes alone, in those: it may hold NumPy data that JAX remembers from there, or
    write its results into arrays of its own.

    Attributes:
        works: whether it is called in the 64-bit mode.
    """

    def __init__(self, run: Callable[[np.ndarray, bool], Any], works: bool = True):
        """`run` is given theta, and whether its numbers are to be float64; `works` as far as is known."""
        self._run, self._own, self.works = run, is_wide(), works

    def __call__(self, vector: np.ndarray) -> Any:
        if self.works:
            try:
                with jax.enable_x64(True):
                    return self._run(vector, True)
            except (jax.errors.JaxRuntimeError, TypeError, ValueError):
                pass  # tried again as the caller would call it; what is wrong with the function is raised there
        with jax.enable_x64(self._own):
            value = self._run(vector, False)
        self.works = False
        return value


def loss_on_host(user: User, why: BaseException) -> tuple[Guarded, bool, float]:
    """(function of the real vector theta, whether two calls agree, rounding unit of its values).

    Raises:
        Whatever the loss raises when it is called as the caller would, with a note.
    """

    def primal(vector, wide):
        value = user.value(user.host_leaves(user.theta, vector, wide), user.wide_args(wide))
        check_scalar(value)
        return float(np.asarray(value))

    current().ask()
    with note("raised while loss(params, *args) was evaluated at the point of the check"):
        check_scalar(user.value(user.fresh(), user.fresh_args()))

    def timed(vector):
        clock.ask()
        start = time.perf_counter()
        value = run(vector)
        clock.row_seconds = time.perf_counter() - start
        return value

    point, clock, run = user.theta.ravel(), current(), Wide(primal)
    with note(f"raised by loss in float64, after it could not be traced by JAX ({first_line(why)})"):
        one, two = timed(point), timed(point)
    unit = float(np.finfo(np.float64 if run.works else np.float32).eps)
    unit = max(unit, _pinned(timed, point), _rounded_inside(timed, point))
    return Guarded(run, point), not differ(np.array([one]), np.array([two]), unit), unit


def _pinned(run: Callable, point: np.ndarray) -> float:
    """The rounding unit of a coarser dtype to which all values near the point belong, 0 where they do not: a loss that
    rounds its parameters inside moves in steps, whatever it is given; and one that does not move at all may be too
    coarse for it beside an offset, unless it shows farther away that it is not: at last by 1, for what is all but zero
    has no size to speak of."""
    rng, size, values = np.random.default_rng(point.size), component_scale(point, 0.0), np.zeros(1)
    for turn, far in enumerate((*(far * size for far in BESIDE), np.maximum(BESIDE[-1] * size, 1.0))):
        try:
            with np.errstate(all="ignore"):
                found = [ask(run, point + far * rng.uniform(-1, 1, point.size)) for _ in range(4)]
        except Refused:
            break
        if not np.isfinite(found).all():
            break
        values = np.array(found)
        if np.ptp(values):
            if turn and _short(values):
                return 0.0
            break
    with np.errstate(over="ignore"):
        coarse = [d for d in (np.float16, np.float32) if (values.astype(d).astype(np.float64) == values).all()]
    return float(np.finfo(coarse[0]).eps) if coarse and values.any() else 0.0


def _short(values: np.ndarray) -> bool:
    """Whether values have fewer digits than any dtype rounds to: they are counted, not rounded."""
    digits, _ = np.frexp(values)
    return bool((np.ldexp(digits, DIGITS) % 1 == 0).all())


def _rounded_inside(run: Callable, point: np.ndarray) -> float:
    """The rounding unit of a coarser dtype in which the loss computes before it gives a float64, 0 where none shows:
    what is moved by far less than that unit does not move it at all, by so much that float64 would show it."""
    rng = np.random.default_rng([point.size, 1])
    signs = rng.choice([-1.0, 1.0], (DRAWS, point.size)) * rng.uniform(0.5, 1.0, (DRAWS, point.size))

    def odd(size: float) -> np.ndarray:
        return np.array([ask(run, point * (1 + size * s)) - ask(run, point * (1 - size * s)) for s in signs])

    try:
        # The odd part of the moves is linear but for its cube.
        here, moved, found = abs(ask(run, point)), np.abs(odd(MOVED)), 0.0
        for dtype in (np.float32, np.float16):
            unit = float(np.finfo(dtype).eps)
            still, expected = odd(STILL * unit), moved * STILL * unit / MOVED
            # Of many numbers one may be rounded otherwise even so; a float64 would move in every draw.
            swallowed = (still == 0) & (expected > SHOWS * np.finfo(np.float64).eps * here)
            if swallowed.sum() <= DRAWS // 2:
                return found
            found = unit
    except Refused:
        return 0.0
    return found


def autodiff_on_host(user: User) -> tuple[Callable | None, str]:
    """(jax.grad of the loss as a function of theta, why not)."""

    def autodiff(vector):
        with jax.enable_x64(True):
            leaves = [as_jax(x) for x in user.host_leaves(user.theta, vector)]
            return real_rows(user.theta, jax.grad(lambda xs: user.value(xs, user.wide_args()))(leaves))

    try:
        ask(autodiff, user.theta.ravel())
    except Refused as no:
        return None, f"the loss cannot be differentiated by JAX ({type(no.error).__name__})"
    return gradient(autodiff, user.theta.ravel()), ""


# Draws of signs, a move in units of a dtype by which nothing is rounded otherwise in it, a relative one of many units
# in any, and how many float64 units of the value a move must have to show.
DRAWS, STILL, MOVED, SHOWS = 3, 0.001, 0.03, 64.0
# How far the points lie, relative, at which it is seen to what dtype a loss rounds its values, farther where it does
# not move; and the binary digits of numbers that are counted.
BESIDE, DIGITS = (1e-2, 1.0, 1e2), 8
# Neighbours, a spacing away in every number, over which a gradient as the caller gets it is seen to scatter.
NEIGHBOURS = 4


def once_more(user: User) -> np.ndarray:
    """(1, P) the gradient as the caller gets it, at the point of the check. Raises Refused."""
    return native_of(user, user.fresh(), user.fresh_args())


def scatter(user: User, native: np.ndarray, seed: int = 0) -> np.ndarray:
    """(1, P) how far the gradient in the caller's own dtypes moves when parameters and arguments do by a spacing each,
    up or down at random: what rounding does to it where nobody can look inside. Infinite where it cannot be had."""
    rng, found = np.random.default_rng(seed), np.zeros_like(native)

    def spacing(value: np.ndarray) -> np.ndarray:
        return np.float64(jnp.finfo(value.dtype).eps) * rng.choice([-1.0, 1.0], value.shape) * value

    try:
        with np.errstate(all="ignore"):
            for _ in range(NEIGHBOURS):
                there = native_of(user, _moved(user.fresh(), spacing), _moved(user.fresh_args(), spacing))
                found = np.fmax(found, np.abs(there - native))
    except Refused:
        return np.full_like(native, np.inf)
    return found


def fallen_otherwise(user: User, wide: Callable[[np.ndarray], Any], seed: int = 0) -> np.ndarray:
    """(1, P) the same where a spacing is too little to make a rounding inside fall otherwise: how the distance of the
    gradient as it is run from `wide`, the one in float64, scatters over points near by. What is the same at all of them
    is no rounding. Zero where it cannot be had."""
    rng, off = np.random.default_rng([seed, 1]), []

    def near(value: np.ndarray) -> np.ndarray:  # zeros, too
        scale = component_scale(np.abs(value).astype(np.float64).ravel(), 0.0).reshape(value.shape)
        return BESIDE[0] * rng.uniform(-1, 1, value.shape) * scale

    with contextlib.suppress(Refused), np.errstate(all="ignore"):
        for _ in range(NEIGHBOURS):
            leaves = _moved(user.fresh(), near)
            point = user.theta.ravel(leaves)  # before the function may write into them
            off.append(native_of(user, leaves, user.fresh_args()) - wide(point))
        return np.abs(off - np.mean(off, axis=0)).max(axis=0)
    return np.zeros((1, user.theta.size))


def native_of(user: User, leaves: list[Any], args: list[Any]) -> np.ndarray:
    """(1, P) the gradient as it is run on these leaves and arguments."""
    current().ask()
    return real_rows(user.theta, ask(user.gradient, leaves, args)[0])


def _moved(leaves: list[Any], step: Callable[[np.ndarray], np.ndarray]) -> list[Any]:
    """Each of its own kind and dtype."""
    out = []
    for x in leaves:
        value = np.asarray(x)
        value = (value + step(value)).astype(value.dtype)
        out.append(as_jax(value) if isinstance(x, jax.Array) else value if hasattr(x, "dtype") else x)
    return out


def gradient_on_host(user: User, why: BaseException | None, wide: bool = True) -> tuple[Callable, list[Any], str]:
    """(gradient as a function of theta, gradient as the caller gets it, leaf by leaf, note).

    Args:
        wide: whether the loss, as far as is known, can be called in the 64-bit mode.

    Raises:
        StructureError: the gradient's structure is wrong.
        Whatever the gradient function raises, with a note.
    """
    tail = f"; tracing it said: {first_line(why)}" if why is not None else ""
    with note(f"raised while grad(params, *args) was called at the point of the check{tail}", but=StructureError):
        picked, said = user.gradient(user.fresh(), user.fresh_args())

    def arguments(vector: np.ndarray, wide: bool) -> tuple[list[Any], list[Any]]:
        return user.host_leaves(user.theta, vector, wide), user.wide_args(wide)

    before = Wide(lambda vector, wide: user.value(*arguments(vector, wide)), wide)
    # NumPy's may well be in float64 where the loss, which is JAX's, cannot be called so.
    manual = Wide(
        lambda vector, wide: real_rows(user.theta, user.gradient(*arguments(vector, wide), lambda: before(vector))[0])
    )
    return gradient(manual, user.theta.ravel()), picked, said


def hands_out(user: User, gradient: Callable, native: np.ndarray) -> np.ndarray:
    """(P,) which leaves of a gradient are the numbers that the caller gets, in whatever precision and wherever it is
    asked for, as those of `lambda params: numbers` are: they tell of no rounding by how they move."""
    point = user.theta.ravel()
    signs = np.random.default_rng(point.size).choice([-1.0, 1.0], point.size)
    beside = point + BESIDE[0] * component_scale(point, 0.0) * signs
    same = ((gradient(point) == native) & (gradient(beside) == native)).all(axis=0)
    return np.concatenate([np.full(x.stop - x.start, same[x.start : x.stop].all()) for x in user.theta.leaves])
