"""The parts of a report, as plain data: leaves, components, witnesses, rows and points."""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
from typing import Any

from jaxcheck.documented import documented
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
    """

    path: str
    """The leaf's, as in `LeafResult`."""
    index: tuple[int, ...]
    """Position in the leaf, from 0; `()` for a scalar."""
    parameter: complex
    """The value of the parameter at the point of the check."""
    manual: complex
    """The derivative by M, the gradient under test, in units of loss per parameter."""
    numeric: complex
    """The derivative by N, the differences, in the same unit."""
    numeric_error: float
    """Error bar of `numeric`, absolute, in the same unit."""
    autodiff: complex
    """The derivative by A, autodiff, in the same unit."""
    note: str = ""
    """What is known of this entry alone ("kink"), or ""."""

    @property
    def name(self) -> str:
        """`layers[1].W[0,2]`: the entry as one writes it."""
        return self.path + (f"[{','.join(map(str, self.index))}]" if self.index else "")

    def __repr__(self) -> str:
        return f"<{renderer('line').component(self)}>"


@dataclasses.dataclass(frozen=True, eq=False)
class LeafResult(Data):
    """The verdict on one leaf. Numbers are NaN where they are unknown."""

    path: str
    """The leaf as the caller would write it: `layers[1].W`."""
    shape: tuple[int, ...]
    """Of the parameter, as given; `()` for a scalar."""
    dtype: str
    """Of the parameter, as given."""
    verdict: Verdict
    """Of this leaf alone; leaves are judged one by one."""
    reason: Reason
    """Why, in one word; `reason.advice` says what to do."""
    norm_manual: float = NAN
    """2-norm of the leaf's gradient by M, absolute, in units of loss per parameter."""
    norm_numeric: float = NAN
    """The same by N; NaN where it is silent."""
    norm_autodiff: float = NAN
    """The same by A; NaN where it is silent."""
    difference: float = NAN
    """Formula (2), ||M - N|| / (||M|| + ||N||): relative, from 0 to 1."""
    difference_autodiff: float = NAN
    """Formula (2) against A: relative, from 0 to 1."""
    error_bar: float = NAN
    """Of `difference`, in the same relative unit: what the differences can be off by."""
    floor: float = NAN
    """Leaf floor: the smallest error of the leaf as a whole that this check would have caught, as a 2-norm relative to
    the leaf's own (to what the other leaves do where that is no more than rounding: `faint`)."""
    floor_component: float = NAN
    """Component floor: the smallest error of one component alone, absolute, likewise relative to the leaf's 2-norm."""
    faint: bool = False
    """Whether its gradient is zero, or no more than rounding, beside what the other leaves do to the output."""
    worst: tuple[Component, ...] = ()
    """The components that disagree most, worst first; a few at most."""
    hint: str = ""
    """The kind of mistake with its evidence ("ratio 2.000 on all 15 entries"), or ""."""
    precision: float = NAN
    """What the gradient in its own dtype loses: formula (2) between it and itself in float64."""
    kinks: int = 0
    """How many components (or directions) sit on a kink."""
    probes: int = 0
    """How many components (or directions) the differences looked at."""
    note: str = ""
    """A sentence on this leaf alone, or ""."""
    native: str = ""
    """The dtype in which JAX runs it: float32 for NumPy's float64 unless 64-bit mode is on."""

    @property
    def ok(self) -> bool:
        """True only for PASS."""
        return self.verdict is Verdict.PASS

    def __repr__(self) -> str:
        return f"<{renderer('line').leaf(self)}>"


@dataclasses.dataclass(frozen=True, eq=False)
class Witness(Data):
    """Who spoke, and how."""

    name: str
    """"manual", "numeric" or "autodiff"."""
    how: str
    """"float64", "lifted", "native", "host", "numbers" or "absent"."""
    note: str = ""
    """Why it is absent, or how it was asked; or ""."""


@dataclasses.dataclass(frozen=True, eq=False)
class Culprit(Data):
    """A line of the hand-written backward pass, and what makes the gradients right when it is changed there.

    That it does was seen, at the point of the check and at another one, for all wrong leaves; or, where there are two
    mistakes, for `leaves`, and for all of them with both lines changed.
    """

    file: str
    """Where: a path, or `In[3]` for a notebook's cell."""
    line: int
    """Its number in the file, from 1."""
    source: str
    """Its text without the indentation, "" where it cannot be read."""
    edit: str
    """The line as it would be right, or "" where the change cannot be written as one line."""
    what: str
    """The change in words."""
    kind: str
    """"line"; "one of" several lines that a change may as well be made on; "value", where only what the line should
    give is known, not how."""
    leaves: tuple[str, ...] = ()
    """The paths of the wrong leaves that become right."""


@dataclasses.dataclass(frozen=True, eq=False)
class Row(Data):
    """One line of a side table: a law of a rule, or a transformation."""

    group: str
    """The table: "law", "transformation", "forward", ..."""
    name: str
    """Of the law or the transformation."""
    status: str
    """"OK", "WRONG" or "UNSUPPORTED", where JAX itself cannot do it."""
    difference: float = NAN
    """Relative; NaN where nothing was compared."""
    detail: str = ""
    """What is wrong, where; or why it is unsupported."""
    order: int = 1
    """Of the derivative that the line is about."""
    reason: Reason = Reason.AGREE
    """Why it was looked at and could not be judged; AGREE where nothing of that kind is known."""


@dataclasses.dataclass(frozen=True, eq=False)
class Point(Data):
    """One point of a batch that did not pass."""

    index: int
    """Its place among the points, from 0."""
    label: str
    """"point 3", "after 100 steps", ..."""
    verdict: Verdict
    """Of this point alone."""
    difference: float
    """Formula (2) at this point: relative, from 0 to 1."""
    leaf: str
    """The path of the leaf to blame there."""
    reproduce: str
    """A line of Python that checks this point alone."""


@dataclasses.dataclass(frozen=True, eq=False)
class Cost(Data):
    """What a check measured, planned and spent. NaN and 0 where that is not known."""

    evaluation: float = NAN
    """Seconds of one evaluation of the function, among many, as last measured; known where they were many."""
    pair: float = NAN
    """Seconds of one loss and its gradient in the caller's own dtypes, compiled and warm."""
    planned: int = 0
    """Evaluations planned at first; what is in doubt is looked at by more."""
    compiling: float = NAN
    """Seconds spent on compiling."""
    running: float = NAN
    """Seconds spent on running; the rest of the check's is tracing, judging and searching."""
    peak: int = 0
    """Bytes of the largest compiled program: arguments, results and temporaries."""
    budget: float = math.inf
    """Seconds granted, infinite for as long as it takes."""
    stopped: str = ""
    """"time", "user" or "memory" where the check was stopped, "" where it ended by itself."""
    more: float = NAN
    """Seconds that what was left out takes, about."""
    reused: float = 0.0
    """Seconds that an earlier run had taken for what came from its file (`resume=`)."""
    searching: float = 0.0
    """Seconds spent on the search for the wrong line (`where=`)."""


def renderer(name: str) -> Any:
    """A module of `jaxcheck.report`, which imports this one: loaded when a report is shown, so that the bottom
    layer does not depend on the top one."""
    return importlib.import_module(f"jaxcheck.report.{name}")


for _public in (Component, Culprit, LeafResult, Witness, Row, Point, Cost):
    documented(_public, __file__)
    if _public is not Cost:
        _public.__module__ = "jaxcheck"


def fits(leaf: LeafResult, path: str | None, verdict: str | None) -> bool:
    """Whether a leaf's path fits a pattern of `*` and `?`, and its verdict is the given one; None: any."""
    if not isinstance(path, (str, type(None))):
        raise TypeError(f"path={path!r}: a pattern of the paths of leaves, such as 'layers[*].W'")
    pattern = re.escape("*" if path is None else path).replace(r"\*", ".*").replace(r"\?", ".")
    return bool(re.fullmatch(pattern, leaf.path, re.DOTALL)) and verdict in (None, leaf.verdict)
