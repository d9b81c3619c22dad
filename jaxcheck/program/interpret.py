"""One way to look into a jaxpr, and one way to run it with each equation in your own hands.

Primitives are recognised by name and parameters by key, never by object, so that the same code
reads the jaxprs of several JAX versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import jax
import numpy as np
from jax.extend import core

_LABELS = {"body_jaxpr": "body", "cond_jaxpr": "cond"}
# What most parameters are, and none of which is a program: every equation of a check is asked some dozen times.
_PLAIN = frozenset(map(type, (True, 0, 0.0, "", None, np.dtype(float), frozenset())))


class Site(NamedTuple):
    """An equation and the nested programs that lead to it, outermost first."""

    eqn: Any
    path: tuple[str, ...]


def is_jaxpr(value: Any) -> bool:
    """Whether `value` is a jaxpr, with or without its constants."""
    return hasattr(value, "eqns") and (hasattr(value, "outvars") or hasattr(value, "jaxpr"))


def is_literal(atom: Any) -> bool:
    return isinstance(atom, core.Literal)


def is_variable(atom: Any) -> bool:
    return isinstance(atom, core.Var)


def opened(jaxpr: Any) -> Any:
    """The jaxpr without its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def constants(jaxpr: Any) -> tuple[Any, ...]:
    return tuple(getattr(jaxpr, "consts", ()) or ())


def closed(jaxpr: Any) -> Any:
    """The jaxpr as a ClosedJaxpr; one that still lacks constants has none to lack."""
    return jaxpr if hasattr(jaxpr, "consts") else core.ClosedJaxpr(jaxpr, ())


def results(program: Any, first: int) -> Any:
    """The closed jaxpr with its results from the `first` on alone."""
    return core.ClosedJaxpr(program.jaxpr.replace(outvars=program.jaxpr.outvars[first:]), program.consts)


def sub_jaxprs(params: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each jaxpr among an equation's parameters, with the label of its role."""
    for key, value in params.items():
        if type(value) in _PLAIN:
            continue
        if isinstance(value, (tuple, list)):
            for i, item in enumerate(value):
                if type(item) not in _PLAIN and is_jaxpr(item):
                    yield f"branch {i}" if key == "branches" else "", item
        elif is_jaxpr(value):
            yield _LABELS.get(key, ""), value
    if "_prim" in params:
        yield from hi_jaxprs(params["_prim"])


def hi_jaxprs(prim: Any) -> Iterator[tuple[str, Any]]:
    """The primal program of a hijax primitive, under any number of `VmapOf` wrappers."""
    seen = 0
    while prim is not None and seen < 16:
        params = getattr(prim, "params", None)
        traced = params.get("traced") if isinstance(params, dict) else None
        inner = getattr(traced if traced is not None else getattr(prim, "traced", None), "jaxpr", None)
        if inner is not None and is_jaxpr(inner):
            yield "", inner
            return
        prim, seen = getattr(prim, "prim", None), seen + 1


def map_jaxprs(params: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """The parameters with each jaxpr among them replaced by `change(jaxpr)`."""
    return {key: _mapped(value, change) for key, value in params.items()}


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    # Not a function inside that one: one that calls itself refers to itself, and keeps what `change` holds (data of the
    # caller's, by which JAX then remembers what they were) for as long as nobody collects cycles.
    if is_jaxpr(value):
        return change(value)
    if isinstance(value, (tuple, list)) and any(is_jaxpr(v) for v in value):
        items = [_mapped(v, change) for v in value]
        # custom_linear_solve keeps its four programs in a named tuple.
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def replaced(program: Any, chosen: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """The program with `change(eqn)` for each chosen equation, through every nesting; the same object where none is.
    What is nested in a chosen equation is `change`'s to look after."""
    if not any(chosen(eqn) for eqn, _ in walk(program)):
        return program

    def one(eqn: Any) -> Any:
        if chosen(eqn):
            return change(eqn)
        return eqn.replace(params=map_jaxprs(eqn.params, lambda inner: replaced(inner, chosen, change)))

    jaxpr = opened(program)
    eqns = [one(eqn) for eqn in jaxpr.eqns]
    effects = set().union(*(eqn.effects for eqn in eqns)) if eqns else set()
    changed = jaxpr.replace(eqns=eqns, effects=effects if jaxpr.effects else jaxpr.effects)
    if hasattr(program, "jaxpr") and program.jaxpr is not program:
        return core.ClosedJaxpr(changed, program.consts)
    return changed


def label(eqn: Any) -> str:
    """How an equation is called in a path: `jit(loss)`, `scan`, `cond`."""
    name, called = eqn.primitive.name, eqn.params.get("name")
    name = "jit" if name == "pjit" else name
    return f"{name}({called})" if isinstance(called, str) and name == "jit" else name


# Equations with what is nested in each, by program: a check walks through each of its programs some forty times.
_NESTED: WeakKeyDictionary[Any, tuple[tuple[Any, tuple[tuple[str, Any], ...]], ...]] = WeakKeyDictionary()


def _nested(jaxpr: Any) -> tuple[tuple[Any, tuple[tuple[str, Any], ...]], ...]:
    """Each equation of a program with the programs among its parameters, and their roles."""
    found = _NESTED.get(jaxpr)
    if found is None:
        found = _NESTED[jaxpr] = tuple((eqn, tuple(sub_jaxprs(eqn.params))) for eqn in jaxpr.eqns)
    return found


def walk(jaxpr: Any, path: tuple[str, ...] = ()) -> Iterator[Site]:
    """Every equation of a program, nested ones included, in program order."""
    for eqn, inside in _nested(opened(jaxpr)):
        yield Site(eqn, path)
        for role, inner in inside:
            if role == "" and eqn.primitive.name == "scan":
                role = "body"
            yield from walk(inner, (*path, label(eqn), *((role,) if role else ())))


def walk_jaxprs(jaxpr: Any) -> Iterator[Any]:
    """The program itself and every program nested in it."""
    yield jaxpr
    for _, inside in _nested(opened(jaxpr)):
        for _, inner in inside:
            yield from walk_jaxprs(inner)


def is_64_bits(atoms: Iterable[Any]) -> bool:
    """Whether a value is among these that only the 64-bit mode of JAX can have made."""
    wide = ("float64", "int64", "uint64", "complex128")
    return any(str(getattr(atom.aval, "dtype", "")) in wide for atom in atoms)


def has_64_bits(program: Any) -> bool:
    """Whether a program was traced in the 64-bit mode, as far as its values tell."""
    return any(
        is_64_bits([*j.invars, *j.constvars, *(v for eqn in j.eqns for v in eqn.outvars)])
        for j in map(opened, walk_jaxprs(program))
    )


def bind(eqn: Any, args: Sequence[Any], params: dict[str, Any] | None = None, as_traced: bool = True) -> list[Any]:
    """Run one equation on other operands, and with other parameters if given; in the mode of its trace, or, not
    `as_traced`, in the one in force."""
    given = eqn.primitive.get_bind_params(dict(eqn.params if params is None else params))
    # Before JAX 0.9.2 the called functions come apart from the parameters, then within.
    functions, given = given if isinstance(given, tuple) else ((), given)
    if eqn.primitive.name == "clamp" and not eqn.invars[1].aval.shape:
        # JAX cannot batch a clamp of scalars in which the upper bound alone is batched.
        return [eqn.primitive.bind(*(jax.lax.reshape(x, (1,)) for x in args), **given).reshape(())]
    context = getattr(getattr(eqn, "ctx", None), "manager", None) if as_traced else None
    with nullcontext() if context is None else context:
        out = eqn.primitive.bind(*functions, *args, **given)
    return list(out) if eqn.primitive.multiple_results else [out]


def literal_value(atom: Any) -> Any:
    """A literal's value as numpy, of exactly the dtype that its type declares."""
    return as_declared(atom.val, atom.aval)


def as_declared(value: Any, aval: Any) -> Any:
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return value
    return np.asarray(value).astype(dtype)


def evaluate(
    program: Any,
    args: Sequence[Any],
    handle: Callable[[Any, list[Any]], Sequence[Any]] = bind,
    constant: Callable[[Any, Any], Any] = as_declared,
) -> list[Any]:
    """Run a closed jaxpr, one equation after the other.

    `handle(eqn, operands)` gives the equation's results, and by default binds it again as it is.
    `constant(value, aval)` gives what the program's constants and literals are read as. Values are
    opaque here: a handler may carry what it likes in place of arrays.

    Raises:
        TypeError: if the number of arguments is not the program's.
    """
    jaxpr = opened(program)
    if len(args) != len(jaxpr.invars):
        raise TypeError(f"the program takes {len(jaxpr.invars)} arguments, got {len(args)}")
    env: dict[Any, Any] = {}
    consts = constants(program)
    if consts:
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            env[var] = constant(value, var.aval)
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return constant(atom.val, atom.aval) if is_literal(atom) else env[atom]

    last = _last_uses(jaxpr)
    for i, eqn in enumerate(jaxpr.eqns):
        results = handle(eqn, [read(atom) for atom in eqn.invars])
        env.update(zip(eqn.outvars, results, strict=True))
        for var in last.get(i, ()):  # large intermediates must not outlive their last use
            env.pop(var, None)
    return [read(atom) for atom in jaxpr.outvars]


def _last_uses(jaxpr: Any) -> dict[int, list[Any]]:
    kept = {v for v in jaxpr.outvars if not is_literal(v)}
    seen: set[Any] = set()
    last: dict[int, list[Any]] = {}
    for i in range(len(jaxpr.eqns) - 1, -1, -1):
        for var in (*jaxpr.eqns[i].invars, *jaxpr.eqns[i].outvars):
            if not is_literal(var) and var not in seen and var not in kept:
                seen.add(var)
                last.setdefault(i, []).append(var)
    return last
