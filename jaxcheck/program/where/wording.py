"""A change as the caller would write it, where the source is there to be changed; and in words."""

from __future__ import annotations

import ast
import linecache
from fractions import Fraction

import numpy as np

from jaxcheck.program.where import reductions, source, terms
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.handed import is_argument
from jaxcheck.program.where.places import Place
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Group, Site
from jaxcheck.program.where.tape import Op, Tape
from jaxcheck.there import there

_CALLS = {"root": "jnp.sqrt({})", "exp": "jnp.exp({})", "log": "jnp.log({})", "tanh": "jnp.tanh({})", "not": "~{}",
          "square": "{}**2", "cube": "{}**3", "one minus": "(1 - {})", "slope of tanh": "(1 - {}**2)",
          "inverse": "(1 / {})", "transpose": "{}.T"}  # fmt: skip
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "gt": ">", "lt": "<", "ge": ">=", "le": "<=", "eq": "==",
          "ne": "!="}  # fmt: skip


def changed_line(problem: Problem, edit: Edit) -> str:
    """The line with the change made, without its indentation; "" where that cannot be written."""
    place = edit.site.place
    line = linecache.getline(place.file, place.line)
    node = source.expression(place)
    if not line.strip() or node is None or place.line != place.end_line or is_argument(_op(problem, edit)):
        return ""
    if edit.form in reductions.FORMS:
        target = reductions.axis_in(node)
    else:
        target = _number_in(node, problem, edit) or _target(node, problem, edit)
    if target is None or target.lineno != place.line or target.end_lineno != place.line:
        return ""
    text = _segment(place.file, target)
    new = _rewritten(problem, edit, node, target, text)
    if not new:
        return ""
    raw = line.encode()
    plain, held = (
        (raw[: target.col_offset] + said.encode() + raw[target.end_col_offset :]).decode().strip()
        for said in (new, f"({new})")
    )
    return plain if source.same_meaning(plain, held) else held


def _op(problem: Problem, edit: Edit) -> Op:
    return problem.tape.ops[edit.site.ops[0]]


def _target(node: ast.expr, problem: Problem, edit: Edit) -> ast.expr | None:
    """What is changed within an expression, where that makes no more than it."""
    operand = node if edit.slot == OUT else source.operand(node, edit.slot, len(_op(problem, edit).ins))
    return operand if _alone(problem, edit) else None


def _number_in(node: ast.expr, problem: Problem, edit: Edit) -> ast.expr | None:
    """The number of an expression that is scaled, where it holds no other as large."""
    number = _literal(problem, edit)
    if edit.form != "scale" or number is None:
        return None
    found = [x for x in ast.walk(node) if isinstance(x, ast.Constant) and x.value == number]
    return found[0] if len(found) == 1 else None


def _alone(problem: Problem, edit: Edit) -> bool:
    """Whether an expression makes this one operation, or this one last where its result is changed."""
    tape = problem.tape
    k = edit.site.ops[0]
    stack = tape.ops[k].stack
    run = [k]
    for step in (-1, 1):
        j = k + step
        while 0 <= j < len(tape.ops) and tape.ops[j].stack == stack:
            run.append(j)
            j += step
    if edit.slot == OUT and edit.other is None:
        return max(run) == k
    return all(j == k or tape.ops[j].name in ("broadcast_in_dim", "convert_element_type") for j in run)


def _segment(file: str, node: ast.expr) -> str:
    raw = linecache.getline(file, node.lineno).encode()
    return raw[node.col_offset : node.end_col_offset].decode()


def _held(file: str, node: ast.expr) -> str:
    """An expression's text, in parentheses where it needs them beside another operator."""
    bare = isinstance(node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.Constant))
    return _segment(file, node) if bare else f"({_segment(file, node)})"


def _rewritten(problem: Problem, edit: Edit, node: ast.expr, target: ast.expr, text: str) -> str:
    if edit.form in reductions.FORMS:
        return reductions.axis_as(text, edit, problem.tape)
    held = _held(edit.site.place.file, target)
    factor = problem.constants.as_written(edit.factor)
    if edit.form in _CALLS:
        op, tape = _op(problem, edit), problem.tape
        ndim = tape.values[op.outs[0] if edit.slot == OUT else op.ins[edit.slot]].ndim
        wrap = "{}.mT" if edit.form == "transpose" and ndim > 2 else _CALLS[edit.form]
        return wrap.format(text if wrap.endswith("({})") else held)
    if edit.form == "scale":
        return _scaled(target, held, factor)
    if edit.form == "drop":
        operand = source.operand(node, int(edit.detail), len(problem.tape.ops[edit.site.ops[0]].ins))
        return _segment(edit.site.place.file, operand) if operand is not None else ""
    instead = edit.form == "instead" and edit.detail in _SIGNS
    if isinstance(node, (ast.BinOp, ast.Compare)) and (instead or edit.form == "exchange"):
        left, right = (_held(edit.site.place.file, there(source.operand(node, j, 2))) for j in (0, 1))
        sign = source.sign(node)
        return f"{left} {_SIGNS[edit.detail]} {right}" if instead else f"{right} {sign} {left}" if sign else ""
    return _with_values(problem, edit, held, text, factor)


def _with_values(problem: Problem, edit: Edit, held: str, text: str, factor: float) -> str:
    """What is written where other values of the pass take part."""
    old = problem.tape.ops[edit.site.ops[0]]
    shape = problem.runs[0][old.outs[0] if edit.slot == OUT else old.ins[edit.slot]].shape
    names = [held if g.made[:1] == edit.site.ops[:1] else _shaped(problem, g, edit, shape) for g in edit.groups]
    if not names or not all(names):
        return ""
    sign = "-" if factor < 0 else "+"
    added = f"{held if sign == '-' else text} {sign} "
    if edit.form in terms.FORMS:
        return added + _scaled(None, _summed(problem, edit, names, len(shape)), abs(factor))
    return {
        "swap": _scaled(None, names[0], factor),
        "turned": _scaled(None, f"{names[0]}.T", factor),
        "times": f"{_scaled(None, held, factor)} * {names[0]}",
        "over": f"{_scaled(None, held, factor)} / {names[0]}",
        **dict.fromkeys(("plus", "plus product"), added + _scaled(None, " * ".join(names), abs(factor))),
    }.get(edit.form, "")


def _summed(problem: Problem, edit: Edit, names: list[str], ndim: int) -> str:
    """A product of values that is summed over axes, times another value or not."""
    times = edit.form.startswith("plus times")
    inner = names[times:]
    call = f"{' * '.join(inner)}" if len(inner) == 1 else f"({' * '.join(inner)})"
    axes = tuple(a - ndim if a == ndim - 1 else a for a in edit.axes)
    axis = f"{axes[0] if len(axes) == 1 else axes}, keepdims=True" if ndim > len(axes) else ""
    return f"{names[0]} * " * times + f"{call}.{edit.form.rsplit(' ', 1)[1]}({axis})"


def _scaled(target: ast.expr | None, held: str, c: float) -> str:
    if isinstance(target, ast.Constant) and isinstance(target.value, (int, float)):
        return f"{target.value * c:.12g}"
    if c == 1:
        return held
    if c == -1:
        return f"-{held}"
    near = Fraction(c).limit_denominator(1000)
    if abs(float(near) - c) <= 1e-12 * abs(c) and near.denominator > 1:
        times = "" if near.numerator == 1 else f"{near.numerator} * "
        return f"{times}{held} / {near.denominator}"
    return f"{c:.12g} * {held}"


def _shaped(problem: Problem, group: Group, edit: Edit, shape: tuple[int, ...]) -> str:
    """The name of a value as it is written where an array of a shape stands, or ""."""
    name = value_name(problem, group, edit.site)
    if not name:
        return ""
    own = problem.runs[0][group.ids[0]].shape
    try:
        np.broadcast_shapes(own, shape)
        plain = len(own) <= len(shape)
    except ValueError:
        plain = False
    return name if plain else f"{name}.T" if own[::-1] == shape else ""


def value_name(problem: Problem, group: Group, site: Site) -> str:
    """How the function that holds a site calls a value of the backward pass there, or ""."""
    if group.what != "own" or (len(group.ids) > 1) != (len(site.ops) > 1) or group.made[:1] == site.ops[:1]:
        return ""
    values = problem.runs[0]
    same = [
        g
        for g in problem.own
        if len(g.ids) == len(group.ids)
        and all(np.array_equal(values[i], values[j]) for i, j in zip(g.ids, group.ids, strict=True))
    ]
    return next((name for g in (group, *same) if (name := _named(problem, g, site))), "")


def _named(problem: Problem, group: Group, site: Site) -> str:
    tape, place = problem.tape, site.place
    found: list[tuple[str, Place]] = []
    k = group.made[0]
    last = k + 1 == len(tape.ops) or tape.ops[k + 1].stack != tape.ops[k].stack  # else a part of the expression
    if group.place is not None and last and not is_argument(tape.ops[k]) and _near(group.made, site):
        found.append((source.name_of(group.place), group.place))
    last_users = {tape.ops[k].stack[:1] for k in problem.users.get(group.ids[-1], ())}
    for k in problem.users.get(group.ids[0], ()):
        op = tape.ops[k]
        if op.stack[:1] not in last_users:  # another name for one turn's
            continue
        node = source.expression(op.stack[0]) if op.stack and _whole(tape, k) else None
        used = None if node is None else source.operand(node, op.ins.index(group.ids[0]), len(op.ins))
        if isinstance(used, (ast.Name, ast.Subscript)) and used.lineno == used.end_lineno and _near((k,), site):
            found.append((_segment(op.stack[0].file, used), op.stack[0]))
    for name, where in found:
        if name and where[::5] == place[::5] and source.holds(name, where, place):
            return name
    return ""


def _whole(tape: Tape, k: int) -> bool:
    """Whether an operation is all that its expression makes, but for what brings operands to its shape."""
    stack = tape.ops[k].stack
    after = k + 1 < len(tape.ops) and tape.ops[k + 1].stack == stack
    before = [tape.ops[j].name for j in range(max(k - 2, 0), k) if tape.ops[j].stack == stack]
    return not after and all(name in ("broadcast_in_dim", "convert_element_type") for name in before)


def _near(made: tuple[int, ...], site: Site) -> bool:
    """Whether an operation belongs to the same turn of a Python loop as the site's, as far as the order tells."""
    if len(site.ops) == 1:
        return True
    if len(made) == len(site.ops):
        return all(a < k for a, k in zip(made, site.ops, strict=True)) and all(
            k < a for k, a in zip(site.ops, made[1:], strict=False)
        )
    return 2 * site.ops[0] - site.ops[1] < made[0] < site.ops[1]


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
    on = "an argument" if is_argument(_op(problem, edit)) else _changed(problem, edit)
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


def _changed(problem: Problem, edit: Edit) -> str:
    if edit.slot == OUT:
        return "the result"
    number = _literal(problem, edit)
    return f"operand {edit.slot + 1} of `{edit.site.name}`" if number is None else f"the number {number:.6g}"


def _literal(problem: Problem, edit: Edit) -> float | None:
    """The number of the source that is changed, if it is one."""
    if edit.slot == OUT or len(edit.site.ops) > 1:
        return None
    operand = _op(problem, edit).ins[edit.slot]
    value = problem.runs[0][operand]
    known = operand in problem.tape.literals and np.size(value) == 1 and value.dtype.kind in "fiu"
    return value.item() if known else None


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
