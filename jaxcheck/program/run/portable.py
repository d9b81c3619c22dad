"""What a value is, told by its content alone: equal texts in two processes mean equal values.

Arrays and programs are read to the last byte. A function of Python is its code, what it closes over, and what it names
in its module, as far as that can be read: files, say, are not. One of an installed package is its name, and an object
of a foreign kind is its kind and its attributes.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import os
import sysconfig
import types
from typing import Any

import jax
import numpy as np

from jaxcheck.program import identity, interpret
from jaxcheck.program.mode import is_traced

# How deep functions and objects are followed, and how many are.
DEPTH, MANY = 8, 20_000
# Bytes that are read at once.
BLOCK = 2**16
_ZEROS = bytes(BLOCK)
_INSTALLED = tuple({os.path.normpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "purelib", "platlib")})
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(Ellipsis), np.dtype, enum.Enum, range, slice)


def digest(*values: Any) -> bytes:
    """16 bytes that stand for the values, the same in every process."""
    reader = _Reader()
    for value in values:
        reader.value(value, DEPTH)
    return reader.sink.digest()


def text(*values: Any) -> str:
    return digest(*values).hex()


def of_program(closed: Any) -> bytes:
    """Of a closed jaxpr, its constants included; functions in it (those that it calls back, say) by what they are."""
    written, others = identity.identity(closed, own_constants=True)
    return digest(written, [x.held if isinstance(x, identity.Same) else x for x in others])


class _Reader:
    def __init__(self) -> None:
        self.sink = hashlib.blake2b(digest_size=16)
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no address is used again

    def put(self, *parts: Any) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode()
            self.sink.update(len(data).to_bytes(8, "little"))
            self.sink.update(data)

    def value(self, value: Any, depth: int) -> None:
        if isinstance(value, _PLAIN):
            self.put(type(value).__qualname__, repr(value))
        elif isinstance(value, (np.ndarray, np.generic, jax.Array)) and not is_traced(value):
            self.array(value)
        elif interpret.is_jaxpr(value):
            self.put("program", of_program(value) if hasattr(value, "consts") else str(type(value)))
        elif isinstance(value, types.ModuleType):
            self.put("module", value.__name__)
        elif isinstance(value, type):
            self.put("type", value.__module__, value.__qualname__)
        elif id(value) in self._seen:
            self.put("again", self._seen[id(value)])
        else:
            self._seen[id(value)] = len(self._seen)
            self._kept.append(value)
            self.parts(value, depth)

    def parts(self, value: Any, depth: int) -> None:
        self.put(type(value).__module__, type(value).__qualname__)
        if isinstance(value, (tuple, list)):
            self.each(value, depth)
        elif isinstance(value, dict):
            self.put(len(value))
            for key, inner in value.items():
                self.each((key, inner), depth)
        elif isinstance(value, (set, frozenset)):
            self.put(*sorted(map(repr, value)))
        elif depth <= 0 or len(self._seen) > MANY:
            self.put("and more")
        elif isinstance(value, types.FunctionType):
            self.function(value, depth - 1)
        elif isinstance(value, types.MethodType):
            self.each((value.__func__, value.__self__), depth - 1)
        elif isinstance(value, functools.partial):
            self.each((value.func, value.args, value.keywords), depth - 1)
        elif dataclasses.is_dataclass(value):
            self.each([getattr(value, f.name, None) for f in dataclasses.fields(value)], depth - 1)
        else:
            self.each([getattr(value, "__wrapped__", None)], depth - 1)
            self.each(getattr(value, "__dict__", None) or {}, depth - 1)

    def each(self, values: Any, depth: int) -> None:
        self.put(len(values))
        for value in values.items() if isinstance(values, dict) else values:
            self.value(value, depth)

    def array(self, value: Any) -> None:
        if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            self.put("key", jax.random.key_impl(value))
            value = jax.random.key_data(value)
        if isinstance(value, jax.Array) and not value.is_fully_addressable:
            self.put("a part of", value.shape)
            for part in value.addressable_shards:
                self.put(part.index)
                self.array(part.data)
            return
        array = np.ascontiguousarray(value)
        self.put("array", array.dtype, np.shape(value))
        if array.dtype.hasobject:
            self.put(repr(array.tolist()))
        elif array.size:
            self.numbers(array.reshape(-1).view(np.uint8).data)

    def numbers(self, data: memoryview) -> None:
        """Of a direction through one leaf most is zero: that is passed over, which is faster than to read it."""
        for start in range(0, len(data), BLOCK):
            piece = data[start : start + BLOCK].tobytes()
            if piece == _ZEROS[: len(piece)]:
                continue
            self.sink.update(start.to_bytes(8, "little"))
            self.sink.update(piece)

    def function(self, f: types.FunctionType, depth: int) -> None:
        self.put(f.__module__, f.__qualname__)
        if f.__code__.co_filename.startswith(_INSTALLED):
            return
        self.code(f.__code__)
        self.each([f.__defaults__, f.__kwdefaults__], depth)
        self.each([_content(cell) for cell in f.__closure__ or ()], depth)
        self.each({name: f.__globals__[name] for name in sorted(_names(f.__code__)) if name in f.__globals__}, depth)

    def code(self, code: types.CodeType) -> None:
        self.put(code.co_code, *code.co_names, *code.co_varnames)
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                self.code(const)
            else:
                self.put(repr(const) if not isinstance(const, frozenset) else sorted(map(repr, const)))


def _names(code: types.CodeType) -> set[str]:
    """The globals that a function, or one written inside it, may name."""
    inner = (_names(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*inner)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
