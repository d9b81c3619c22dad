"""A change as the caller would write it, where the source is there to be changed."""

from __future__ import annotations

import ast
import linecache
from fractions import Fraction

import numpy as np

from jaxcheck.program.where import lengths, reductions, source, syntax, terms
from jaxcheck.program.where.edits import OUT, WIDER, Edit, fitted
from jaxcheck.program.where.handed import is_argument
from jaxcheck.program.where.naming import literal, value_name
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Group
from jaxcheck.program.where.tape import Op
from jaxcheck.there import there

_CALLS = {"root": "jnp.sqrt({})", "exp": "jnp.exp({})", "log": "jnp.log({})", "tanh": "jnp.tanh({})", "not": "~{}",
          "square": "{}**2", "cube": "{}**3", "one minus": "(1 - {})", "slope of tanh": "(1 - {}**2)",
          "inverse": "(1 / {})", "transpose": "{}.T", "adjoint": "{}.conj().T", "times i": "1j * {}",
          "over i": "-1j * {}"}  # fmt: skip
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "gt": ">", "lt": "<", "ge": ">=", "le": "<=", "eq": "==",
          "ne": "!="}  # fmt: skip

# Characters of a number that somebody would have written. A choice.
SHORT = 6


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
    text = source.segment(place.file, target)
    new = _rewritten(problem, edit, node, target, text)
    changed = source.replaced(place, target, new) if new else ""
    return "" if changed == line.strip() else changed  # the name that it goes by means another value there


def _op(problem: Problem, edit: Edit) -> Op:
    return problem.tape.ops[edit.site.ops[0]]


def _target(node: ast.expr, problem: Problem, edit: Edit) -> ast.expr | None:
    """What is changed within an expression, where that makes no more than it."""
    if edit.slot == OUT:
        return node if _alone(problem, edit) else None
    op = _op(problem, edit)
    if op.ins[edit.slot] in problem.tape.literals and isinstance(node, ast.Call):
        # A number of the function's own, the one of `ones`: an array of it is that many times as large.
        return node if op.name == "broadcast_in_dim" and edit.form == "scale" and _alone(problem, edit) else None
    return syntax.operand(node, edit.slot, len(op.ins)) if _alone(problem, edit) else None


def _number_in(node: ast.expr, problem: Problem, edit: Edit) -> ast.expr | None:
    """The number of an expression that is scaled, where it holds no other as large."""
    number = literal(problem, edit)
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


def _held(file: str, node: ast.expr) -> str:
    """An expression's text, in parentheses where it needs them beside another operator."""
    bare = isinstance(node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.Constant))
    return source.segment(file, node) if bare else f"({source.segment(file, node)})"


def _rewritten(problem: Problem, edit: Edit, node: ast.expr, target: ast.expr, text: str) -> str:
    if edit.form in reductions.FORMS:
        return reductions.axis_as(text, edit, problem.tape)
    held = _held(edit.site.place.file, target)
    factor = problem.constants.as_written(edit.factor)
    n = lengths.length_in(problem, edit)
    length = lengths.as_written(problem, edit, n) if n else ""
    if n and not length:
        return ""
    if length:  # as a name, which stands for the number
        return _with_length(problem, edit, held, text, n, length)
    if edit.form in _CALLS:
        op, tape = _op(problem, edit), problem.tape
        value = tape.values[op.outs[0] if edit.slot == OUT else op.ins[edit.slot]]
        wrap = "{}.mT" if edit.form == "transpose" and value.ndim > 2 else _CALLS[edit.form]
        if edit.form == "not" and value.dtype != bool:  # a mask of ones and zeros
            wrap = _CALLS["one minus"]
        return wrap.format(text if wrap.endswith("({})") else held)
    if edit.form == "scale":
        return _scaled(target, held, factor)
    if edit.form == "conjugate":
        return _conjugate(edit.site.place.file, target, text)
    if edit.form == "drop":
        operand = syntax.operand(node, int(edit.detail), len(problem.tape.ops[edit.site.ops[0]].ins))
        return source.segment(edit.site.place.file, operand) if operand is not None else ""
    instead = edit.form == "instead" and edit.detail in _SIGNS
    if isinstance(node, (ast.BinOp, ast.Compare)) and (instead or edit.form == "exchange"):
        left, right = (_held(edit.site.place.file, there(syntax.operand(node, j, 2))) for j in (0, 1))
        sign = syntax.sign(node)
        return f"{left} {_SIGNS[edit.detail]} {right}" if instead else f"{right} {sign} {left}" if sign else ""
    return _with_values(problem, edit, held, text, factor)


def _conjugate(file: str, target: ast.expr, text: str) -> str:
    """An expression conjugated; of the conjugate of one, transposed it may be, that one."""
    inner = syntax.conjugated(target)
    if inner is not None:
        return source.segment(file, inner)
    if isinstance(target, ast.Attribute) and target.attr in ("T", "mT"):
        inner = syntax.conjugated(target.value)
    return f"jnp.conj({text})" if inner is None else f"{_held(file, inner)}{text[text.rindex('.') :]}"


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
        **dict.fromkeys(("times", WIDER), f"{_scaled(None, held, factor)} * {names[0]}"),
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


def _with_length(problem: Problem, edit: Edit, held: str, text: str, n: int, length: str) -> str:
    """What is written where the constant is the length of an axis."""
    times, over = _in_lengths(edit.factor, n)
    sign = "-" if edit.factor < 0 else ""

    def scaled(x: str) -> str:
        k = times or over
        said = x if k == 1 else f"{_digits(k)} * {x}"
        return f"{sign}{said} {'*' if times else '/'} {length}"

    if edit.form == "scale" and not (times or over):  # what stands there becomes a length
        times, over = _in_lengths(edit.factor * (literal(problem, edit) or 0), n)
        if not (times or over):
            return ""
        return f"{sign}{_digits(over)} / {length}" if over else f"{sign}{f'{_digits(times)} * ' * (times != 1)}{length}"
    if edit.form == "scale":
        return scaled(held)
    if edit.form in ("plus", "swap"):
        old = problem.tape.ops[edit.site.ops[0]]
        shape = problem.runs[0][old.outs[0] if edit.slot == OUT else old.ins[edit.slot]].shape
        name = _shaped(problem, edit.groups[0], edit, shape)
        if not name:
            return ""
        return scaled(name) if edit.form == "swap" else f"{text} {sign or '+'} {scaled(name).removeprefix('-')}"
    return ""


def _in_lengths(c: float, n: int) -> tuple[float, float]:
    """(how many times a length a constant is, how many times one over it), each 0 where it is none."""
    one, other = (next((k for k in (1.0, 2.0, 0.5) if np.isclose(abs(c), k * x)), 0.0) for x in (n, 1 / n))
    return one, other


def _scaled(target: ast.expr | None, held: str, c: float) -> str:
    if isinstance(target, ast.Constant) and isinstance(target.value, (int, float)):
        return _digits(target.value * c)
    if c == 1:
        return held
    if c == -1:
        return f"-{held}"
    near = Fraction(c).limit_denominator(1000)
    if abs(float(near) - c) <= 1e-12 * abs(c) and near.denominator > 1:
        times = "" if near.numerator == 1 else f"{near.numerator} * "
        return f"{times}{held} / {near.denominator}"
    return f"{_digits(c)} * {held}"


def _digits(x: float) -> str:
    """A number as one would write it: one that is compared with is float32's nearest to that where it runs."""
    short = str(np.float32(x))
    near = abs(float(short) - x) <= np.finfo(np.float32).eps * abs(x)
    return f"{float(short):.12g}" if near and len(short) <= SHORT else f"{x:.12g}"


def _shaped(problem: Problem, group: Group, edit: Edit, shape: tuple[int, ...]) -> str:
    """The name of a value as it is written where an array of a shape stands, or ""."""
    name = value_name(problem, group, edit.site, edit)
    if not name:
        return ""
    x = problem.runs[0][group.ids[0]]
    if edit.form == WIDER:  # as it stands
        return name
    meant = fitted(x, shape)
    rows = x.reshape(*x.shape, *[1] * (len(shape) - x.ndim)) if 0 < x.ndim < len(shape) else x
    ways = {name: x, f"{name}.T": x.T, f"{name}[{':, ' * x.ndim}{', '.join(['None'] * (rows.ndim - x.ndim))}]": rows}
    return next((said for said, y in ways.items() if meant is not None and _is_so(y, meant)), "")


def _is_so(x: np.ndarray, meant: np.ndarray) -> bool:
    """Whether a value beside one of a shape is what is meant there."""
    try:
        return np.array_equal(np.broadcast_to(x, meant.shape), meant)
    except ValueError:
        return False
