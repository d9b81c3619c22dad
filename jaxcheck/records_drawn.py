"""What a report keeps to be drawn and found again: a few curves, samples and grids of numbers; where and when it was
made. Plain data, of bounded size; two reports are compared without it."""

from __future__ import annotations

import dataclasses

from jaxcheck.records import NAN, Data


class Numbers(tuple[float, ...]):
    """Numbers that belong together: a line of a JSON file, where other tuples take a line an entry."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Curve(Data):
    """The function along one direction through the point, step by step.

    Attributes:
        path: the leaf that moves; name: what of it, `W[0,2]`, or `W along direction 1`.
        steps: the steps t, largest first, absolute for a single component, else in units of the direction.
        right, left: f(point + t v) - f(point), and the same at -t; NaN where it is not finite.
        manual, numeric, autodiff: the derivative along v as each witness has it, NaN where unknown.
        error: the bar of `numeric`, absolute. noise: that of one value of the function, absolute.
        smooth: the largest step at which the function is known to be on the point's own smooth piece, with all
            smaller ones; 0 where no step is, NaN where that was not looked at.
    """

    path: str
    name: str
    steps: Numbers
    right: Numbers
    left: Numbers
    manual: float = NAN
    numeric: float = NAN
    error: float = NAN
    autodiff: float = NAN
    noise: float = NAN
    smooth: float = NAN


@dataclasses.dataclass(frozen=True, eq=False)
class Sample(Data):
    """Components of one leaf with each witness's derivative: all of them, or some, the worst among them.

    `components` are places in the flat leaf from 0; the imaginary part of a complex one comes after all real parts.
    `errors` are the bars of `numeric`. NaN where a witness is silent.
    """

    path: str
    components: Numbers
    manual: Numbers
    numeric: Numbers
    errors: Numbers
    autodiff: Numbers


@dataclasses.dataclass(frozen=True, eq=False)
class Grid(Data):
    """|M - A| over a leaf as a matrix, its last axis across, the others down; coarser where it is large.

    Attributes:
        rows, columns: cells of the grid; values: the largest |M - A| in each, absolute, row by row.
        witness: "A", or "N" where autodiff is silent.
        scale: the largest |A| (or |N|) of the leaf.
        shape: of the matrix: (product of the leading axes, last axis).
    """

    path: str
    rows: int
    columns: int
    values: Numbers
    witness: str
    scale: float
    shape: tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Line(Data):
    """A line of source as it was: `number` from 1."""

    file: str
    number: int
    text: str


@dataclasses.dataclass(frozen=True, eq=False)
class Made(Data):
    """How and where a report was made.

    Attributes:
        date: the end of the check, ISO 8601, UTC.
        versions: (package, version), jaxcheck's own first. device: `cpu`, `gpu (NVIDIA H100 80GB HBM3)`.
        file, line: where the function under test is defined; "" and 0 where that is not known.
        source: the lines around each culprit.
        again: the command that repeats it, where it was made by one; else "".
    """

    date: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    device: str = ""
    file: str = ""
    line: int = 0
    source: tuple[Line, ...] = ()
    again: str = ""
