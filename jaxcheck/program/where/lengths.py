"""Constants that are the length of an axis: a change that writes them as numbers would be right for this call alone."""

from __future__ import annotations

import numpy as np

from jaxcheck.bars import NICE
from jaxcheck.program.where.edits import Edit
from jaxcheck.program.where.naming import literal, value_name
from jaxcheck.program.where.problem import Problem

# Lengths from which on a constant is taken for one: a 2 is a 2.
LEAST = 3
_TIMES = (1.0, 2.0, 0.5)
# Constants that anybody writes as numbers.
PLAIN = (0.0, 0.5, 1.0, 2.0)


def length_in(problem: Problem, edit: Edit) -> int:
    """The length of an axis, or the product of two, that the constant of a change is, or that a number of the source
    becomes, times a half, one or two, or one over it; 0 for none."""
    number = literal(problem, edit)
    sizes = [int(n) for n in problem.constants.sizes if n >= LEAST]
    lengths = list(dict.fromkeys([*sizes, *(m * n for m in sizes for n in sizes)]))
    found = _among(lengths, edit.factor, (1.0,) if number is not None else _TIMES)
    return found or (_among(lengths, edit.factor * number, _TIMES) if number is not None else 0)


def _among(lengths: list[int], factor: float, times: tuple[float, ...]) -> int:
    if not np.isfinite(factor) or abs(factor) in PLAIN:
        return 0
    for c in times:  # a length itself before the half of another
        for n in lengths:
            if any(abs(abs(factor) - c * x) <= NICE * c * x for x in (n, 1 / n)):
                return n
    return 0


def as_written(problem: Problem, edit: Edit, n: int) -> str:
    """A length as the caller would write it: `x.shape[0]`, where all arrays that have it have it as their first axis,
    and none of the parameters; "" where nobody knows which axis is meant."""
    values, tape = problem.runs[0], problem.tape
    count = len(tape.outputs)
    if any(n in np.shape(values[i]) for i in tape.inputs[:count]):
        return ""
    having = [g for g in problem.own if n in np.shape(values[g.ids[0]])]
    named = [(name, g) for g in having if (name := value_name(problem, g, edit.site)).isidentifier()]
    if not named or any(n in np.shape(values[g.ids[0]])[1:] for _, g in named):
        return ""
    return f"{named[0][0]}.shape[0]"
