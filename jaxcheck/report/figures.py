"""The figures of a report as SVG, each with its caption: V-curve, Taylor test, heat map, scatter."""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxcheck.report import numbers, series, svg
from jaxcheck.result import Component, Curve, Grid, Report, Sample

_WITNESS = {"M": "M", "A": "A", "N": "N, extrapolated"}
_CSS = {"M": "manual", "A": "autodiff", "N": "numeric"}
# A heat map goes so many decades below its largest number, at least and at most.
LEAST, MOST = 2, 8
# Differences that never come nearer than this, relative to the derivative, do not settle.
FAR = 0.01


class Figure(NamedTuple):
    """`svg` is markup; the caption is plain text, with names in backquotes."""

    kind: str
    title: str
    svg: str
    caption: str


def v_curve(curve: Curve) -> Figure | None:
    found = series.errors(curve)
    points = [p for line in found.lines for p in line.points]
    if not points:
        return None
    unit = "relative error" if found.relative else "error"
    chart = svg.Chart(
        svg.decades((h for h, _ in points), "step"),
        svg.decades([y for _, y in points], f"{unit} of (f(+t) − f(−t)) / 2t"),
        f"V-curve of {curve.name}",
    )
    if found.smooth is not None:
        chart.band(*found.smooth, "smooth", "smooth" if found.known else "looks smooth")
    for line in reversed(found.lines):
        chart.line(line.points, _CSS[line.name])
        chart.marks(
            line.points, _CSS[line.name], [f"step {h:.3g}: {numbers.small(y)} from {line.name}" for h, y in line.points]
        )
    for line in found.lines:
        chart.key("line", _CSS[line.name], f"from {_WITNESS[line.name]}")
    return Figure("v-curve", "V-curve", chart.render(), _told(curve, found))


def _told(curve: Curve, found: series.Errors) -> str:
    """What the curve shows, in words."""
    best = {line.name: min(y for _, y in line.points) for line in found.lines}
    first, last = found.lines[0].name, found.lines[-1].name
    shown = f"`{curve.name}`: centred differences come within {numbers.small(best[last])} of {last}"
    if best[last] >= FAR:
        return f"`{curve.name}`: centred differences come no nearer to {last} than {numbers.small(best[last])}."
    if first == last:
        return shown + "."
    if best[first] > 100 * best[last]:
        return f"{shown}; from {first} they stay {numbers.small(best[first])} away at every step."
    return f"{shown}, and within {numbers.small(best[first])} of {first}."


def taylor(curve: Curve) -> Figure | None:
    found = series.remainders(curve)
    points = [p for line in found.lines for p in line.points]
    if not points:
        return None
    chart = svg.Chart(
        svg.decades((h for h, _ in points), "step"),
        svg.decades([y for _, y in points], "|f(x + t v) − f(x) − t d|"),
        f"Taylor test of {curve.name}",
    )
    if found.noise > chart.y.low:
        chart.below(found.noise, "noise", "rounding")
    for line in reversed(found.lines):
        css = _CSS[line.name] + ("" if line.side == "right" else " left")
        chart.line(line.points, css)
        chart.marks(line.points, css, [f"step {h:.3g}: {y:.3g}" for h, y in line.points], 2.5)
    for name in dict.fromkeys(line.name for line in found.lines):
        chart.key("line", _CSS[name], f"d by {_WITNESS[name]}")
    said = ", ".join(f"step^{order:.2f} for {name}" for name, order in found.orders)
    caption = f"`{curve.name}`: what is left of f when its slope is taken off"
    caption += f" falls as {said}; the power is 2 or more where the slope is right, 1 where not" if said else ""
    return Figure("taylor", "Taylor test", chart.render(), caption + ". Dashed: the other side of the point.")


def heat(grid: Grid) -> Figure | None:
    known = [v for v in grid.values if math.isfinite(v)]
    top = max(known, default=0.0)
    if not top > svg.TINY:  # nothing is off, or nothing is known
        return None
    high = top
    low = min((v for v in known if v > 0), default=high)
    low = min(max(low, high * 10.0**-MOST), high * 10.0**-LEAST)
    said = f"|M − {grid.witness}| of {grid.path}, {grid.shape[0]} by {grid.shape[1]}"
    picture = svg.heat(grid.values, grid.rows, grid.columns, said, grid.shape, low, high)
    largest = f"at most {numbers.small(top)}, where |{grid.witness}| is at most {numbers.small(grid.scale)}"
    coarse = f"; a cell is the largest of {_cell(grid)}" if (grid.rows, grid.columns) != tuple(grid.shape) else ""
    return Figure(
        "heat",
        f"|M − {grid.witness}|",
        picture,
        f"`{grid.path}` as a matrix of {grid.shape[0]:,} by "
        f"{grid.shape[1]:,}: {largest}{coarse}. The scale is logarithmic.",
    )


def _cell(grid: Grid) -> str:
    down, across = (math.ceil(n / cells) for n, cells in zip(grid.shape, (grid.rows, grid.columns), strict=True))
    return f"{down} by {across} entries"


def scatter(sample: Sample, worst: tuple[Component, ...] = ()) -> Figure | None:
    """M against N (or A), with the components that disagree most marked."""
    name, found = series.pairs(sample)
    if len(found) < 2 or not any(x or y for x, y, _ in found):
        return None
    values = [v for x, y, _ in found for v in (x, y)]
    x, y = (svg.span(values, f"{axis}: {said}") for axis, said in ((name, _AXIS[name]), ("M", _AXIS["M"])))
    chart = svg.Chart(x, y, f"M against {name} of {sample.path}")
    chart.line([(x.low, x.low), (x.high, x.high)], "diagonal")
    chart.cloud([(x, y) for x, y, _ in found], "manual")
    marked = [(_real(c.numeric if name == "N" else c.autodiff), _real(c.manual), c) for c in worst]
    marked = [(a, b, c) for a, b, c in marked if math.isfinite(a) and math.isfinite(b)]
    chart.marks(
        [(a, b) for a, b, _ in marked],
        "worst",
        [f"{c.name}: M {numbers.value(c.manual)}, {name} {numbers.value(a)}" for a, _, c in marked],
        4,
    )
    chart.key("plain", "diagonal", f"M = {name}")
    chart.key("dots", "manual solid", numbers.count(len(found), "component"))
    if marked:
        chart.key("dots", "worst", "the worst")
    return Figure("scatter", f"M against {name}", chart.render(), f"Component by component of `{sample.path}`.")


_AXIS = {"M": "the gradient under test", "N": "differences", "A": "autodiff"}


def _real(value: complex) -> float:
    return value if isinstance(value, float) else math.nan


def of_leaf(report: Report, path: str, worst: tuple[Component, ...] = ()) -> tuple[list[Figure], list[Figure]]:
    """(the figures that the report holds of one leaf, those of further directions)."""
    pairs = [[v_curve(one), taylor(one)] for one in report.curves if one.path == path]
    sample = series.sample_of(report, path)
    first = [figure for pair in pairs[:1] for figure in pair]
    first += [heat(grid) for grid in report.grids if grid.path == path]
    first += [] if sample is None else [scatter(sample, worst)]
    more = [figure for pair in pairs[1:] for figure in pair]
    return [figure for figure in first if figure is not None], [figure for figure in more if figure is not None]
