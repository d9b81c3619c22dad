"""What the caller's source says about an expression: its text, the name it is given, and names given to that name."""

from __future__ import annotations

import ast
import functools
import linecache
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from jaxcheck.program.where import syntax
from jaxcheck.program.where.places import Place

_REPEATING = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Functions that call the one they are given over and over.
_MAPPING = ("map", "tree_map")


_CACHES: list[Any] = []


def remembered(f: Callable) -> Callable:
    """A function whose answers are kept until what is written may have changed (`forget`)."""
    kept = functools.lru_cache(maxsize=4096)(f)
    _CACHES.append(kept)
    return kept


def forget() -> None:
    """Files are read anew: one that was written and loaded again has other things on its lines."""
    linecache.checkcache()
    for kept in _CACHES:
        kept.cache_clear()


def text_of(place: Place) -> str:
    """The line, without its indentation; "" where the source cannot be read."""
    return linecache.getline(place.file, place.line).strip()


def segment(file: str, node: ast.expr) -> str:
    """The text of an expression that stands on one line."""
    raw = linecache.getline(file, node.lineno).encode()
    return raw[node.col_offset : node.end_col_offset].decode()


def unparsed(node: ast.AST) -> str:
    """An expression as text."""
    return ast.unparse(node)


@remembered
def _tree(file: str, source: str) -> ast.AST | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


@remembered
def _within(file: str, line: int, tree: ast.AST) -> ast.AST:
    found = tree
    for node in ast.walk(tree):
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if inside and node.lineno <= line <= (node.end_lineno or node.lineno):
            found = node  # walked from the outside in
    return found


def function_at(place: Place) -> ast.AST | None:
    """The innermost function around an expression, or the module."""
    tree = _tree(place.file, "".join(linecache.getlines(place.file)))
    return None if tree is None else _within(place.file, place.line, tree)


@remembered
def assigned(function: ast.AST) -> tuple[tuple[str, ast.expr], ...]:
    """Each name with the expression it is given."""
    return tuple(_assignments(function))


@remembered
def _expressions(function: ast.AST) -> dict[tuple[int, int, int | None, int | None], ast.expr]:
    """The outermost expression that stands from one place to another."""
    found: dict[tuple[int, int, int | None, int | None], ast.expr] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.expr):
            found.setdefault((node.lineno, node.col_offset, node.end_lineno, node.end_col_offset), node)
    return found


@remembered
def _loads(function: ast.AST) -> Counter[str]:
    """How often each name is read."""
    return Counter(n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))


def _assignments(function: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs = list(zip(target.elts, value.elts, strict=True))
        for name, given in pairs:
            if isinstance(name, ast.Name):
                yield name.id, given


def spans(node: ast.expr, place: Place) -> bool:
    return (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset) == place[1:5]


@remembered
def name_of(place: Place) -> str:
    """The name that the expression's value is given, or ""."""
    function = function_at(place)
    if function is None:
        return ""
    return next((name for name, value in assigned(function) if spans(value, place)), "")


@remembered
def is_given(place: Place) -> bool:
    """Whether an expression is all that a statement gives a name, or returns."""
    function = function_at(place)
    kinds = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return)
    return function is not None and any(
        isinstance(node, kinds) and node.value is not None and spans(node.value, place) for node in ast.walk(function)
    )


def aliases(place: Place) -> list[Place]:
    """The statements `b = a` through which alone the value of an expression `a = ...` goes on: they make no
    operation, so that what was forgotten there shows nowhere else."""
    function, name = function_at(place), name_of(place)
    if function is None or not name:
        return []
    found = [
        (given, value)
        for given, value in assigned(function)
        if isinstance(value, ast.Name) and value.id == name and value.lineno > place.line
    ]
    if len(found) != 1 or (_loads(function)[name] > 1 and found[0][0] != name):
        return []
    value = found[0][1]
    return [place_of(place, value)]


def expression(place: Place) -> ast.expr | None:
    """The expression that stands at a place."""
    function = function_at(place)
    return None if function is None else _expressions(function).get(place[1:5])


def whole(place: Place) -> ast.expr | None:
    """The expression at a place, if it is all that is on the right of an assignment."""
    function = function_at(place)
    return None if function is None else next((v for _, v in assigned(function) if spans(v, place)), None)


def alias_before(place: Place, slot: int, count: int) -> list[Place]:
    """The statement `b = a` that gave an operand `b` of an expression its name, if that is how it came by it."""
    node = expression(place)
    used = syntax.operand(node, slot, count) if node is not None and count else None
    function = function_at(place)
    if function is None or not isinstance(used, ast.Name):
        return []
    given = [(value, value.lineno) for name, value in assigned(function) if name == used.id]
    # What else reads the name would change with it.
    if len(given) != 1 or not isinstance(given[0][0], ast.Name) or _loads(function)[used.id] > 1:
        return []
    value = given[0][0]
    return [place_of(place, value)]


def taken(place: Place, slot: int, count: int) -> Place | None:
    """The statement `b = a[i]` on another line that gave an operand `b` of an expression its name, where nothing else
    reads it."""
    node, function = expression(place), function_at(place)
    used = syntax.operand(node, slot, count) if node is not None else None
    if function is None or not isinstance(used, ast.Name) or _loads(function)[used.id] > 1:
        return None
    given = [value for name, value in assigned(function) if name == used.id]
    taken_from = len(given) == 1 and isinstance(given[0], ast.Subscript) and given[0].lineno != place.line
    return place_of(place, given[0]) if taken_from else None


def place_of(place: Place, node: ast.expr) -> Place:
    """The place of another expression of the same function."""
    end = node.end_lineno or node.lineno
    return Place(place.file, node.lineno, node.col_offset, end, node.end_col_offset or 0, place.function)


def function_of(place: Place) -> Any:
    """What tells the function around an expression from others."""
    function = function_at(place)
    return None if function is None else (place.file, function)


@remembered
def names_read(place: Place) -> frozenset[str]:
    """The names that an expression reads."""
    node = expression(place)
    return frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name)) if node is not None else frozenset()


@remembered
def operand_names(place: Place, count: int) -> tuple[str, ...]:
    """The names that stand for the operands of the operation an expression makes, "" where no name does."""
    node = expression(place)
    parts = [syntax.operand(node, j, count) for j in range(count)] if node is not None else []
    return tuple(part.id if isinstance(part, ast.Name) else "" for part in parts)


@remembered
def repeats(place: Place) -> bool:
    """Whether an expression stands in a loop or a comprehension of its function, or in what is mapped over leaves."""
    function = function_at(place)
    return function is not None and any(
        (isinstance(node, _REPEATING) or (isinstance(node, ast.Call) and syntax.called(node) in _MAPPING))
        and (node.lineno, node.col_offset) <= place[1:3]
        and place[3:5] <= (node.end_lineno or 0, node.end_col_offset or 0)
        for node in ast.walk(function)
    )


@remembered
def renamed(place: Place) -> bool:
    """Whether a line reads a name that another line only gave another name's value, `b = a`."""
    function = function_at(place)
    if function is None:
        return False
    read = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and n.lineno == place.line}
    return any(
        name in read and isinstance(value, ast.Name) and value.lineno != place.line
        for name, value in assigned(function)
    )


def holds(name: str, where: Place, place: Place, read: bool = False) -> bool:
    """Whether a name that stands for a value at one place still stands for it at another, as far as lines tell; where
    it was `read`, the line may have given it to another value."""
    function = function_at(place)
    root = name.split("[")[0].split(".")[0]
    first, last = sorted((where.line, place.line))
    stores = (
        [
            n.lineno
            for n in ast.walk(function)
            if isinstance(n, ast.Name) and n.id == root and isinstance(n.ctx, ast.Store)
        ]
        if function is not None
        else []
    )
    after = where.line > place.line  # then what is stored there itself is stored in between
    return not any(first - (read and not after) < line < last + after for line in stores)


def replaced(place: Place, target: ast.expr, new: str) -> str:
    """The line of a place, without its indentation, with an expression on it replaced by another, in parentheses where
    it would not stand for the whole of what was there; "" where no program comes of it."""
    lines = linecache.getlines(place.file)
    raw = lines[place.line - 1].encode()
    made = [
        (raw[: target.col_offset] + said.encode() + raw[target.end_col_offset :]).decode() for said in (new, f"({new})")
    ]
    trees = [_tree(place.file, "".join([*lines[: place.line - 1], line, *lines[place.line :]])) for line in made]
    if trees[1] is None:
        return ""
    same = trees[0] is not None and ast.dump(trees[0]) == ast.dump(trees[1])
    return made[0 if same else 1].strip()


# How many operands an operation has in the source.
OPERANDS = {"add": 2, "sub": 2, "mul": 2, "div": 2, "dot_general": 2, "transpose": 1, "reduce_sum": 1, "integer_pow": 1}


def handed_on(place: Place, operation: str) -> bool:
    """Whether what an expression gives, or takes, is only another name's value."""
    count = OPERANDS.get(operation, 0)
    return bool(aliases(place)) or any(alias_before(place, slot, count) for slot in range(count))
