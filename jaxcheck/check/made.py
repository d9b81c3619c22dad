"""When, where and by what a report is made."""

from __future__ import annotations

import contextlib
import datetime
import functools
import inspect
import linecache
import platform
from collections.abc import Iterable
from importlib import metadata
from types import CodeType
from typing import Any

import jax
import jaxlib
import numpy as np

from jaxcheck import session
from jaxcheck.notebook import cell
from jaxcheck.program.ask import Refused, ask
from jaxcheck.records_drawn import Line, Made
from jaxcheck.result import Culprit

# Lines of source before and after a culprit.
AROUND = 4
# Wrappers of wrappers that are looked through.
_MOST = 20
# Where they keep what they wrap: functools.wraps and jax.jit, partial, methods, custom rules.
_INNER = ("__wrapped__", "func", "__func__", "fun")


def made(subject: Any = None, culprits: Iterable[Culprit] = ()) -> Made:
    """What is so now.

    Args:
        subject: the function under test.
        culprits: lines of source, which are kept with those around them.
    """
    file, line = "", 0
    with contextlib.suppress(Refused):  # a stranger's object may do anything when it is asked for an attribute
        file, line = ask(place, subject)
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return Made(
        now.isoformat().replace("+00:00", "Z"),
        _versions(),
        _device(),
        cell(file),
        line,
        _source(culprits),
        session.again,
    )


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    try:
        own = metadata.version("jaxcheck")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        own = "0+unknown"
    others = (
        ("jax", jax.__version__),
        ("jaxlib", jaxlib.__version__),
        ("numpy", np.__version__),
        ("Python", platform.python_version()),
    )
    return (("jaxcheck", own), *others)


def _device() -> str:
    """The device that programs run on unless they say otherwise; "" where JAX finds none."""
    with contextlib.suppress(RuntimeError):
        chosen = getattr(jax.config, "jax_default_device", None) or jax.devices()[0]
        if isinstance(chosen, str):
            chosen = jax.devices(chosen)[0]
        kind = str(chosen.device_kind)
        return chosen.platform if kind == chosen.platform else f"{chosen.platform} ({kind})"
    return ""


def place(subject: Any) -> tuple[str, int]:
    """(file, line) at which a function is defined, through wrappers, partials and callable objects; ("", 0) where
    that is not known."""
    for _ in range(_MOST):
        inner = next((x for name in _INNER if callable(x := getattr(subject, name, None))), None)
        if inner is None:
            break
        subject = inner
    if not hasattr(subject, "__code__"):
        subject = next((vars(c)["__call__"] for c in type(subject).__mro__ if "__call__" in vars(c)), None)
    code = getattr(inspect.unwrap(subject), "__code__", None) if callable(subject) else None
    return (code.co_filename, code.co_firstlineno) if isinstance(code, CodeType) else ("", 0)


def _source(culprits: Iterable[Culprit]) -> tuple[Line, ...]:
    wanted = {(c.file, number) for c in culprits for number in range(max(1, c.line - AROUND), c.line + AROUND + 1)}
    there = [(file, number) for file, number in sorted(wanted) if number <= len(linecache.getlines(file))]
    return tuple(Line(cell(file), number, linecache.getline(file, number).rstrip()) for file, number in there)
