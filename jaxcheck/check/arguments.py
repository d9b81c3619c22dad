"""The arguments of the front doors as callers write them: `argnums`, `kwargs`, data in the gradient's place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from jaxcheck.options import places
from jaxcheck.tracebacks import OnError, in_the_call


def refuse_data_as_grad(loss: Any, params: Any, grad: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Raise TypeError for `check_grad(loss, params, (x, y))`: the loss wants these, and has not got them."""
    if grad is None or callable(grad) or not callable(loss) or not isinstance(args, (tuple, list)):
        return
    more = tuple(grad) if isinstance(grad, (tuple, list)) else (grad,)
    if not _takes(loss, (params, *args), kwargs) and _takes(loss, (params, *args, *more), kwargs):
        name = _name(loss)
        places = in_a_tuple(["x", "y"][: len(more)])
        raise TypeError(
            f"the third argument of check_grad is grad, the gradient under test, but {_shown(loss)} "
            "cannot do without what was given there: did you mean args=? "
            f"Write check_grad({name}, params, grad=..., args={places})"
        )


def refuse_params_in_one(loss: Any, params: Any, args: Any, kwargs: Any) -> None:
    """Raise TypeError for `check_grad(loss, (w, x))`: the loss wants two arguments, and gets one that holds them."""
    if not (callable(loss) and isinstance(params, (tuple, list)) and isinstance(args, (tuple, list))):
        return
    if not _takes(loss, (params, *args), kwargs) and _takes(loss, (*params, *args), kwargs):
        name = _name(loss)
        places = ", ".join(map(str, range(len(params))))
        raise TypeError(
            f"params is the first argument of {_shown(loss)} alone, and holds {len(params)} here: "
            f"write check_grad({name}, params[0], args=params[1:]), with argnums=({places}) to differentiate by all"
        )


def refuse_no_dict(kwargs: Any, whose: str) -> None:
    """Raise TypeError for `kwargs` that hold no keyword arguments."""
    if not isinstance(kwargs, dict):
        raise TypeError(f"kwargs must be a dict of {whose} keyword arguments, not {type(kwargs).__name__}")


def about_lists(params: Any) -> OnError:
    """A note on a TypeError where `params` is a list of numbers, as SciPy takes it."""

    def add(error: Exception) -> None:
        plain = isinstance(params, (tuple, list)) and len(params) > 0
        if plain and isinstance(error, TypeError) and all(isinstance(x, (int, float, complex)) for x in params):
            kind, count = type(params).__name__, len(params)
            error.add_note(
                f"params is a {kind} of {count} numbers, which are so many leaves; an array is np.array(params, float)"
            )

    return OnError(add)


def refuse_all_in_one(f: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    """Raise TypeError for `check_rule(f, (w, x))`: `f` wants two arguments, and is given one that holds them."""
    if len(args) != 1 or not isinstance(args[0], (tuple, list)) or not callable(f) or _takes(f, args, kwargs):
        return
    if _takes(f, args[0], kwargs):
        name = _name(f)
        raise TypeError(
            f"check_rule takes the arguments of {_shown(f)} one after the other: write "
            f"check_rule({name}, *args), not check_rule({name}, args)"
        )


class Called:
    """Around what calls the caller's functions: a call that Python refuses says what to write.

    Args:
        write: how the names of a function's arguments are written at the front door.
        functions: of them the first that does not take the arguments is named.
        of_others: what is said, in place of that, of any but the first.
    """

    def __init__(
        self,
        write: Callable[[list[str]], str],
        functions: Sequence[Any],
        args: Any,
        kwargs: Any = None,
        *,
        of_others: str = "",
    ):
        self._write, self._functions, self._of_others = write, functions, of_others
        self._args, self._kwargs = args, kwargs or {}

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        # The signature alone may lie (a decorator hands more on); and what fails inside a function is its own affair.
        if isinstance(error, TypeError) and in_the_call(error):
            for number, f in enumerate(self._functions):
                write = (lambda names: self._of_others) if number and self._of_others else self._write
                said = callable(f) and _misfit(f, self._args, self._kwargs, write)
                if said:
                    raise TypeError(said) from None


AS_THE_LOSS = "grad is called with the arguments of the loss, which takes these"


def first_and(params: Any, args: Any) -> tuple[Any, ...]:
    """The arguments of a loss; what stands for `args` and cannot be is refused elsewhere."""
    return (params, *args) if isinstance(args, (tuple, list)) else (params,)


def beside(names: list[str]) -> str:
    """How `check_grad` is given the arguments of a loss."""
    return f"what it takes beside {names[0]} goes into args={in_a_tuple(names[1:])}"


def in_a_tuple(names: Sequence[str]) -> str:
    return f"({names[0]},)" if len(names) == 1 else f"({', '.join(names)})"


def _misfit(f: Callable, args: Sequence[Any], kwargs: dict[str, Any], write: Callable[[list[str]], str]) -> str:
    """Why `f(*args, **kwargs)` cannot be, and what to write; "" where it can, as far as can be told."""
    try:
        signature = inspect.signature(f)
        bound = signature.bind_partial(*args, **kwargs).arguments
    except ValueError:  # built in: it has no signature
        return ""
    except TypeError as error:
        if kwargs and _takes(f, args, {}):
            return f"{_shown(f)} {error}: leave that out of kwargs={{{', '.join(f'{name!r}: ...' for name in kwargs)}}}"
        return f"{_shown(f)} was called with {len(args)} argument{'s' * (len(args) != 1)}: {error}; {write(_needed(f))}"
    lacking = [name for name, p in signature.parameters.items() if p.default is p.empty and name not in bound]
    lacking = [name for name in lacking if signature.parameters[name].kind not in _MANY]
    if not lacking:
        return ""
    named = [repr(name) for name in lacking if signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY]
    more = f"kwargs={{{', '.join(f'{name}: ...' for name in named)}}}" if named else write(_needed(f))
    return f"{_shown(f)} was called without {' and '.join(lacking)}: {more}"


_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _needed(f: Callable) -> list[str]:
    """The names of the arguments that `f` cannot do without, in their places."""
    parameters = inspect.signature(f).parameters.values()
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return [p.name for p in places] or ["its argument"]


def _name(f: Callable) -> str:
    return getattr(f, "__name__", type(f).__name__)


def _shown(f: Callable) -> str:
    """A function as it is called: `loss(params, x, y)`."""
    signature = inspect.signature(f)
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return f"{_name(f)}{signature.replace(parameters=plain, return_annotation=signature.empty)}"


def _takes(f: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    return not _misfit(f, args, kwargs, in_a_tuple)


def gathered(
    loss: Any, params: Any, grad: Any, args: Any, argnums: Any, kwargs: dict[str, Any]
) -> tuple[Any, Any, Any, Any]:
    """(loss, params, grad, args) in which the arguments chosen by `argnums` are the params, and `kwargs` are bound.

    Raises:
        TypeError, ValueError: `argnums` is no place among (params, *args), or `kwargs` no dict.
    """
    refuse_no_dict(kwargs, "the loss's")
    if not isinstance(args, (tuple, list)):
        return loss, params, grad, args  # refused where the call becomes a problem
    argnums = 0 if argnums is None else argnums
    given = (params, *args)
    several = isinstance(argnums, (tuple, list))
    there_are = f"params and args are {len(given)} arguments" if args else "params is the only argument"
    chosen = list(places(argnums, len(given), there_are))
    if not kwargs and chosen == [0] and not several:
        return loss, params, grad, args
    rest = [i for i in range(len(given)) if i not in chosen]

    def calling(f: Any) -> Any:
        if not callable(f):
            return f

        @functools.wraps(f)
        def call(tree: Any, *others: Any) -> Any:
            placed = dict(zip(chosen, tree if several else (tree,), strict=True)) | dict(zip(rest, others, strict=True))
            return f(*(placed[i] for i in range(len(placed))), **kwargs)

        return call

    tree = tuple(given[i] for i in chosen) if several else given[chosen[0]]
    return calling(loss), tree, calling(grad), tuple(given[i] for i in rest)
