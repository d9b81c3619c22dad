"""The parts of a report, as plain data: leaves, components, witnesses, rows and points."""

from __future__ import annotations

import dataclasses
import importlib
import math
from typing import Any

from jaxcheck.reasons import Reason, Verdict

NAN = float("nan")


class Data:
    """Plain data, equal where all fields are: an unknown number (NaN) is the same unknown in both."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _fields(self) == _fields(other)

    def __hash__(self) -> int:
        return hash((type(self), _fields(self)))

    # Fields that say what it took, not what came out.
    _uncompared: tuple[str, ...] = ()


def _fields(item: Any) -> tuple[Any, ...]:
    names = [f.name for f in dataclasses.fields(item) if f.name not in item._uncompared]
    return tuple(_comparable(getattr(item, name)) for name in names)


def _comparable(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_comparable, value))
    if isinstance(value, complex):
        return (_comparable(value.real), _comparable(value.imag))
    return "NaN" if isinstance(value, float) and value != value else value


@dataclasses.dataclass(frozen=True, eq=False)
class Component(Data):
    """One scalar entry of one leaf, with what each witness says of it.

    Values are floats, or complex for complex leaves; NaN where unknown.

    Attributes:
        path: the leaf's, as in `LeafResult`.
        index: position in the leaf, from 0; `()` for a scalar.
        parameter: the value of the parameter at the point of the check.
        manual, numeric, autodiff: its derivative (loss per parameter) by M, N and A.
        numeric_error: error bar of `numeric`, absolute, in the same unit.
        note: what is known of this entry alone ("kink"), or "".
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
        """`layers[1].W[0,2]`: the entry as one writes it."""
        return self.path + (f"[{','.join(map(str, self.index))}]" if self.index else "")


@dataclasses.dataclass(frozen=True, eq=False)
class LeafResult(Data):
    """The verdict on one leaf.

    Attributes:
        path: the leaf as the caller would write it, e.g. `layers[1].W`.
        shape, dtype: of the parameter, as given; `()` for a scalar.
        verdict, reason: of this leaf alone; leaves are judged one by one.
        norm_manual, norm_numeric, norm_autodiff: 2-norms of the leaf's gradient by M, N and A, absolute, in units
            of loss per parameter; NaN where the witness is silent.
        difference: formula (2), ||M - N|| / (||M|| + ||N||): relative, from 0 to 1.
        difference_autodiff: the same against A.
        error_bar: of `difference`, in the same relative unit: what the differences can be off by.
        floor: leaf floor: the smallest error of the leaf as a whole that this check would have caught, as a
            2-norm relative to the leaf's own (to what the other leaves do where that is zero). NaN where unknown.
        floor_component: component floor: the smallest error of one component, absolute, likewise relative to the
            leaf's 2-norm.
        worst: the components that disagree most, worst first; a few at most.
        hint: the kind of mistake with its evidence ("ratio 2.000 on all 15 entries"), or "".
        precision: what the gradient in its own dtype loses: formula (2) between it and itself in float64.
        kinks: how many components (or directions) sit on a kink.
        probes: how many directions or components the differences looked at.
        note: a sentence on this leaf alone, or "".
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

    @property
    def ok(self) -> bool:
        """True only for PASS."""
        return self.verdict is Verdict.PASS

    def __repr__(self) -> str:
        return f"<{renderer('line').leaf(self)}>"


@dataclasses.dataclass(frozen=True, eq=False)
class Witness(Data):
    """Who spoke and how: `how` is float64, lifted, native, host, numbers, or absent (then `note` says why)."""

    name: str
    how: str
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Culprit(Data):
    """A line of the hand-written backward pass, and what makes the gradients right when it is changed there.

    That it does was seen, at the point of the check and at another one, for all wrong leaves; or, where there are two
    mistakes, for `leaves`, and for all of them with both lines changed.

    Attributes:
        file, line: where, from 1; source: the line's text without its indentation, "" where it cannot be read.
        edit: the line as it would be right, or "" where the change cannot be written as one line.
        what: the change in words.
        kind: "line"; "one of" several lines that a change may as well be made on; "value", where only what the line
            should give is known, not how.
        leaves: the paths of the wrong leaves that become right.
    """

    file: str
    line: int
    source: str
    edit: str
    what: str
    kind: str
    leaves: tuple[str, ...] = ()


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
class Cost(Data):
    """What a check measured, planned and spent. NaN and 0 where that is not known.

    Attributes:
        evaluation: seconds of one evaluation of the function, among many, as last measured; known where they were many.
        pair: seconds of one loss and its gradient in the caller's own dtypes, compiled and warm.
        planned: evaluations planned at first; what is in doubt is looked at by more.
        compiling, running: seconds spent on either; the rest of the check's is tracing and judging.
        peak: bytes of the largest compiled program: arguments, results and temporaries.
        budget: seconds granted, infinite for as long as it takes.
        stopped: "time", "user" or "memory" where the check was stopped, "" where it ended by itself.
        more: seconds that what was left out takes, about.
        reused: seconds that an earlier run had taken for what came from its file (`resume=`).
    """

    evaluation: float = NAN
    pair: float = NAN
    planned: int = 0
    compiling: float = NAN
    running: float = NAN
    peak: int = 0
    budget: float = math.inf
    stopped: str = ""
    more: float = NAN
    reused: float = 0.0


def renderer(name: str) -> Any:
    """A module of `jaxcheck.report`, which imports this one: loaded when a report is shown, so that the bottom
    layer does not depend on the top one."""
    return importlib.import_module(f"jaxcheck.report.{name}")


for _public in (Component, Culprit, LeafResult, Witness, Row, Point):
    _public.__module__ = "jaxcheck"
