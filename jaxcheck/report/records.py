"""Report -> flat rows: a dict per leaf, and a pandas DataFrame of them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from jaxcheck.report import numbers
from jaxcheck.result import LeafResult, Report

# Not one number or word: told by columns of their own below.
_NOT_FLAT = ("shape", "worst")


def of_leaves(report: Report) -> list[dict[str, Any]]:
    return [_flat(leaf) for leaf in report.leaves]


def _flat(leaf: LeafResult) -> dict[str, Any]:
    row: dict[str, Any] = {"path": leaf.path, "shape": numbers.shape(leaf.shape), "size": math.prod(leaf.shape)}
    for field in dataclasses.fields(leaf):
        if field.name not in (*row, *_NOT_FLAT):
            value = getattr(leaf, field.name)
            row[field.name] = str(value) if isinstance(value, str) else value
    worst = leaf.worst[0] if leaf.worst else None
    row["worst_component"] = worst.name if worst else ""
    for witness in ("manual", "numeric", "autodiff"):
        row[f"worst_{witness}"] = getattr(worst, witness) if worst else math.nan
    return row


def dataframe(report: Report) -> Any:
    try:
        import pandas  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "to_dataframe() needs pandas: pip install pandas; to_records() gives the same rows as dicts without it"
        ) from error
    return pandas.DataFrame(of_leaves(report))
