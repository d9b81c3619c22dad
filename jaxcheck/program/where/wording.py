"""A change as the caller would write it, where the source is there to be changed; and in words."""

from __future__ import annotations

import ast
import linecache
from fractions import Fraction

import numpy as np

from jaxcheck.program.where import source
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.places import Place
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Group

_CALLS = {"root": "jnp.sqrt({})", "exp": "jnp.exp({})", "log": "jnp.log({})", "tanh": "jnp.tanh({})", "not": "~{}",
          "square": "{}**2", "cube": "{}**3", "one minus": "(1 - {})", "slope of tanh": "(1 - {}**2)", "inverse": "(1 / {})",
          "transpose": "{}.T"}  # fmt: skip
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "gt": ">", "lt": "<", "ge": ">=", "le": "<=", "eq": "==",
          "ne": "!="}  # fmt: skip


def changed_line(problem: Problem, edit: Edit) -> str:
    """The line with the change made, without its indentation; "" where that cannot be written."""
    place = edit.site.place
    line = linecache.getline(place.file, place.line)
    node = source.expression(place)
    if not line.strip() or node is None or place.line != place.end_line:
        return ""
    target = node if edit.slot == OUT else source.operand(node, edit.slot, len(problem.tape.ops[edit.site.ops[0]].ins))
    if target is None or target.lineno != place.line or target.end_lineno != place.line:
        return ""
    text = _segment(place.file, target)
    new = _rewritten(problem, edit, node, target, text)
    if not new:
        return ""
    raw = line.encode()
    return (raw[: target.col_offset] + new.encode() + raw[target.end_col_offset :]).decode().strip()


def _segment(file: str, node: ast.expr) -> str:
    raw = linecache.getline(file, node.lineno).encode()
    return raw[node.col_offset : node.end_col_offset].decode()


def _rewritten(problem: Problem, edit: Edit, node: ast.expr, target: ast.expr, text: str) -> str:
    bare = isinstance(target, (ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.Constant))
    held = text if bare else f"({text})"
    if edit.form in _CALLS:
        wrap = _CALLS[edit.form]
        return wrap.format(text if wrap.endswith("({})") else held)
    if edit.form == "scale":
        return _scaled(target, held, edit.factor)
    if edit.form == "drop":
        operand = source.operand(node, int(edit.detail), len(problem.tape.ops[edit.site.ops[0]].ins))
        return _segment(edit.site.place.file, operand) if operand is not None else ""
    if edit.form == "instead" and isinstance(node, (ast.BinOp, ast.Compare)) and edit.detail in _SIGNS:
        left, right = (source.operand(node, j, 2) for j in (0, 1))
        return f"{_segment(edit.site.place.file, left)} {_SIGNS[edit.detail]} {_segment(edit.site.place.file, right)}"
    if edit.form == "exchange" and isinstance(node, (ast.BinOp, ast.Compare)):
        left, right = (_segment(edit.site.place.file, source.operand(node, j, 2)) for j in (0, 1))
        sign = source.sign(node)
        return f"{right} {sign} {left}" if sign else ""
    names = [value_name(problem, g, edit.site.place) for g in edit.groups]
    if not names or not all(names):
        return ""
    if edit.form == "swap":
        return _scaled(None, names[0], edit.factor)
    if edit.form == "turned":
        return _scaled(None, f"{names[0]}.T", edit.factor)
    if edit.form == "times":
        return f"{_scaled(None, held, edit.factor)} * {names[0]}"
    if edit.form == "over":
        return f"{_scaled(None, held, edit.factor)} / {names[0]}"
    if edit.form in ("plus", "plus product"):
        sign = "-" if edit.factor < 0 else "+"
        added = f"{text} {sign} {_scaled(None, ' * '.join(names), abs(edit.factor))}"
        return added if target is source.whole(edit.site.place) else f"({added})"
    return ""


def _scaled(target: ast.expr | None, held: str, c: float) -> str:
    if isinstance(target, ast.Constant) and isinstance(target.value, (int, float)):
        return f"{target.value * c:.12g}"
    if c == 1:
        return held
    if c == -1:
        return f"-{held}"
    near = Fraction(c).limit_denominator(1000)
    if abs(float(near) - c) <= 1e-12 * abs(c) and near.denominator > 1:
        return f"{held} / {near.denominator}" if near.numerator == 1 else f"{near.numerator} * {held} / {near.denominator}"
    return f"{c:.12g} * {held}"


def value_name(problem: Problem, group: Group, place: Place) -> str:
    """How the function that holds a place calls a value of the backward pass, or ""."""
    if group.what != "own":
        return ""
    values = problem.runs[0]
    same = [g for g in problem.own if len(g.ids) == len(group.ids)
            and all(np.array_equal(values[i], values[j]) for i, j in zip(g.ids, group.ids, strict=True))]
    return next((name for g in (group, *same) if (name := _named(problem, g, place))), "")


def _named(problem: Problem, group: Group, place: Place) -> str:
    if group.place is not None and group.place[::5] == place[::5] and (name := source.name_of(group.place)):
        return name
    for i in set(group.ids):
        for k in problem.users.get(i, ()):
            op = problem.tape.ops[k]
            if not op.stack or op.stack[0][::5] != place[::5]:
                continue
            node = source.expression(op.stack[0])
            used = None if node is None else source.operand(node, op.ins.index(i), len(op.ins))
            if isinstance(used, (ast.Name, ast.Subscript, ast.Attribute)) and used.lineno == used.end_lineno:
                return _segment(place.file, used)
    return ""


def in_words(problem: Problem, edit: Edit) -> str:
    """What is changed, in a few words."""
    given = " and ".join(_what(problem, g, edit.site.place) for g in edit.groups)
    c = "" if edit.factor == 1 else f"{_number(edit.factor)} times "
    on = "the result" if edit.slot == OUT else f"operand {edit.slot + 1} of `{edit.site.name}`"
    said = {
        "scale": f"{on} times {_number(edit.factor)}", "swap": f"{c}{given} for {on}", "turned": f"{c}{given}, transposed, for {on}",
        "times": f"{on} times {c}{given}", "over": f"{on} divided by {given}" + (f", times {_number(edit.factor)}" if c else ""),
        "plus": f"{on} plus {c}{given}", "plus product": f"{on} plus {c}the product of {given}",
        "product": f"{c}the product of {given} for {on}", "transpose": f"{on} transposed", "drop": f"`{edit.site.name}` left out",
        "instead": f"`{edit.detail}` for `{edit.site.name}`", "exchange": f"the operands of `{edit.site.name}` exchanged",
        "power": f"the power {edit.detail}", "axes": f"the sum over {edit.detail}", "sum over": f"the sum over {edit.detail}",
        "not": f"{on} inverted", "reverse": "in the other direction",
    }  # fmt: skip
    return said.get(edit.form, f"{edit.form} of {on}")


def _number(c: float) -> str:
    near = Fraction(c).limit_denominator(1000)
    return str(near) if abs(float(near) - c) <= 1e-12 * abs(c) else f"{c:.6g}"


def _what(problem: Problem, group: Group, place: Place) -> str:
    if group.what == "own":
        name = value_name(problem, group, place)
        return f"`{name}`" if name else "another value of the backward pass"
    at = f" (line {group.place.line})" if group.place is not None else ""
    return {"forward": "a value of the loss", "local": "a slope of the loss", "use": "a part of a cotangent of the loss",
            "cotangent": "a cotangent of the loss"}[group.what] + at
