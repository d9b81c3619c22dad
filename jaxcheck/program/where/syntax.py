"""An expression of the source next to the operation that it makes."""

from __future__ import annotations

import ast


def sign(node: ast.expr) -> str:
    """The operator of an expression of two operands, "" for one that is not known."""
    op = node.op if isinstance(node, ast.BinOp) else node.ops[0] if isinstance(node, ast.Compare) else None
    return {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.MatMult: "@", ast.Gt: ">", ast.Lt: "<",
            ast.GtE: ">=", ast.LtE: "<="}.get(type(op), "")  # fmt: skip


def operand(node: ast.expr, slot: int, count: int) -> ast.expr | None:
    """The part of an expression that stands for an operand of the operation that it makes."""
    if isinstance(node, ast.BinOp) and count == 2:
        return (node.left, node.right)[slot]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and count == 1:
        return node.left
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and count == 2:
        return (node.left, node.comparators[0])[slot]
    if isinstance(node, ast.UnaryOp) and count == 1:
        return node.operand
    if isinstance(node, ast.Attribute) and count == 1:
        return node.value
    if isinstance(node, ast.Call) and count == 1 and isinstance(node.func, ast.Attribute):
        return _argument(node) if _is_module(node.func.value) else node.func.value
    return None


# Functions whose first argument is no value that they work on: a shape, a number of things, another function.
_NO_VALUE_FIRST = ("ones", "zeros", "full", "empty", "eye", "identity", "tri", "arange", "linspace", "map", "tree_map",
                   "reduce", "scan", "cond", "switch", "while_loop", "fori_loop")  # fmt: skip


def _is_module(node: ast.expr) -> bool:
    """Whether an expression is a module, as far as it goes by a module's usual name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in ("jnp", "jax", "lax", "np", "nn", "jnn", "jsp", "numpy", "jscipy")


def _argument(node: ast.Call) -> ast.expr | None:
    """The value that a function of a module works on, None where that may be another argument."""
    args = [x for x in node.args if not (isinstance(x, ast.Constant) and isinstance(x.value, str))]
    if not args or called(node) in _NO_VALUE_FIRST or isinstance(args[0], (ast.Tuple, ast.List, ast.Lambda)):
        return None
    return None if isinstance(args[0], ast.Starred) or _is_module(args[0]) else args[0]


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def holds_number(node: ast.expr, number: float) -> bool:
    return any(isinstance(x, ast.Constant) and x.value == number for x in ast.walk(node))


def conjugated(node: ast.expr) -> ast.expr | None:
    """What an expression is the conjugate of, where it is written as one."""
    if isinstance(node, ast.Call) and called(node) in ("conj", "conjugate"):
        return operand(node, 0, 1)
    return None
