"""A change in words."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from jaxcheck.program.where import reductions, terms
from jaxcheck.program.where.decisions import is_of_mask
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.handed import is_argument
from jaxcheck.program.where.naming import literal, value_name
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Group, Site


def equation(problem: Problem, site: Site) -> str:
    """An operation with the shapes it takes and the function it stands in, for a source that cannot be read."""
    op, values = problem.tape.ops[site.ops[0]], problem.runs[0]
    shapes = " and ".join("x".join(map(str, np.shape(values[i]))) or "a number" for i in op.ins)
    return f"`{site.name}` of {shapes} in `{site.place.function}`"


def in_words(problem: Problem, edit: Edit) -> str:
    """What is changed, in a few words."""
    given = " and ".join(_what(problem, g, edit.site) for g in edit.groups)
    factor = problem.constants.as_written(edit.factor)
    c = "" if factor == 1 else f"{_number(factor)} times "
    on = "an argument" if is_argument(problem.tape.ops[edit.site.ops[0]]) else _changed(problem, edit)
    times = f", times {_number(factor)}" if c else ""
    said = {
        "scale": f"{on} times {_number(factor)}", "swap": f"{c}{given} for {on}",
        "turned": f"{c}{given}, transposed, for {on}", "times": f"{on} times {c}{given}",
        "over": f"{on} divided by {given}{times}", "plus": f"{on} plus {c}{given}",
        "plus product": f"{on} plus {c}the product of {given}", "product": f"{c}the product of {given} for {on}",
        "transpose": f"{on} transposed", "drop": f"`{edit.site.name}` left out",
        "instead": f"`{edit.detail}` for `{edit.site.name}`",
        "exchange": f"the operands of `{edit.site.name}` exchanged", "power": f"the power {edit.detail}",
        "not": f"{on} inverted", "reverse": "in the other direction",
    }  # fmt: skip
    if edit.form in reductions.FORMS:
        return f"over {reductions.in_words(edit)}"
    if edit.form in terms.FORMS:
        *first, what = edit.form.removeprefix("plus ").split()
        over = "axes " if len(edit.axes) > 1 else "axis "
        given = [_what(problem, g, edit.site) for g in edit.groups]
        summed = f"the {what} of {' times '.join(given[len(first) :])} over {over}{', '.join(map(str, edit.axes))}"
        return f"{on} plus {c}{given[0] + ' times ' if first else ''}{summed}"
    return said.get(edit.form, f"{edit.form} of {on}")


def undecided(problem: Problem, edit: Edit) -> str:
    """What is said of a change of a decision that decides right at the points that were tried, where others do as
    well."""
    op, values = problem.tape.ops[edit.site.ops[0]], problem.runs[0]
    decides = values[op.outs[0]].dtype == bool or edit.other is not None
    said = f"another outcome of {f'`{edit.site.name}`' if decides else 'what it decides'}"
    if is_of_mask(problem, edit):
        said = f"another mask for {'the result' if edit.slot == OUT else _operand(edit)}"
    return f"{said}; how it should be written, the points do not tell"


def _operand(edit: Edit) -> str:
    return f"operand {edit.slot + 1} of `{edit.site.name}`"


def _changed(problem: Problem, edit: Edit) -> str:
    if edit.slot == OUT:
        return "the result"
    number = literal(problem, edit)
    return _operand(edit) if number is None else f"the number {number:.6g}"


def _number(c: float) -> str:
    near = Fraction(c).limit_denominator(1000)
    return str(near) if abs(float(near) - c) <= 1e-12 * abs(c) else f"{c:.6g}"


def _what(problem: Problem, group: Group, site: Site) -> str:
    if group.what == "own":
        name = value_name(problem, group, site)
        if group.made[:1] == site.ops[:1]:
            return "itself"
        return f"`{name}`" if name else "another value of the backward pass"
    at = f" (line {group.place.line})" if group.place is not None else ""
    said = {"forward": "a value", "local": "a slope", "use": "a part of a cotangent", "cotangent": "a cotangent"}
    return f"{said[group.what]} of the loss{at}"
