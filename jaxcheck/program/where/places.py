"""Where in the caller's source an equation comes from: the expression, with its columns, and the calls around it."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxcheck.program import interpret
from jaxcheck.program.custom import owner

_OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


class Place(NamedTuple):
    """An expression in the source. Lines count from 1, columns (of bytes) from 0."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    function: str


def stack_of(eqn: Any, callers: Sequence[Any]) -> tuple[Place, ...]:
    """The expressions that lead to an equation, innermost first; () where none is the caller's own.

    What a library's compiled function holds was traced for whoever called it first, so there the place is
    that of the call.
    """
    outwards = list(reversed(callers))
    while outwards and _of_a_library(outwards[0]):
        eqn = outwards.pop(0)
    own = frames(eqn)
    for caller in outwards:
        if own:
            break
        own = frames(caller)
    return own


def _of_a_library(caller: Any) -> bool:
    program = next((inner for _, inner in interpret.sub_jaxprs(caller.params)), None)
    stated = owner.stated_by(interpret.opened(program)) if program is not None else None
    return stated is not None and owner.origin_of(stated[1]) != "user"


def frames(eqn: Any) -> tuple[Place, ...]:
    """The caller's own expressions around an equation, innermost first, up to the checker."""
    traceback = eqn.source_info.traceback
    if traceback is None:
        return ()
    found = []
    codes, offsets = traceback.raw_frames()
    locate = type(traceback).code_addr2location
    for code, offset in zip(codes, offsets, strict=True):
        kind = _kind(code.co_filename)
        if kind == "ours":
            break
        if kind == "user":
            line, column, end_line, end_column = locate(code, offset)
            found.append(Place(code.co_filename, line, column, end_line, end_column, code.co_qualname))
    return tuple(found)


@functools.cache
def _kind(file: str) -> str:
    if os.path.abspath(file).startswith(_OURS):
        return "ours"
    return owner.origin_of(file) if not file.startswith("<frozen") else "python"
