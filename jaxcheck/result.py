"""What a check returns: verdicts, reasons and numbers with their error bars, as plain data.

The bottom of the house: numpy and the standard library only, no JAX arrays and no closures, so that
a report pickles, travels between processes and is read back years later.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from typing import Any

import numpy as np

from jaxcheck.data import NAN as NAN
from jaxcheck.data import Cost, Data
from jaxcheck.reasons import Reason, Verdict


@dataclasses.dataclass(frozen=True, eq=False)
class Component(Data):
    """One scalar entry of one leaf, with what each witness says of it.

    `index` is the position in the leaf (`()` for a scalar); `numeric_error` is the absolute error
    bar of `numeric`. Values are floats, or complex for complex leaves; NaN where unknown.
    """

    path: str
    index: tuple[int, ...]
    parameter: complex
    manual: complex
    numeric: complex
    numeric_error: float
    autodiff: complex
    note: str = ""

    @property
    def name(self) -> str:
        return self.path + (f"[{','.join(map(str, self.index))}]" if self.index else "")


@dataclasses.dataclass(frozen=True, eq=False)
class LeafResult(Data):
    """The verdict on one leaf.

    Attributes:
        path: the leaf as the caller would write it, e.g. `layers[1].W`.
        shape, dtype: of the parameter, as given.
        verdict, reason: of this leaf alone; leaves are judged one by one.
        norm_manual, norm_numeric, norm_autodiff: 2-norms (NaN when the witness is silent).
        difference: formula (2), ||M - N|| / (||M|| + ||N||), relative, against the differences.
        difference_autodiff: the same against autodiff.
        error_bar: relative error bar of `difference`: what the differences can be off by.
        floor: smallest relative error of the whole leaf that this check would have caught.
        floor_component: smallest error of one component, relative to the leaf's norm, likewise.
        worst: the components that disagree most, worst first.
        hint: the kind of mistake with its evidence ("ratio 2.000 on all 15 entries"), or "".
        precision: relative difference between the gradient in its own dtype and in float64.
        kinks: how many components (or directions) sit on a kink.
        probes: how many directions or components the differences looked at.
        native: the dtype in which JAX runs it: float32 for NumPy's float64 unless 64-bit mode is on.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    verdict: Verdict
    reason: Reason
    norm_manual: float = NAN
    norm_numeric: float = NAN
    norm_autodiff: float = NAN
    difference: float = NAN
    difference_autodiff: float = NAN
    error_bar: float = NAN
    floor: float = NAN
    floor_component: float = NAN
    worst: tuple[Component, ...] = ()
    hint: str = ""
    precision: float = NAN
    kinks: int = 0
    probes: int = 0
    note: str = ""
    native: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Witness(Data):
    """Who spoke and how: `how` is float64, lifted, native, host, numbers, or absent (then `note` says why)."""

    name: str
    how: str
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Row(Data):
    """One line of a side table: a law of a rule, or a transformation. `status` is OK, WRONG or UNSUPPORTED;
    `difference` is relative; `order` is that of the derivative which the line is about."""

    group: str
    name: str
    status: str
    difference: float = NAN
    detail: str = ""
    order: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Point(Data):
    """One point of a batch that did not pass. `difference` is formula (2) at this point, `leaf` the one
    to blame there; `reproduce` is a line of Python that checks this point alone."""

    index: int
    label: str
    verdict: Verdict
    difference: float
    leaf: str
    reproduce: str


@dataclasses.dataclass(frozen=True, eq=False)
class Report(Data):
    """The outcome of a check; see the README for how to read it.

    Attributes:
        kind: the front door that made it ("check_grad", "check_rule", ...).
        name: the function that was checked.
        verdict, reason: of the whole; the worst leaf decides.
        difference: formula (2) over all of theta, relative, against the centred differences
            (an estimate when `mode` is "sketch").
        difference_autodiff: the same against autodiff; NaN without that witness.
        leaves: one `LeafResult` per differentiable leaf, in theta order.
        carried: (path, why) of leaves that are not differentiable and were carried along.
        witnesses: who spoke and how.
        mode: "exhaustive" or "sketch"; `why_mode` says why.
        value: the loss at the point (NaN when not scalar).
        rows: side tables (laws, transformations).
        points: the points of a batch that did not pass, worst first; empty for a single check.
        points_passed, points_failed, points_inconclusive: how many of a batch's points did what.
        point: the label of the one point of a batch that the numbers above belong to, all of them: the
            leaves, the differences, the value, the rows. Empty for a single check.
        notes: sentences for the reader, most important first.
        seed: of the directions; evaluations: loss evaluations spent; seconds: wall time; cost: where it went.
    """

    kind: str
    name: str
    verdict: Verdict
    reason: Reason
    difference: float = NAN
    difference_autodiff: float = NAN
    leaves: tuple[LeafResult, ...] = ()
    carried: tuple[tuple[str, str], ...] = ()
    witnesses: tuple[Witness, ...] = ()
    mode: str = "exhaustive"
    why_mode: str = ""
    value: float = NAN
    rows: tuple[Row, ...] = ()
    points: tuple[Point, ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0
    evaluations: int = 0
    seconds: float = NAN
    compiled: int = 0
    points_passed: int = 0
    points_failed: int = 0
    points_inconclusive: int = 0
    point: str = ""
    cost: Cost = dataclasses.field(default_factory=Cost)

    @property
    def ok(self) -> bool:
        """True only for PASS."""
        return self.verdict is Verdict.PASS

    def __bool__(self) -> bool:
        """`ok`, so that `assert check_grad(...)` asserts what it seems to."""
        return self.ok

    @property
    def theta_size(self) -> int:
        """Number of scalar parameters looked at (a complex one counts once)."""
        return sum(math.prod(leaf.shape) for leaf in self.leaves)

    def leaf(self, path: str) -> LeafResult:
        """The result of one leaf by its path. Raises KeyError naming the known paths."""
        for leaf in self.leaves:
            if leaf.path == path:
                return leaf
        raise KeyError(f"no leaf {path!r}; this report has {[leaf.path for leaf in self.leaves]}")

    def assert_ok(self) -> Report:
        """Return self on PASS; raise `GradientMismatch` on FAIL, `GradientInconclusive` otherwise."""
        if self.verdict is Verdict.FAIL:
            raise GradientMismatch(self)
        if self.verdict is Verdict.INCONCLUSIVE:
            raise GradientInconclusive(self)
        return self

    # Rendering lives in `jaxcheck.report`, which imports this module; the import is made when a
    # report is shown, so that the bottom layer does not depend on the top one.
    def __str__(self) -> str:
        return _renderer("text").render(self)

    def _repr_html_(self) -> str:
        return _renderer("html").fragment(self)

    def __rich__(self) -> Any:
        return _renderer("text").renderable(self)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready data (non-finite floats and complex numbers as strings)."""
        return _renderer("json").encode(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Report:
        """Inverse of `to_json`. Raises ValueError naming what is missing or unknown."""
        return _renderer("json").decode(data)

    def save(self, path: Any) -> None:
        """Write to `path`, by its suffix: .json or .html. Raises ValueError for another suffix."""
        _renderer("save").save(self, path)

    def plot(self, path: Any = None) -> Any:
        """Draw the report with matplotlib (extra `plot`); write it to `path` when given."""
        return _renderer("plot").plot(self, path)


def _renderer(name: str) -> Any:
    return importlib.import_module(f"jaxcheck.report.{name}")


class _ReportError(AssertionError):
    """Carries the report; picklable (BaseException pickles `args`)."""

    def __init__(self, report: Report):
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return f"{self.report.verdict.value}: {self.report.reason.advice}\n{self.report}"


class GradientMismatch(_ReportError):
    """The gradient is wrong; `.report` says where."""


class GradientInconclusive(_ReportError):
    """The check could not decide; `.report.reason` says why."""


class GradientCheckWarning(UserWarning):
    """A check that returns no report passed, but part of it could not be judged, or only as a subgradient."""


def formula2(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b|| / (||a|| + ||b||), the textbook's `difference`; 0 when both are exactly zero, NaN if not finite.

    Scaled by the largest entry first so that gradients of 1e-200 or 1e200 neither vanish nor overflow.
    """
    a = np.asarray(a).ravel()
    b = np.asarray(b).ravel()
    scale = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    if scale == 0:
        return 0.0
    if not np.isfinite(scale):
        return NAN
    a, b = a / scale, b / scale
    return float(np.linalg.norm(a - b) / (np.linalg.norm(a) + np.linalg.norm(b)))


for _public in (Component, LeafResult, Witness, Row, Point, Report, GradientMismatch,
                GradientInconclusive, GradientCheckWarning):
    _public.__module__ = "jaxcheck"
