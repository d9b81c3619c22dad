"""What is drawn of a report, as numbers: the same for SVG and matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxcheck.result import Curve, Report, Sample

# A log axis has no zero; what is exactly right is drawn here, below what float64 can tell apart.
EXACT = 1e-17
# An error that goes with the square of the step grows by no more than this, beyond the square, from step to step.
SLACK = 10.0


class Line(NamedTuple):
    """Points of one witness: `name` "M", "A" or "N"; `side` "right", "left" or ""."""

    name: str
    side: str
    points: tuple[tuple[float, float], ...]


class Errors(NamedTuple):
    """The V-curve: what centred differences are off by, step by step.

    Attributes:
        lines: for M, and for the best known truth.
        bar: that of N, in the same unit: relative to the derivative, absolute where that is zero.
        smooth: (smallest, largest step) of the smooth interval, or None. known: it is known by what the program
            decides; else it is where the errors look as those of a smooth function do.
    """

    lines: tuple[Line, ...]
    bar: float
    relative: bool
    smooth: tuple[float, float] | None
    known: bool


class Remainders(NamedTuple):
    """The Taylor test: |f(x + t v) - f(x) - t d|, for each claim d of the derivative, on both sides.

    Attributes:
        noise: of a value of the function, absolute: nothing below is a remainder.
        orders: (witness, the power of t with which its remainder falls), where that can be told.
    """

    lines: tuple[Line, ...]
    noise: float
    orders: tuple[tuple[str, float], ...]


def claims(curve: Curve) -> list[tuple[str, float]]:
    """(witness, its derivative along the curve): M first, last the one to go by. That is A, unless the differences
    know better or A is silent."""
    trusted = math.isfinite(curve.autodiff) and not abs(curve.autodiff - curve.numeric) > 10 * curve.error
    others = [("A", curve.autodiff)] if trusted else [("A", curve.autodiff), ("N", curve.numeric)]
    return [(who, value) for who, value in (("M", curve.manual), *others) if math.isfinite(value)]


def errors(curve: Curve) -> Errors:
    known = claims(curve)
    scale = max((abs(value) for _, value in known), default=0.0)
    relative, scale = scale > 0, scale or 1.0
    quotients = [(h, (r - l) / (2 * h)) for h, r, l in zip(curve.steps, curve.right, curve.left, strict=True) if h > 0]
    found = [
        Line(who, "", _finite((h, max(abs(q - claim) / scale, EXACT)) for h, q in quotients)) for who, claim in known
    ]
    lines = tuple(line for line in found if line.points)
    bar = curve.error / scale
    if not math.isnan(curve.smooth):
        smooth = (min(curve.steps), curve.smooth) if curve.smooth else None
        return Errors(lines, bar, relative, smooth, True)
    return Errors(lines, bar, relative, _looks_smooth(lines[-1].points, bar) if lines else None, False)


def _finite(points: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    return tuple((h, y) for h, y in points if math.isfinite(y))


def _looks_smooth(points: Sequence[tuple[float, float]], bar: float) -> tuple[float, float] | None:
    """The steps up to that at which the error no longer goes as that of a smooth function does."""
    found = sorted(points)
    if len(found) < 3:
        return None
    floor = max(bar if math.isfinite(bar) else 0.0, 1e3 * EXACT)
    # The error over the square of the step: it falls while rounding rules, then stays. One that is small by luck is
    # left out of the comparison.
    largest = found[-1][0]
    over = [max(y, floor) * (largest / h) ** 2 for h, y in found]
    high = next((k for k in range(2, len(found)) if over[k] > SLACK * sorted(over[:k])[1]), len(found)) - 1
    return found[0][0], found[high][0]


def remainders(curve: Curve) -> Remainders:
    lines, orders = [], []
    moved = max((abs(x) for x in (*curve.right, *curve.left) if math.isfinite(x)), default=0.0)
    floor = curve.noise if 0 < curve.noise < math.inf else EXACT * moved or EXACT
    for who, claim in claims(curve):
        every: list[tuple[float, float]] = []
        for name, side, sign in (("right", curve.right, 1.0), ("left", curve.left, -1.0)):
            points = _finite((h, abs(x - sign * h * claim)) for h, x in zip(curve.steps, side, strict=True) if h > 0)
            every += points
            if points:
                lines.append(Line(who, name, tuple((h, max(y, floor / 10)) for h, y in points)))
        order = _order([point for point in every if point[1] > 30 * floor])
        if not math.isnan(order):
            orders.append((who, order))
    return Remainders(tuple(lines), curve.noise, tuple(orders))


def _order(points: list[tuple[float, float]]) -> float:
    """The slope of a line through the smaller half of the steps, on log axes; NaN where there are too few."""
    steps = sorted({h for h, _ in points})
    if len(steps) < 3:
        return math.nan
    least = set(steps[: max(3, (len(steps) + 1) // 2)])
    logs = [(math.log(h), math.log(y)) for h, y in points if h in least]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread if spread else math.nan


def pairs(sample: Sample) -> tuple[str, list[tuple[float, float, int]]]:
    """("N" or "A", the (it, M, component) that are known of a sample): against N, where it was taken one by one."""
    for name, other in (("N", sample.numeric), ("A", sample.autodiff)):
        found = [
            (x, y, int(k))
            for x, y, k in zip(other, sample.manual, sample.components, strict=True)
            if math.isfinite(x) and math.isfinite(y)
        ]
        if found and (name == "A" or 2 * len(found) >= len(sample.manual)):
            return name, found
    return "N", []


def sample_of(report: Report, path: str) -> Sample | None:
    return next((one for one in report.samples if one.path == path), None)
