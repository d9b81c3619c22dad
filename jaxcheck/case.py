"""`@jaxcheck.case`: marks the functions of a file that `jaxcheck run` is to check."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar, overload

_MARK = "__jaxcheck_case__"
_CHECKS = ("grad", "rule", "batch")

Function = TypeVar("Function", bound=Callable[[], Any])


class CaseInfo(NamedTuple):
    """What the mark says: the name shown, and which front door gets the arguments."""

    name: str
    check: str


class Marked(NamedTuple):
    """A mark as it is made: of what, and the modules in which that was defined and marked."""

    info: CaseInfo
    function: Callable[[], Any]
    modules: tuple[str, str]


_listening: list[list[Marked]] = []


@contextlib.contextmanager
def listening() -> Iterator[list[Marked]]:
    """The marks that are made meanwhile: of a case in a list or a loop nothing else may be left in its module."""
    heard: list[Marked] = []
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening.remove(heard)


def _marking() -> str:
    """The module that marks something now."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))


@overload
def case(function: Function, /) -> Function: ...
@overload
def case(
    *, name: str | None = None, check: Literal["grad", "rule", "batch"] = "grad"
) -> Callable[[Function], Function]: ...
def case(function: Any = None, /, *, name: str | None = None, check: str = "grad") -> Any:
    """Declare a check for `jaxcheck run FILE.py`.

    The function takes no arguments and returns the arguments of a check, or a finished `Report`:

    - a dict of keyword arguments: `loss`, `params`, `grad`, `args`, ... of `check_grad`
      (`f` and `args` for `check="rule"`, as in `check_rule(f, *args)`);
    - a tuple of its positional arguments: `(loss, params, grad)`, or `(loss, params)`;
    - a `Report`.

    The report goes by the name of the case, its function's or `name=` of the mark, by which it is chosen, run again
    and compared; a `name` among the arguments gives way to that.

    The function itself comes back unchanged but for the mark, so it can still be called.

        @jaxcheck.case
        def logistic():
            return {"loss": loss, "params": params, "grad": backprop}

        @jaxcheck.case(name="softplus at 0", check="rule")
        def softplus_rule():
            return softplus, 0.0
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"case(name={name!r}): the name is a str")
    if check not in _CHECKS:
        raise ValueError(f"case(check={check!r}): expected one of {', '.join(map(repr, _CHECKS))}")

    def mark(target: Any) -> Any:
        if not callable(target):
            raise TypeError(f"case marks a function without arguments, not {target!r}")
        info = CaseInfo(name or getattr(target, "__name__", "case"), check)
        setattr(target, _MARK, info)
        for heard in _listening:
            heard.append(Marked(info, target, (getattr(target, "__module__", ""), _marking())))
        return target

    return mark if function is None else mark(function)


def case_info(function: Any) -> CaseInfo | None:
    """The mark on `function`, or None where there is none."""
    info = getattr(function, _MARK, None)
    return info if isinstance(info, CaseInfo) else None
