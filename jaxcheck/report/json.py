"""Report <-> JSON, exactly: what comes back equals what went in, NaN and infinities included.

Strict JSON has neither NaN nor complex numbers, so those travel as strings: "nan", "inf", "-inf", and
Python's own complex form, "(1+2j)"; many numbers that belong together are one string. Which fields hold
what is read off the dataclasses, so a field added to `result.py` needs no line here.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Sequence
from typing import Any

from jaxcheck import result
from jaxcheck.result import Numbers, Report

FORMAT = 1
_VERSION_KEY, _ERROR = "jaxcheck_report", "jaxcheck_error"


def encode(report: Report) -> dict[str, Any]:
    """The report as data for `json.dumps(..., allow_nan=False)`."""
    return {_VERSION_KEY: FORMAT, **_encode_fields(report)}


def decode(data: dict[str, Any]) -> Report:
    """Inverse of `encode`. Raises ValueError saying where and what is wrong."""
    if not isinstance(data, dict):
        raise ValueError(f"a report is a JSON object, not {_kind(data)}")
    if _VERSION_KEY not in data:
        raise ValueError(f"not a jaxcheck report: the field {_VERSION_KEY!r} is missing")
    if data[_VERSION_KEY] != FORMAT:
        raise ValueError(f"this report has format version {data[_VERSION_KEY]!r}; this jaxcheck reads version {FORMAT}")
    fields = {key: value for key, value in data.items() if key != _VERSION_KEY}
    return _decode_fields(Report, fields, "report")


def encode_all(reports: Sequence[Report], errors: Sequence[tuple[str, str]] = ()) -> list[dict[str, Any]]:
    """Several reports, and (name, what was raised) of checks that came to none."""
    return [*map(encode, reports), *({_ERROR: name, "raised": said} for name, said in errors)]


def decode_all(data: Any) -> tuple[list[Report], list[tuple[str, str]]]:
    """Inverse of `encode_all`, and of `encode`. Raises ValueError saying where and what is wrong."""
    items = data if isinstance(data, list) else [data]
    errors = [item for item in items if isinstance(item, dict) and _ERROR in item]
    reports = [decode(item) for item in items if item not in errors]
    return reports, [(str(item[_ERROR]), str(item.get("raised", ""))) for item in errors]


def _encode_fields(item: Any) -> dict[str, Any]:
    hints = _hints(type(item))
    return {
        field.name: _encode(getattr(item, field.name), hints[field.name], field.name)
        for field in dataclasses.fields(item)
    }


def _encode(value: Any, hint: Any, where: str) -> Any:
    if hint is float or hint is complex:
        return _encode_number(value, where)
    if hint is int or hint is bool:
        return hint(value)
    if hint is Numbers:
        return " ".join(map(repr, value))
    if typing.get_origin(hint) is tuple:
        members = _members(hint, len(value))
        return [_encode(item, member, where) for item, member in zip(value, members, strict=True)]
    if isinstance(value, enum.Enum):
        return value.name
    if dataclasses.is_dataclass(value):
        return _encode_fields(value)
    return str(value)


def _encode_number(value: Any, where: str) -> Any:
    # numpy's complex64 is not a Python complex, and an array of one number is a number.
    kind: Any = complex if isinstance(value, complex) or getattr(value, "dtype", None) == "complex64" else float
    try:
        number = kind(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} holds {value!r}, not a number") from error
    if isinstance(number, complex):
        return repr(number)
    return number if math.isfinite(number) else repr(number)


def _decode_fields(cls: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected an object for {cls.__name__}, found {_kind(data)}")
    hints = _hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ValueError(f"{where}: unknown field {', '.join(map(repr, unknown))}")
    missing = [
        name
        for name, field in fields.items()
        if name not in data and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where}: missing field {', '.join(map(repr, missing))}")
    return cls(**{name: _decode(value, hints[name], f"{where}.{name}") for name, value in data.items()})


def _decode(value: Any, hint: Any, where: str) -> Any:
    if hint is float or hint is complex:
        return _decode_number(value, hint, where)
    if hint in (int, str, bool):
        # bool is an int to Python.
        if not isinstance(value, hint) or isinstance(value, bool) is not (hint is bool):
            raise ValueError(f"{where}: expected {hint.__name__}, found {_kind(value)}")
        return value
    if hint is Numbers:
        return _decode_numbers(value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, found {_kind(value)}")
        members = _members(hint, len(value))
        if len(members) != len(value):
            raise ValueError(f"{where}: expected {len(members)} entries, found {len(value)}")
        return tuple(
            _decode(item, member, f"{where}[{i}]") for i, (item, member) in enumerate(zip(value, members, strict=True))
        )
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        if not isinstance(value, str) or value not in hint.__members__:
            raise ValueError(f"{where}: unknown {hint.__name__} {value!r}")
        return hint[value]
    return _decode_fields(hint, value, where)


def _decode_number(value: Any, hint: type, where: str) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        for read in (float, complex) if hint is complex else (float,):
            try:
                return read(value)
            except ValueError:
                continue
    raise ValueError(f"{where}: expected a number, found {value!r}")


def _decode_numbers(value: Any, where: str) -> Numbers:
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected numbers in a string, found {_kind(value)}")
    try:
        return Numbers(int(x) if x.lstrip("-").isdigit() else float(x) for x in value.split())
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _members(hint: Any, length: int) -> tuple[Any, ...]:
    """The types of a tuple's entries: `tuple[int, ...]` has as many as there are."""
    members = typing.get_args(hint)
    return (members[0],) * length if len(members) == 2 and members[1] is Ellipsis else members


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    # The classes name `jaxcheck` as their module, for reprs; their annotations live in `result`.
    return typing.get_type_hints(cls, globalns=dict(vars(result)))


def _kind(value: Any) -> str:
    return "null" if isinstance(value, types.NoneType) else type(value).__name__
