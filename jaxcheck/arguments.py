"""The arguments of the front doors as callers write them: `argnums`, `kwargs`, data in the gradient's place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from jaxcheck.tracebacks import OnError


def refuse_data_as_grad(loss: Any, params: Any, grad: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Raise TypeError for `check_grad(loss, params, (x, y))`: the loss wants these, and has not got them."""
    if grad is None or callable(grad) or not callable(loss) or not isinstance(args, (tuple, list)):
        return
    more = tuple(grad) if isinstance(grad, (tuple, list)) else (grad,)
    if not _takes(loss, (params, *args), kwargs) and _takes(loss, (params, *args, *more), kwargs):
        name = getattr(loss, "__name__", "loss")
        raise TypeError(
            f"the third argument of check_grad is grad, the gradient under test, but {name}{inspect.signature(loss)} "
            "cannot do without what was given there: did you mean args=? "
            f"Write check_grad({name}, params, grad=..., args={'(x,)' if len(more) == 1 else '(x, y)'})"
        )


def refuse_params_in_one(loss: Any, params: Any, args: Any, kwargs: Any) -> None:
    """Raise TypeError for `check_grad(loss, (w, x))`: the loss wants two arguments, and gets one that holds them."""
    if not (callable(loss) and isinstance(params, (tuple, list)) and isinstance(args, (tuple, list))):
        return
    if not _takes(loss, (params, *args), kwargs) and _takes(loss, (*params, *args), kwargs):
        name = getattr(loss, "__name__", "loss")
        places = ", ".join(map(str, range(len(params))))
        raise TypeError(
            f"params is the first argument of {name}{inspect.signature(loss)} alone, and holds {len(params)} here: "
            f"write check_grad({name}, params[0], args=params[1:]), with argnums=({places}) to differentiate by all"
        )


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
        name = getattr(f, "__name__", "f")
        raise TypeError(
            f"check_rule takes the arguments of {name}{inspect.signature(f)} one after the other: write "
            f"check_rule({name}, *args), not check_rule({name}, args)"
        )


def _takes(f: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    try:
        inspect.signature(f).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # built in: it has no signature
        return True
    return True


def gathered(
    loss: Any, params: Any, grad: Any, args: Any, argnums: Any, kwargs: dict[str, Any]
) -> tuple[Any, Any, Any, Any]:
    """(loss, params, grad, args) in which the arguments chosen by `argnums` are the params, and `kwargs` are bound.

    Raises:
        TypeError, ValueError: `argnums` is no place among (params, *args), or `kwargs` no dict.
    """
    if not isinstance(kwargs, dict):
        raise TypeError(f"kwargs must be a dict of the loss's keyword arguments, not {type(kwargs).__name__}")
    if not isinstance(args, (tuple, list)):
        return loss, params, grad, args  # refused where the call becomes a problem
    argnums = 0 if argnums is None else argnums
    given = (params, *args)
    several = isinstance(argnums, (tuple, list))
    chosen = [_place(i, argnums, len(given)) for i in (argnums if several else (argnums,))]
    if len(set(chosen)) < len(chosen) or not chosen:
        raise ValueError(f"argnums={argnums!r}: each place once, and one at least")
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


def _place(i: Any, argnums: Any, count: int) -> int:
    if isinstance(i, bool) or not isinstance(i, int):
        raise TypeError(f"argnums={argnums!r}: whole numbers, the places among the arguments (params, *args)")
    if not -count <= i < count:
        raise ValueError(f"argnums={argnums!r} is out of range: params and args are {count} arguments")
    return i % count
