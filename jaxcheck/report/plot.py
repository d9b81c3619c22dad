"""Report -> a matplotlib picture, fit for a paper: leaves, components, V-curve, Taylor test, heat map, points."""

from __future__ import annotations

import math
from typing import Any

from jaxcheck.report import grid, numbers, palette, series, tables
from jaxcheck.result import Report, Verdict

KINDS = ("leaves", "components", "v-curve", "taylor", "heat", "points")

_VERDICTS = {v: palette.LIGHT[v.value.lower()] for v in Verdict}
_WITNESSES = {"M": palette.LIGHT["fail"], "A": palette.LIGHT["second"], "N": palette.LIGHT["third"]}
# A log axis has no zero; an exact agreement is drawn here, below what float64 can tell apart.
_ZERO = 1e-18
# To the right of which the axis of differences does not begin.
_NARROWEST = 1e-8
_MOST = 40
# Beyond this, and below its inverse, matplotlib has no ticks.
_FAR = 1e60
# Characters of a name, in a title and beside an axis.
_TITLE, _BESIDE = 56, 34


def plot(report: Report, kind: str = "leaves", *, ax: Any = None, leaf: str | None = None, path: Any = None) -> Any:
    """Draw `report`; returns the matplotlib Axes. See `Report.plot`."""
    if kind not in KINDS:
        as_path = f"; to write a picture: path={kind!r}" if "." in str(kind) else ""
        raise ValueError(f"kind={kind!r}: use {', '.join(map(repr, KINDS[:-1]))} or {KINDS[-1]!r}{as_path}")
    if leaf is not None and kind in ("leaves", "points"):
        raise ValueError(f"leaf={leaf!r}: a plot of {kind} shows all of them; leave leaf out")
    if leaf is not None and leaf not in report:
        raise ValueError(f"leaf={leaf!r}: this report has {numbers.names(one.path for one in report.leaves)}")
    draw, held = _DRAWN[kind], _held(report, kind, leaf)
    tall = 1.5 + 0.3 * min(len(held), _MOST) if kind == "leaves" else 3.8
    axes = _axes(8 if kind == "leaves" else 5.6, tall, path is None) if ax is None else ax
    draw(axes, report, held)
    if path is not None:
        axes.figure.savefig(path)
    return axes


def _held(report: Report, kind: str, leaf: str | None) -> list[Any]:
    """What the report holds for this kind. Raises ValueError where that is nothing."""
    kept = {
        "leaves": report.leaves,
        "components": [s for s in report.samples if len(series.pairs(s)[1]) > 1],
        "v-curve": report.curves,
        "taylor": report.curves,
        "heat": report.grids,
        "points": report.points,
    }[kind]
    found = [one for one in kept if leaf is None or one.path == leaf]
    if found or kind == "leaves":
        return list(found)
    of = f" of `{leaf}`" if leaf is not None else ""
    if kept:
        raise ValueError(
            f"plot(kind={kind!r}): this report holds nothing{of} for it; it does of "
            f"{numbers.names(dict.fromkeys(one.path for one in kept))}"
        )
    raise ValueError(f"plot(kind={kind!r}): this report holds nothing{of} for it: {_WHY[kind]}")


_WHY = {
    "components": "no gradient of single components was kept",
    "v-curve": "no differences were taken step by step, or it was saved by an earlier version",
    "taylor": "no differences were taken step by step, or it was saved by an earlier version",
    "heat": "it has no leaf with two axes or more whose M and A, or N, are known",
    "points": "only check_batch looks at several points, and it lists those that did not pass",
}


def _leaves(axes: Any, report: Report, held: list[Any]) -> None:
    leaves, left_out = tables.choose_leaves(report, _MOST, _MOST)
    for height, leaf in enumerate(leaves):
        colour = _VERDICTS[leaf.verdict]
        _mark(axes, leaf.difference, height, "o", colour)
        _mark(axes, leaf.difference_autodiff, height, "x", colour)
        _mark(axes, leaf.floor, height, "|", "black")
        if _drawable(leaf.difference) and _drawable(leaf.error_bar):
            low, high = leaf.difference - leaf.error_bar, leaf.difference + leaf.error_bar
            axes.plot([max(low, _ZERO), max(high, _ZERO)], [height, height], color=colour, linewidth=1)
    axes.set_xscale("log")
    left, right = axes.get_xlim()
    axes.set_xlim(min(left, _NARROWEST), max(right, 1.0))  # leaves that are off alike would share a decade's numbers
    prefix, names = _told_apart([leaf.path for leaf in leaves])
    axes.set_yticks(range(len(leaves)), names)
    axes.set_ylim(max(len(leaves), 1) - 0.2, -0.5)  # room for the legend
    axes.set_xlabel("relative difference")
    for marker, said in (("o", "to N, with its bar"), ("x", "to A"), ("|", "leaf floor")):
        axes.plot([], [], marker, color=palette.LIGHT["muted"], label=said)
    more = f"\nleaves of {_middle(prefix, _TITLE - 10)}" if prefix else ""
    more += f"\n{len(left_out):,} more leaves" if left_out else ""
    axes.set_title(
        _middle(f"{report.verdict.value} {report.kind}({report.name})", _TITLE) + more,
        fontsize="medium",
        parse_math=False,
    )
    axes.legend(fontsize="small", frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, -0.02))
    axes.grid(axis="x", alpha=0.3)


def _told_apart(paths: list[str]) -> tuple[str, list[str]]:
    """(what all begin with, where that is left out because a name is too long beside the axis; the names)."""
    prefix, short = grid.without_prefix(paths)
    if not prefix or max(map(len, paths)) <= _BESIDE:
        return "", [_middle(path, _BESIDE) for path in paths]
    return prefix, [_middle(short(path), _BESIDE) for path in paths]


def _components(axes: Any, report: Report, held: list[Any]) -> None:
    sample = held[0]
    name, found = series.pairs(sample)
    xs, ys = [_within(x) for x, _, _ in found], [_within(y) for _, y, _ in found]
    low, high = min(*xs, *ys), max(*xs, *ys)
    axes.axline(
        (low, low),
        (high, high) if high > low else None,
        slope=None if high > low else 1,
        color=palette.LIGHT["edge"],
        linestyle=":",
        linewidth=1.2,
        label=f"M = {name}",
        zorder=1,
    )
    axes.plot(
        xs,
        ys,
        "o",
        color=_VERDICTS[report[sample.path].verdict] if sample.path in report else "black",
        markersize=3.5,
        alpha=0.65,
        markeredgewidth=0,
        label=numbers.count(len(found), "component"),
    )
    axes.set_xlabel({"N": "N: differences", "A": "A: autodiff"}[name])
    axes.set_ylabel("M: the gradient under test")
    _finish(axes, f"M against {name} of ", sample.path)


def _v_curve(axes: Any, report: Report, held: list[Any]) -> None:
    curve = held[0]
    found = series.errors(curve)
    if found.smooth is not None:
        axes.axvspan(
            *map(_within, found.smooth),
            color=palette.LIGHT["smooth"],
            zorder=0,
            label="smooth" if found.known else "looks smooth",
        )
    _lines(axes, found.lines, "from ")
    axes.set_ylabel(("relative error" if found.relative else "error") + " of (f(+t) − f(−t)) / 2t")
    _logs(axes, "step t")
    _finish(axes, "", curve.name)


def _taylor(axes: Any, report: Report, held: list[Any]) -> None:
    curve = held[0]
    found = series.remainders(curve)
    _lines(axes, found.lines, "d by ", dict(found.orders))
    if found.noise > 0:
        axes.axhline(
            _within(found.noise), color=palette.LIGHT["edge"], linestyle=":", linewidth=1.2, label="rounding of f"
        )
    axes.set_ylabel("|f(x + t v) − f(x) − t d|")
    _logs(axes, "step t")
    _finish(axes, "", curve.name)


def _lines(axes: Any, lines: tuple[series.Line, ...], before: str, orders: dict[str, float] | None = None) -> None:
    for line in lines:
        main = line.side != "left"
        order = f", order {orders[line.name]:.2f}" if orders and line.name in orders else ""
        axes.plot(
            *zip(*((_within(h), _within(y)) for h, y in line.points), strict=True),
            marker="o" if main else None,
            markersize=3.5,
            linewidth=1.4,
            linestyle="-" if main else "--",
            color=_WITNESSES[line.name],
            markerfacecolor=_WITNESSES[line.name] if line.name == "M" else "white",
            label=f"{before}{line.name}{order}" if main else None,
        )


def _heat(axes: Any, report: Report, held: list[Any]) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    grid = held[0]
    cells = [list(grid.values[r * grid.columns : (r + 1) * grid.columns]) for r in range(grid.rows)]
    known = [_within(v) for v in grid.values if math.isfinite(v) and v > 1 / _FAR]
    high = max(known, default=1.0)
    low = max(min(known, default=high), high * 1e-8)
    picture = axes.imshow(
        [[_within(v) if v > 0 else math.nan for v in row] for row in cells],
        cmap="Reds",
        aspect="auto",
        norm=LogNorm(min(low, high / 10), high),
        extent=(-0.5, grid.shape[1] - 0.5, grid.shape[0] - 0.5, -0.5),
        interpolation="nearest",
    )
    axes.figure.colorbar(picture, ax=axes, label=f"|M − {grid.witness}|")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("last axis")
    axes.set_ylabel("the others")
    _title(axes, f"|M − {grid.witness}| of ", grid.path)


def _points(axes: Any, report: Report, held: list[Any]) -> None:
    for verdict in Verdict:
        some = [p for p in held if p.verdict is verdict and _drawable(p.difference)]
        if some:
            axes.plot(
                [p.index for p in some],
                [max(p.difference, _ZERO) for p in some],
                "o",
                markersize=4,
                color=_VERDICTS[verdict],
                label=f"{len(some):,} {verdict}",
            )
    total = report.points_passed + report.points_failed + report.points_inconclusive
    unknown = sum(not _drawable(p.difference) for p in held)
    known = [max(p.difference, _ZERO) for p in held if _drawable(p.difference)]
    axes.set_yscale("log")
    if known:  # a decade at least, so that what is alike looks alike
        axes.set_ylim(10 ** math.floor(math.log10(min(known)) - 0.1), 10 ** math.ceil(math.log10(max(known)) + 0.1))
    axes.set_xlabel("point" + (f"  ({unknown:,} more have no difference)" if unknown else ""))
    axes.set_ylabel("relative difference to N")
    axes.grid(axis="y", alpha=0.3)
    _finish(axes, f"{len(held):,} of {max(total, len(held)):,} points did not pass: ", report.name)


_DRAWN = {
    "leaves": _leaves,
    "components": _components,
    "v-curve": _v_curve,
    "taylor": _taylor,
    "heat": _heat,
    "points": _points,
}


def _logs(axes: Any, label: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(label)


def _finish(axes: Any, before: str, name: str) -> None:
    _title(axes, before, name)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", frameon=False)


def _title(axes: Any, before: str, name: str) -> None:
    axes.set_title(before + _middle(name, _TITLE - len(before)), fontsize="medium", parse_math=False)


def _middle(name: str, most: int) -> str:
    """A name shortened in its middle: what it begins and ends with tells it from others."""
    if len(name) <= most:
        return name
    left = (most - 1) // 3
    return f"{name[:left]}…{name[len(name) - (most - 1 - left) :]}"


def _axes(width: float, height: float, window: bool) -> Any:
    try:
        if window:
            from matplotlib import pyplot

            figure = pyplot.figure(figsize=(width, height), layout="constrained")
        else:
            from matplotlib.figure import Figure

            figure = Figure(figsize=(width, height), layout="constrained")
    except ImportError as error:
        raise ImportError("a plot needs matplotlib: pip install 'jaxcheck[plot]'") from error
    return figure.add_subplot()


def _within(number: float) -> float:
    """A number, or the nearest that matplotlib can make an axis for."""
    return math.copysign(min(max(abs(number), 1 / _FAR), _FAR), number) if number else 0.0


def _drawable(number: float) -> bool:
    return math.isfinite(number) and number >= 0


def _mark(axes: Any, number: float, height: int, marker: str, colour: str) -> None:
    if _drawable(number):
        axes.plot(max(number, _ZERO), height, marker, color=colour, markersize=7)
