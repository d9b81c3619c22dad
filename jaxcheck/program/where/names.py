"""Which statement gave a name the value that it has where it is read."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from jaxcheck.program.where import source, syntax
from jaxcheck.program.where.places import Place

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@source.remembered
def chain(place: Place, name: str) -> tuple[tuple[str, Place], ...]:
    """How a name that an expression reads was only given another's value, and that another's, and so on: each time the
    other name and where it stands in the statement `b = a`. It ends where it is not plain which statement that was."""
    found: list[tuple[str, Place]] = []
    at = place
    while (before := _handed(at, name)) is not None and before not in found and before[1].line != place.line:
        found.append(before)
        name, at = before
    return tuple(found)


def _handed(place: Place, name: str) -> tuple[str, Place] | None:
    """The name whose value alone a name was given, as it is read at a place, and where that stands."""
    function = source.function_at(place)
    if function is None:
        return None
    given = _given_once(function).get(name) or _reaching(function, place.line, name)
    return (given.id, source.place_of(place, given)) if isinstance(given, ast.Name) and given.id != name else None


def is_given_once(place: Place, name: str) -> bool:
    """Whether a name is given a value in one place of the function around an expression."""
    function = source.function_at(place)
    return function is not None and _stores(function)[name] == 1


@source.remembered
def _stores(node: ast.AST) -> Counter[str]:
    """How often each name is given a value inside."""
    return Counter(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load))


@source.remembered
def _given_once(function: ast.AST) -> dict[str, ast.expr]:
    """The names that are given a value in one place of a function, each with what it is given."""
    return {name: value for name, value in source.assigned(function) if _stores(function)[name] == 1}


@source.remembered
def _reaching(function: ast.AST, line: int, name: str) -> ast.expr | None:
    """What a name was given last before a line, whichever way that was come to; None where that depends, or where it
    was not an assignment."""
    for suite, around in _suites(function, line):
        for statement in reversed(suite):
            if not _stores(statement)[name]:
                continue
            pairs = dict(source.assigned(statement)) if isinstance(statement, ast.Assign) else {}
            return pairs.get(name)
        if isinstance(around, _LOOPS) and _stores(around)[name]:
            return None  # it may be what the turn before gave it
    return None


def _suites(function: ast.AST, line: int) -> Iterator[tuple[list[ast.stmt], ast.AST]]:
    """The statements that are run before a line is, of each block around it, the innermost first; and what the block
    belongs to."""
    found: list[tuple[list[ast.stmt], ast.AST]] = []
    node = function
    while node is not None:
        inside = None
        for field in ("body", "orelse", "handlers", "finalbody"):
            given = getattr(node, field, None)
            block = given if isinstance(given, list) else []
            for n, statement in enumerate(block):
                if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
                    found.append((block[:n], node))
                    inside = statement
        node = None if isinstance(inside, _FUNCTIONS) else inside
    return reversed(found)


@source.remembered
def listed(place: Place) -> frozenset[str]:
    """The names that the loops around an expression give what they take from lists, numbers they count by not among
    them."""
    function = source.function_at(place)
    found: set[str] = set()
    for node in ast.walk(function) if function is not None else ():
        if not isinstance(node, ast.For) or not node.lineno <= place.line <= (node.end_lineno or 0):
            continue
        if isinstance(node.iter, ast.Call) and syntax.called(node.iter) == "range":
            continue
        found |= {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
    return frozenset(found)


@source.remembered
def unpacked(call: Place) -> tuple[str, ...]:
    """The names that what a call gives is taken apart to, "" for what is no name; () where it is not."""
    function = source.function_at(call)
    for node in ast.walk(function) if function is not None else ():
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and source.spans(node.value, call):
            target = node.targets[0]
            if isinstance(target, ast.Tuple):
                return tuple(n.id if isinstance(n, ast.Name) else "" for n in target.elts)
    return ()


@source.remembered
def returned_names(place: Place) -> tuple[tuple[str, Place], ...]:
    """The names that the function around an expression returns as they are, each with where it stands."""
    function = source.function_at(place)
    found = []
    for node in ast.walk(function) if isinstance(function, _FUNCTIONS) else ():
        if isinstance(node, ast.Return):
            parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            found += [(part.id, source.place_of(place, part)) for part in parts if isinstance(part, ast.Name)]
    return tuple(found)


@source.remembered
def returned(place: Place) -> int:
    """Which of the things that its function returns an expression is, from 0; -1 for none."""
    function = source.function_at(place)
    for node in ast.walk(function) if isinstance(function, _FUNCTIONS) else ():
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            for n, part in enumerate(node.value.elts):
                if source.spans(part, place):
                    return n
    return -1


def is_returned(place: Place) -> bool:
    """Whether what stands at a place is a name that its function returns."""
    return any(where[1:5] == place[1:5] for _, where in returned_names(place))


@source.remembered
def taken_apart(place: Place) -> dict[str, bool]:
    """The names to which a function takes its own parameters apart, and whether it reads them, at one of its places."""
    function = source.function_at(place)
    if not isinstance(function, _FUNCTIONS):
        return {}
    given = {a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
    read = Counter(n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    found = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Name):
            parts = [n.id for n in ast.walk(node.targets[0]) if isinstance(n, ast.Name)]
            found |= {name: read[name] > 0 for name in parts if node.value.id in given}
    return found
