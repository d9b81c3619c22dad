"""When two programs are provably the same computation: what a compiled form may be reused for.

The identity of a program holds everything that its results depend on, apart from its own constants and
inputs, which are arguments of the compiled form: every equation with all its parameters, and the bytes of
every constant that stands deeper. What cannot be compared by value (functions, foreign objects) is the same
only if it is the same object; it is kept alive with the identity, so that its address is not used again.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import types
from typing import Any

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from jaxcheck.program import interpret
from jaxcheck.program.mode import is_traced

# Parameters that say how a program is called in messages, not what it computes.
_SPOKEN = frozenset({"name", "debug_info", "name_and_src_info", "ctx_mesh_names"})
# How it is differentiated: nothing to a program that is only run.
_RULES = frozenset({"fwd_jaxpr_thunk", "bwd", "jvp_jaxpr_fun", "jvp_jaxpr_thunk", "out_trees"})
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(Ellipsis), np.dtype)


class Same:
    """Compared by identity: an object of which no more is known than that it is this one."""

    __slots__ = ("held",)

    def __init__(self, held: Any):
        self.held = held

    def __hash__(self) -> int:
        return id(self.held)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.held is self.held


class _Writer:
    """Writes a program into a digest, and what no digest can hold into `others`."""

    def __init__(self, by_name: bool, done: dict[int, Any], unsaid: frozenset[str] = _SPOKEN):
        self.sink = hashlib.blake2b(digest_size=20)
        self.others: list[Any] = []
        self.by_name = by_name
        self._unsaid = unsaid
        self._done = done
        self._numbers: dict[Any, int] = {}

    def put(self, *parts: Any) -> None:
        for part in parts:
            text = part if isinstance(part, bytes) else str(part).encode()
            self.sink.update(b"%d:" % len(text) + text)

    def program(self, program: Any, own_constants: bool) -> None:
        jaxpr = interpret.opened(program)
        for role, atoms in (("const", jaxpr.constvars), ("in", jaxpr.invars)):
            for atom in atoms:
                self.put(role)
                self.variable(atom)
        if own_constants:
            for value in interpret.constants(program):
                self.value(value)
        for eqn in jaxpr.eqns:
            self.equation(eqn)
        for atom in jaxpr.outvars:
            self.atom(atom)

    def equation(self, eqn: Any) -> None:
        self.put("eqn", eqn.primitive.name)
        for atom in eqn.invars:
            self.atom(atom)
        self.parameters(eqn.params)
        for effect in sorted(map(self.effect, eqn.effects)):
            self.put(effect)
        context = getattr(eqn, "ctx", None)
        if context is not None:
            self.put(getattr(context, "threefry_partitionable", ""), getattr(context, "xla_metadata", ""))
        for var in eqn.outvars:
            self.variable(var)

    def parameters(self, params: dict[str, Any]) -> None:
        for key in sorted(params):
            if key not in self._unsaid:
                self.put(key)
                self.value(params[key])

    def nested(self, program: Any) -> None:
        """A program inside, each occurring one once: it sees nothing of what is around it."""
        known = self._done.get(id(program))
        if known is None:
            inner = _Writer(self.by_name, self._done, self._unsaid)
            inner.program(program, True)
            known = self._done[id(program)] = (inner.sink.digest(), inner.others)
        self.put("program", known[0])
        self.others += known[1]

    def variable(self, var: Any) -> None:
        self._numbers[var] = len(self._numbers)
        self.put(_text(var.aval), getattr(var.aval, "weak_type", ""))

    def effect(self, effect: Any) -> str:
        """An effect in words that two traces share: as text, that of a Ref holds the address of a variable."""
        parts = sorted(getattr(effect, "__dict__", {}).items())
        said = [f"{name}={self._numbers.get(x, -1) if interpret.is_variable(x) else x}" for name, x in parts]
        return " ".join([type(effect).__name__, *said])

    def atom(self, atom: Any) -> None:
        if interpret.is_literal(atom):
            self.put("literal", _text(atom.aval))
            self.value(atom.val)
        else:
            self.put("var", self._numbers.get(atom, -1))

    def value(self, value: Any) -> None:
        kind = type(value)
        if kind in (bool, int, str, bytes) or value is None:
            self.put(kind.__name__, value)
        elif interpret.is_jaxpr(value):
            self.nested(value)
        elif isinstance(value, (tuple, list)):
            self.put(kind.__name__, len(value))
            for item in value:
                self.value(item)
        elif isinstance(value, dict):
            self.put("dict", len(value))
            for key in sorted(value, key=str):
                self.value(key)
                self.value(value[key])
        elif is_traced(value):
            self.others.append(Same(value))
        elif isinstance(value, (float, complex, np.ndarray, np.generic, jax.Array)):
            self.number(value)
        elif isinstance(value, (*_PLAIN, enum.Enum, type)):
            self.put(kind.__name__, repr(value))
        else:
            self.other(value)

    def number(self, value: Any) -> None:
        if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            self.put("key", jax.random.key_impl(value))
            value = jax.random.key_data(value)
        array = np.ascontiguousarray(value)
        self.put(type(value).__name__ if isinstance(value, (float, complex)) else "array", array.dtype, np.shape(value))
        if array.size:
            # Unlike `tobytes`, a view copies nothing.
            self.sink.update(array.reshape(-1).view(np.uint8).data)

    def other(self, value: Any) -> None:
        self.put("other", len(self.others))
        if self.by_name:
            self.others.append(_called(value))
            return
        try:
            hash(value)
        except TypeError:
            value = Same(value)
        self.others.append(Same(value) if isinstance(value, types.FunctionType) else value)


@functools.lru_cache(1024)
def _text(aval: Any) -> bytes:
    """A type as text: there are few, and JAX takes long to write one."""
    return str(aval).encode()


def _called(value: Any) -> str:
    """What a function or object is called: two traces of one program make new ones of the same name."""
    while isinstance(value, functools.partial):
        value = value.func
    return f"{type(value).__name__} {getattr(value, '__qualname__', '')}"


def identity(program: Any, *, own_constants: bool = False, by_name: bool = False) -> tuple[bytes, tuple[Any, ...]]:
    """What a closed jaxpr computes, hashable. Equal identities compute the same from equal inputs and constants.

    Args:
        own_constants: with the bytes of the program's own constants, too.
        by_name: functions among the parameters (the rules of a custom rule, say) count by their name: for two
            traces of one function, in which they are new objects.
    """
    writer = _Writer(by_name, {})
    writer.program(program, own_constants)
    return writer.sink.digest(), tuple(writer.others)


def called_with(params: dict[str, Any]) -> tuple[bytes, tuple[Any, ...]]:
    """What the parameters of an equation make of its primitive where it is run, and not differentiated; hashable."""
    writer = _Writer(False, {}, _SPOKEN | _RULES)
    writer.parameters(params)
    return writer.sink.digest(), tuple(writer.others)


def same_program(one: Any, two: Any) -> bool:
    """Whether two traces of one function are the same program, with the same constants at every depth, as far as their
    results depend on it: what checkify numbers its errors with is another number in each."""
    return _by_value(one) == _by_value(two) or _by_value(_used(one)) == _by_value(_used(two))


def _by_value(program: Any) -> tuple[bytes, tuple[Any, ...]]:
    return identity(program, own_constants=True, by_name=True)


def _used(program: Any) -> Any:
    """The closed jaxpr without what its results do not depend on."""
    jaxpr, consts, _ = partial_eval.dce_jaxpr_consts(program.jaxpr, [True] * len(program.jaxpr.outvars), True)
    return core.ClosedJaxpr(jaxpr, [c for c, used in zip(program.consts, consts, strict=True) if used])
