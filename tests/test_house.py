"""How the source is kept: few handlers take whatever comes, and no function needs a drawing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "jaxcheck"

# Where whatever is raised is taken, ours included: file, function, and why. Five at most.
BROAD = {
    ("program/ask.py", "ask"): "the gate: the caller's code may refuse anything, and whose it was is seen here",
    ("budget.py", "tell"): "who watches is the caller's, and the ground knows no gate; raised when the check is done",
    ("faces/cases.py", "_tried"): "one file or case that fails is told, and the others are run",
    (
        "check/minimise.py",
        "stays",
    ): "a check of smaller data is refused by doors in the ways of the doors; it is no answer",
    ("check/where.py", "blamed"): "the verdict is made by then, and stands without a line",
}


def trees() -> dict[str, ast.Module]:
    files = sorted(PACKAGE.rglob("*.py"))
    return {str(file.relative_to(PACKAGE)): ast.parse(file.read_text("utf-8")) for file in files}


def functions(tree: ast.AST, around: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every node with the function that it stands in, "" for none."""
    for node in ast.iter_child_nodes(tree):
        yield around, node
        yield from functions(node, node.name if isinstance(node, ast.FunctionDef) else around)


def is_broad(node: ast.AST) -> bool:
    """Whether a handler, or `contextlib.suppress`, takes every exception there is."""
    if isinstance(node, ast.ExceptHandler):
        kinds = [node.type]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        kinds = list(node.args)
    else:
        return False
    names = [
        ast.unparse(one) if one is not None else ""
        for kind in kinds
        for one in (kind.elts if isinstance(kind, ast.Tuple) else [kind])
    ]
    return bool({"", "Exception", "BaseException"} & {name.split(".")[-1] for name in names})


def broad(sources: dict[str, ast.Module]) -> list[tuple[str, str]]:
    return [(file, function) for file, tree in sources.items() for function, node in functions(tree) if is_broad(node)]


def test_few_handlers_take_whatever_comes():
    assert len(BROAD) <= 5 and all(BROAD.values())
    assert sorted(broad(trees())) == sorted(BROAD)


def test_and_such_a_handler_is_seen():
    forms = (
        "try:\n  f()\nexcept:\n  pass",
        "try:\n  f()\nexcept (ValueError, Exception):\n  pass",
        "try:\n  f()\nexcept builtins.BaseException as e:\n  pass",
        "with contextlib.suppress(Exception):\n  f()",
    )
    for source in forms:
        assert broad({"x.py": ast.parse(source)}) == [("x.py", "")]
    assert not broad({"x.py": ast.parse("try:\n  f()\nexcept (ValueError, KeyError):\n  pass")})


LINES, BRANCHES = 40, 10


def size(node: ast.FunctionDef) -> tuple[int, int]:
    """(lines of the body without its docstring, branches of its own): a signature is as long as its options."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    own = [one for inner, one in functions(node, node.name) if inner == node.name]
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0, sum(
        isinstance(one, (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.match_case)) for one in own
    )


def test_no_function_needs_a_drawing():
    found = {
        (file, node.name)
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (size(node)[0] > LINES or size(node)[1] > BRANCHES)
    }
    assert not found


def test_and_the_size_of_a_function_is_seen():
    source = 'def f(\n  x,\n):\n  """Two\n  lines."""\n  def g():\n    if x: pass\n  if x:\n    pass\n  elif g: pass\n'
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef) and size(node) == (5, 2)
