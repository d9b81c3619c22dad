"""Report -> a matplotlib picture: per leaf its difference, error bar and detection floor on a log axis."""

from __future__ import annotations

import math
from typing import Any

from jaxcheck.report import tables, words
from jaxcheck.result import Report, Verdict

_COLOURS = {Verdict.PASS: "tab:green", Verdict.FAIL: "tab:red", Verdict.INCONCLUSIVE: "goldenrod"}

# A log axis has no zero; an exact agreement is drawn here, below what float64 can tell apart.
_ZERO = 1e-18
_MOST = 40


def plot(report: Report, path: Any = None) -> Any:
    """Draw `report`; returns the matplotlib Axes. With `path` the picture is written there and no window
    or notebook cell is involved. Raises ImportError without matplotlib."""
    leaves, left_out = tables.choose_leaves(report, _MOST, _MOST)
    axes = _axes(height=1.5 + 0.3 * len(leaves), window=path is None)
    for height, leaf in enumerate(leaves):
        colour = _COLOURS[leaf.verdict]
        _mark(axes, leaf.difference, height, "o", colour)
        _mark(axes, leaf.difference_autodiff, height, "x", colour)
        _mark(axes, leaf.floor, height, "|", "black")
        if _drawable(leaf.difference) and _drawable(leaf.error_bar):
            low, high = leaf.difference - leaf.error_bar, leaf.difference + leaf.error_bar
            axes.plot([max(low, _ZERO), max(high, _ZERO)], [height, height], color=colour, linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(leaves)), [leaf.path for leaf in leaves])
    axes.set_ylim(max(len(leaves), 1) - 0.5, -0.5)
    axes.set_xlabel("relative difference  (o to N with its bar, x to A, | leaf floor)")
    axes.set_title(words.headline(report) + (f"\n{len(left_out)} more leaves" if left_out else ""), fontsize="medium")
    axes.grid(axis="x", alpha=0.3)
    if path is not None:
        axes.figure.savefig(path)
    return axes


def _axes(height: float, window: bool) -> Any:
    try:
        if window:
            from matplotlib import pyplot

            figure = pyplot.figure(figsize=(8, height), layout="constrained")
        else:
            from matplotlib.figure import Figure

            figure = Figure(figsize=(8, height), layout="constrained")
    except ImportError as error:
        raise ImportError("a plot needs matplotlib: pip install 'jaxcheck[plot]'") from error
    return figure.add_subplot()


def _drawable(number: float) -> bool:
    return math.isfinite(number) and number >= 0


def _mark(axes: Any, number: float, height: int, marker: str, colour: str) -> None:
    if _drawable(number):
        axes.plot(max(number, _ZERO), height, marker, color=colour, markersize=7)
