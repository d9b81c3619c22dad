"""What a check returns: verdicts, reasons and numbers with their error bars, as plain data.

The bottom of the house: numpy and the standard library only, no JAX arrays and no closures, so that
a report pickles, travels between processes and is read back years later.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from jaxcheck import session
from jaxcheck.documented import documented
from jaxcheck.reasons import Reason as Reason
from jaxcheck.reasons import Verdict as Verdict
from jaxcheck.records import NAN as NAN
from jaxcheck.records import Component as Component
from jaxcheck.records import Cost as Cost
from jaxcheck.records import Culprit as Culprit
from jaxcheck.records import Data, fits, renderer
from jaxcheck.records import LeafResult as LeafResult
from jaxcheck.records import Point as Point
from jaxcheck.records import Row as Row
from jaxcheck.records import Witness as Witness
from jaxcheck.records_drawn import Curve as Curve
from jaxcheck.records_drawn import Grid as Grid
from jaxcheck.records_drawn import Line as Line
from jaxcheck.records_drawn import Made as Made
from jaxcheck.records_drawn import Numbers as Numbers
from jaxcheck.records_drawn import Sample as Sample
from jaxcheck.tracebacks import unseen

_Plot = Literal["leaves", "components", "v-curve", "taylor", "heat", "points"]


@dataclasses.dataclass(frozen=True, eq=False)
class Report(Data):
    """The outcome of a check; docs/report.md says how to read it.

    `repr` is one line, `str` the whole text, and notebooks show a table. Iterating gives the leaves, and
    `report["layers[0].W"]` one of them. Two reports are equal where everything is but their cost (`seconds`,
    `compiled`) and what goes with one run (`made`, `curves`, `samples`, `grids`); an unknown number (NaN) equals an
    unknown one.
    """

    kind: str
    """The front door that made it ("check_grad", "check_rule", ...)."""
    name: str
    """The function that was checked."""
    verdict: Verdict
    """Of the whole; the worst leaf decides."""
    reason: Reason
    """Why, in one word; `reason.advice` says what to do."""
    difference: float = NAN
    """Formula (2) over all of theta, ||M - N|| / (||M|| + ||N||): relative, from 0 to 1; an estimate in a sketch."""
    difference_autodiff: float = NAN
    """The same against autodiff; NaN without that witness."""
    floor: float = NAN
    """What a PASS would have caught: the largest leaf floor, relative to the leaf's norm; of the drop-in the smallest
    error of all first derivatives. NaN: not known."""
    leaves: tuple[LeafResult, ...] = ()
    """One per differentiable leaf, in theta order."""
    carried: tuple[tuple[str, str], ...] = ()
    """(path, why) of leaves that are not differentiable and were carried along."""
    witnesses: tuple[Witness, ...] = ()
    """Who spoke and how."""
    mode: str = "exhaustive"
    """"exhaustive" or "sketch"."""
    why_mode: str = ""
    """Why that mode."""
    value: float = NAN
    """The loss at the point; NaN when it is no scalar."""
    rows: tuple[Row, ...] = ()
    """Side tables (laws, transformations)."""
    points: tuple[Point, ...] = ()
    """The points of a batch that did not pass, worst first; empty for a single check."""
    notes: tuple[str, ...] = ()
    """Sentences for the reader, most important first."""
    seed: int = 0
    """Of the random directions."""
    evaluations: int = 0
    """Of the loss, spent on differences."""
    seconds: float = NAN
    """Wall time."""
    compiled: int = 0
    """How many programs were compiled for this check."""
    points_passed: int = 0
    """How many points of a batch are PASS."""
    points_failed: int = 0
    """How many are FAIL."""
    points_inconclusive: int = 0
    """How many are INCONCLUSIVE."""
    point: str = ""
    """The label of the one point of a batch that all numbers above belong to. Empty for a single check."""
    cost: Cost = dataclasses.field(default_factory=Cost)
    """Where the time went."""
    culprits: tuple[Culprit, ...] = ()
    """The line of the backward pass that is wrong, or the few of which one is, where that was found."""
    made: Made = dataclasses.field(default_factory=Made)
    """When, where and by which versions it was made, and where the function under test is defined."""
    curves: tuple[Curve, ...] = ()
    """The function along the most doubtful directions, step by step, eight at most."""
    samples: tuple[Sample, ...] = ()
    """Components of leaves, by each witness, some thousands at most."""
    grids: tuple[Grid, ...] = ()
    """|M - A| over matrices."""

    _uncompared = ("seconds", "compiled", "cost", "made", "curves", "samples", "grids")

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

    @property
    def failed(self) -> tuple[LeafResult, ...]:
        """The leaves that are FAIL. A FAIL of the whole may also be one of `rows`, of `points`, or of none (`notes`)."""
        return tuple(leaf for leaf in self.leaves if leaf.verdict is Verdict.FAIL)

    def __post_init__(self) -> None:
        if math.isnan(self.floor) and (known := [x.floor for x in self.leaves if not math.isnan(x.floor)]):
            object.__setattr__(self, "floor", max(known))

    @property
    def inconclusive(self) -> tuple[LeafResult, ...]:
        """The leaves that are INCONCLUSIVE."""
        return tuple(leaf for leaf in self.leaves if leaf.verdict is Verdict.INCONCLUSIVE)

    def __iter__(self) -> Iterator[LeafResult]:
        return iter(self.leaves)

    def __len__(self) -> int:
        return len(self.leaves)

    def __contains__(self, path: object) -> bool:
        return any(path in (leaf.path, leaf) for leaf in self.leaves)

    def __getitem__(self, path: str | int) -> LeafResult:
        """A leaf by its path, or by its place. Raises KeyError naming the known paths, or IndexError."""
        if isinstance(path, (int, np.integer)):
            return self.leaves[path]
        for leaf in self.leaves:
            if leaf.path == path:
                return leaf
        raise KeyError(f"no leaf {path!r}; this report has {[leaf.path for leaf in self.leaves]}")

    def leaf(self, path: str) -> LeafResult:
        """The result of one leaf by its path. Raises KeyError naming the known paths."""
        return self[path]

    def filter(self, path: str | None = None, verdict: Verdict | str | None = None) -> tuple[LeafResult, ...]:
        """The leaves whose path fits a pattern, and whose verdict is the given one.

        Args:
            path: a path in which `*` stands for anything and `?` for one character: `layers[*].W`.
            verdict: a `Verdict`, or its name. Raises ValueError for another word.
        """
        if verdict not in (None, *Verdict):
            raise ValueError(f"verdict={verdict!r}: use {', '.join(repr(str(one)) for one in Verdict)}")
        return tuple(leaf for leaf in self.leaves if fits(leaf, path, verdict))

    def to_records(self) -> list[dict[str, Any]]:
        """A flat dict per leaf, of plain numbers and strings: the rows of `to_dataframe`."""
        return renderer("records").of_leaves(self)

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with a row per leaf. Raises ImportError without pandas."""
        return renderer("records").dataframe(self)

    def diff(self, other: Report) -> tuple[str, ...]:
        """What is otherwise here than in `other` (an earlier report), a sentence each; empty where nothing is that
        a reader would act on. Raises TypeError where `other` is no report."""
        if not isinstance(other, Report):
            raise TypeError(f"diff(other): a Report, not {type(other).__name__}")
        return renderer("changes").between(other, self)

    def assert_ok(self) -> Report:
        """Return self on PASS; raise `GradientMismatch` on FAIL, `GradientInconclusive` otherwise."""
        __tracebackhide__ = True
        with unseen():
            if self.verdict is Verdict.FAIL:
                raise GradientMismatch(self)
            if self.verdict is Verdict.INCONCLUSIVE:
                raise GradientInconclusive(self)
        return self

    def __repr__(self) -> str:
        return f"<{renderer('line').summary(self)}>"

    def __str__(self) -> str:
        return renderer("text").for_stdout(self, session.columns)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The whole text where the report is what a cell shows, a line where it stands in a list or a dict."""
        printer.text(str(self) if len(printer.stack) <= 1 else repr(self))

    def _repr_html_(self) -> str:
        return renderer("html").fragment(self)

    def __rich__(self) -> Any:
        return renderer("text").renderable(self)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready data (non-finite floats and complex numbers as strings)."""
        return renderer("json").encode(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Report:
        """Inverse of `to_json`. Raises ValueError naming what is missing or unknown."""
        return renderer("json").decode(data)

    def save(self, path: Any) -> None:
        """Write to `path`, by its suffix: .json or .html. Raises ValueError for another suffix."""
        renderer("save").save(self, path)

    @staticmethod
    def load(path: Any) -> Report:
        """What `save` wrote, .json or .html. Raises ValueError where the file holds no report, or several."""
        found = renderer("save").load(path)
        if len(found) == 1:
            return found[0]
        raise ValueError(f"{path} holds {len(found)} reports, not one; `jaxcheck show` shows them all")

    def plot(self, kind: _Plot = "leaves", *, ax: Any = None, leaf: str | None = None, path: Any = None) -> Any:
        """Draw the report with matplotlib (extra `plot`); returns the Axes.

        Args:
            kind: "leaves": every leaf's difference, bar and floor. "components": M against N, one component a dot.
                "v-curve": what centred differences are off by, step by step. "taylor": what is left of the function
                when its slope is taken off. "heat": |M - A| over a matrix. "points": those of a batch.
            ax: Axes to draw on; default a new figure's.
            leaf: the path of one leaf; default the first that is in doubt.
            path: write the picture there (`.png`, `.pdf`, `.svg`); no window is then involved.

        Raises:
            ValueError: another kind or leaf, or the report holds nothing of that kind. ImportError: no matplotlib.
        """
        return renderer("plot").plot(self, kind, ax=ax, leaf=leaf, path=path)

    def minimise(self, seconds: float = 30.0) -> str:
        """A script of about twenty lines that fails as this check did, in the same leaf and for the same reason, with
        data as few and as plain as `seconds` of search find: axes cut, values zero, one or rounded.

        Raises:
            ValueError: nothing failed, or the gradient was given as numbers.
            RuntimeError: the report was loaded, copied or unpickled: what was checked is no longer known.
        """
        if self.verdict is not Verdict.FAIL:
            raise ValueError(f"minimise(): nothing failed here, the verdict is {self.verdict.value}")
        smaller = vars(self).get("_smaller")
        if smaller is None:
            raise RuntimeError(
                "minimise(): only the report that check_grad or check_rule returned knows the functions "
                "it checked; this one was loaded, copied or made otherwise: run the check again"
            )
        return smaller(seconds)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_smaller"}


class _ReportError(AssertionError):
    """Carries the report; picklable (BaseException pickles `args`)."""

    def __init__(self, report: Report):
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return f"{renderer('line').cause(self.report)}\n\n{self.report}"


class GradientMismatch(_ReportError):
    """The gradient is wrong; `.report` says where."""


class GradientInconclusive(_ReportError):
    """The check could not decide; `.report.reason` says why."""


class GradientCheckWarning(UserWarning):
    """A check that returns no report passed, but part of it could not be judged, or only as a subgradient."""


documented(Report, __file__)
for _public in (Report, GradientMismatch, GradientInconclusive, GradientCheckWarning):
    _public.__module__ = "jaxcheck"
