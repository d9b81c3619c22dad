"""What must not be baked into a program: values of another trace, and mutable arrays that live outside of it."""

from __future__ import annotations

from typing import Any

from jaxcheck.program import interpret
from jaxcheck.program.mode import is_traced


class LeakedTracer(Exception):
    """A function keeps values of one call for a later one: what it kept was not a number."""

    on_purpose = True  # what is said here is about the caller's code (see `ask`)


class ForeignRef(TypeError):
    """A function reads or writes a mutable array of JAX's that lives outside of it."""

    on_purpose = True


def refuse_leaks(program: Any, what: str) -> None:
    """Raise LeakedTracer where a value of another trace is baked into a program, at any depth, and ForeignRef where a
    mutable array is."""
    if any(type(v.aval).__name__ == "AbstractRef" for v in interpret.opened(program).constvars):
        raise ForeignRef(
            f"{what} reads or writes a Ref (a mutable array of JAX's) that was made outside of it, and a "
            "check runs it many times, and in float64: close over what it holds, ref[...], or make the "
            "Ref inside"
        )
    for inner in interpret.walk_jaxprs(program):
        if any(is_traced(c) for c in interpret.constants(inner)):
            raise LeakedTracer(f"{what} keeps values of one call for a later one (JAX: a leaked tracer)")
