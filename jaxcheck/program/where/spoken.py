"""A change in words."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from jaxcheck.program.where import lengths, reductions, shifts, source, syntax, terms
from jaxcheck.program.where.decisions import is_of_mask
from jaxcheck.program.where.edits import OUT, WIDER, Edit
from jaxcheck.program.where.handed import is_argument
from jaxcheck.program.where.naming import literal, value_name
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Group, Site

# What of a line is repeated at most.
LONGEST = 60
# What gives a value only another shape or dtype.
_SHAPING = ("broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "copy")


def equation(problem: Problem, site: Site) -> str:
    """An operation with the shapes it takes and the function it stands in, for a source that cannot be read."""
    op, values = problem.tape.ops[site.ops[0]], problem.runs[0]
    shapes = " and ".join("x".join(map(str, np.shape(values[i]))) or "a number" for i in op.ins)
    return f"`{site.name}` of {shapes} in `{site.place.function}`"


def in_words(problem: Problem, edit: Edit) -> str:
    """What is changed, in a few words."""
    given = " and ".join(_what(problem, g, edit) for g in edit.groups)
    factor = problem.constants.as_written(edit.factor)
    c = "" if factor == 1 else f"{_number(factor)} times "
    on = "an argument" if is_argument(problem.tape.ops[edit.site.ops[0]]) else _changed(problem, edit)
    times = f", times {_number(factor)}" if c else ""
    n = lengths.length_in(problem, edit)
    of_axis = f" ({n}: a size here)" if n else ""
    said = {
        "scale": f"{on} times {_number(factor)}", "swap": f"{c}{given} for {on}",
        "turned": f"{c}{given}, transposed, for {on}",
        **dict.fromkeys(("times", WIDER), f"{on} times {c}{given}"),
        "over": f"{on} divided by {given}{times}", "plus": f"{on} plus {c}{given}",
        "plus product": f"{on} plus {c}the product of {given}", "product": f"{c}the product of {given} for {on}",
        "transpose": f"{on} transposed", "conjugate": f"{on} conjugated",
        "adjoint": f"{on} transposed and conjugated", "times i": f"{on} times i",
        "over i": f"{on} divided by i", "drop": f"`{edit.site.name}` left out",
        "instead": f"`{edit.detail}` for `{edit.site.name}`",
        "exchange": f"the operands of `{edit.site.name}` exchanged",
        "power": f"the power {edit.detail} for `{edit.site.name}`",
        "not": f"{on} inverted", "reverse": f"`{edit.site.name}` in the other direction",
        "one minus": f"1 minus {on}", "flip": f"{on} flipped", "later": f"{on} rolled by -1",
        "earlier": f"{on} rolled by 1",
    }  # fmt: skip
    if edit.form in reductions.FORMS:
        return f"over {reductions.in_words(edit)}"
    if edit.form in shifts.FORMS:
        return shifts.in_words(edit, on)
    if edit.form in terms.FORMS:
        *first, what = edit.form.removeprefix("plus ").split()
        over = "axes " if len(edit.axes) > 1 else "axis "
        given = [_what(problem, g, edit) for g in edit.groups]
        summed = f"the {what} of {' times '.join(given[len(first) :])} over {over}{', '.join(map(str, edit.axes))}"
        return f"{on} plus {c}{given[0] + ' times ' if first else ''}{summed}"
    return said.get(edit.form, f"{edit.form} of {on}") + of_axis


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
    op = problem.tape.ops[edit.site.ops[0]]
    if edit.slot == OUT or edit.site.place not in op.stack:  # on a line that only hands it on
        return _result(problem, edit)
    number = literal(problem, edit)
    if number is None:
        return _operand(edit)
    node = source.expression(edit.site.place)
    if edit.site.name == "broadcast_in_dim" and node is not None and not syntax.holds_number(node, number):
        return _result(problem, edit)  # an array of a number that is the function's own
    return f"the number {number:.6g}"


def _result(problem: Problem, edit: Edit) -> str:
    """The result of an operation: of which part of the line, where it is not what the line gives."""
    place, tape = edit.site.place, problem.tape
    node = source.expression(place)
    if node is None or place.line != place.end_line:
        return "the result"
    text = source.segment(place.file, node)
    last = edit.site.ops[0] + 1
    while last < len(tape.ops) and tape.ops[last].name in _SHAPING:
        last += 1
    within = last < len(tape.ops) and tape.ops[last].stack == tape.ops[edit.site.ops[0]].stack
    if len(text) > LONGEST:
        return f"the result of `{edit.site.name}`"
    if within:
        return f"the result of `{edit.site.name}` in `{text}`"
    return "the result" if source.is_given(place) else f"`{text}`"


def _number(c: float) -> str:
    near = Fraction(c).limit_denominator(1000)
    return str(near) if abs(float(near) - c) <= 1e-12 * abs(c) else f"{c:.6g}"


def _what(problem: Problem, group: Group, edit: Edit) -> str:
    if group.what == "own":
        name = value_name(problem, group, edit.site, edit)
        if group.made[:1] == edit.site.ops[:1]:
            return "itself"
        return f"`{name}`" if name else "another value of the backward pass"
    at = f" (line {group.place.line})" if group.place is not None else ""
    said = {"forward": "a value", "local": "a slope", "use": "a part of a cotangent", "cotangent": "a cotangent"}
    return f"{said[group.what]} of the loss{at}"
