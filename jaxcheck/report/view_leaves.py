"""What a page shows of a leaf: its row, what is off in it, its pictures."""

from __future__ import annotations

import math
from typing import Any

from jaxcheck.report import figures, numbers
from jaxcheck.result import Component, LeafResult, Reason, Report, Verdict


def value(number: float) -> str:
    """A number as JavaScript reads it; "" for NaN, which is sorted last."""
    if math.isnan(number):
        return ""
    return repr(float(number)) if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"


def row(leaf: LeafResult, anchor: str) -> dict[str, Any]:
    def cell(label: str, number: float, said: str, bar: str = "") -> dict[str, str]:
        return {"label": label, "value": value(number), "said": said, "bar": bar}

    difference = numbers.small(leaf.difference)
    bar = "" if difference == numbers.UNKNOWN else "?" if math.isnan(leaf.error_bar) else numbers.small(leaf.error_bar)
    return {
        "path": leaf.path,
        "anchor": anchor,
        "verdict": leaf.verdict.value,
        "rank": numbers.WORST_FIRST.index(leaf.verdict),
        "reason": "" if leaf.reason is Reason.AGREE else leaf.reason.name,
        "size": math.prod(leaf.shape),
        "shape": numbers.shape(leaf.shape).replace("x", " × "),
        "dtype": leaf.dtype,
        "cells": [
            cell("|M|", leaf.norm_manual, numbers.size(leaf.norm_manual)),
            cell("to N", leaf.difference, difference, bar),
            cell("to A", leaf.difference_autodiff, numbers.small(leaf.difference_autodiff)),
            cell("floor: leaf", leaf.floor, numbers.small(leaf.floor)),
            cell("floor: component", leaf.floor_component, numbers.small(leaf.floor_component)),
        ],
    }


def detailed(report: Report) -> list[LeafResult]:
    """Leaves that did not pass, and those that have more to show than a row."""
    drawn = {one.path for one in (*report.curves, *report.samples, *report.grids)}
    passed = [
        leaf
        for leaf in report.leaves
        if leaf.verdict is Verdict.PASS and (leaf.hint or leaf.note or leaf.worst or leaf.path in drawn)
    ]
    troubled = numbers.troubled(report)
    if any(leaf.verdict is Verdict.FAIL for leaf in troubled):
        passed = [leaf for leaf in passed if leaf.hint or leaf.note or leaf.worst]
    return [*troubled, *passed]


def detail(report: Report, leaf: LeafResult, anchor: str, unfolded: bool) -> dict[str, Any]:
    first, more = figures.of_leaf(report, leaf.path, leaf.worst)
    return {
        "path": leaf.path,
        "anchor": anchor,
        "verdict": leaf.verdict.value,
        "hint": leaf.hint,
        "note": leaf.note,
        "open": unfolded,
        "worst": _worst(leaf.worst, numbers.silent(report)),
        "figures": first,
        "more": more,
    }


def _worst(components: tuple[Component, ...], silent: bool) -> list[dict[str, Any]]:
    off = [_off(c) for c in components]
    most = max((x for x in off if math.isfinite(x)), default=0.0)
    rows = []
    for component, wrong in zip(components, off, strict=True):
        numeric = numbers.value(component.numeric)
        bar = component.numeric_error
        rows.append(
            {
                "name": component.name,
                "note": component.note,
                "parameter": numbers.value(component.parameter),
                "manual": numbers.value(component.manual),
                "numeric": numeric,
                "autodiff": numbers.UNKNOWN if silent else numbers.value(component.autodiff),
                "bar": "" if numeric == "nan" else "?" if math.isnan(bar) else numbers.small(bar),
                "off": numbers.small(wrong),
                "part": round(100 * wrong / most) if most and math.isfinite(wrong) else 0,
            }
        )
    return rows


def _off(component: Component) -> float:
    for truth in (component.numeric, component.autodiff):
        off = abs(component.manual - truth)
        if not math.isnan(off):
            return off
    return math.nan
