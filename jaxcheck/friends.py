"""Keywords that people bring along from torch, JAX and SciPy: what they are called here.

`refuse` answers a keyword that a front door does not have, before Python does.
"""

from __future__ import annotations

import difflib
import dis
import inspect
import numbers
import types
from collections.abc import Iterable, Mapping, Sequence

_TOLERANCE = "use tolerance=jaxcheck.Tolerance(rtol=..., atol=...), or tolerance=1e-3 for a relative bound"
_STEP = "steps are chosen, with an error bar; for the textbook's own step use mode=jaxcheck.Exhaustive(step=1e-7)"
_PAIR = "use check_rule(f, *args), which checks the rule at its second order with order=2"

# What a keyword of another library is here. A sentence names the option that does the same, or says why none is needed.
_ELSEWHERE = {
    "eps": _STEP,
    "epsilon": _STEP,
    "step": _STEP,
    "h": _STEP,
    "rtol": _TOLERANCE,
    "atol": _TOLERANCE,
    "tol": _TOLERANCE,
    "modes": "check_rule looks at forward and reverse mode both; modes= is jaxcheck.test_util.check_grads's",
    "order": _PAIR,
    "fast_mode": 'use mode="sketch" (random directions) or mode="exhaustive" (every component)',
    "raise_exception": "a check returns a report and does not raise; report.assert_ok() does",
    "nondet_tol": "a function is run twice and must give the same; fix its PRNG key",
    "check_undefined_grad": "check_rule looks at unused outputs and zero cotangents by itself (algebra=True)",
    "check_batched_grad": "check_rule looks at vmap by itself (transforms=True)",
    "check_forward_ad": "check_rule looks at the forward mode by itself, where the rule has one",
    "check_backward_ad": "the reverse mode is looked at by itself",
    "check_grad_dtypes": "a gradient of another dtype or shape is a FAIL with reason STRUCTURE by itself",
    "masked": "sparse arrays are not looked at; pass the values that are stored, as an array",
    "f": 'the loss is loss=; any other function is for check_rule(f, *args), and a case of it for case(check="rule")',
    "x0": "pass the point as params: check_grad(loss, params, grad=...)",
    "func": "pass the function first, without a keyword: check_grad(loss, params, grad=...)",
    "fun": "pass the function first, without a keyword: check_grad(loss, params, grad=...)",
    "inputs": "pass the point as params: check_grad(loss, params, grad=...); for several arguments args=(x, y)",
    "direction": 'use mode="sketch" for random directions or mode="exhaustive" for every component',
    "argnums": "put what is to be differentiated into params, as one tree: params=(a, b), loss(params)",
    "argnum": "use argnums=",
    "kwargs": "close over them: functools.partial(f, key=value)",
    "key": "use seed=, a whole number",
    "rng": "use seed=, a whole number",
    "backprop": "use grad=backprop",
    "jac": "use grad=",
    "holomorphic": "complex leaves are taken as they are, by JAX's convention of the gradient",
}

_OTHER_DOOR = "use jaxcheck.check_grad(loss, params, grad=...), which takes a gradient"
_NO_SEED = "its directions are the same in every run"
_CHOSEN = "steps are chosen, with an error bar; eps= is accepted, and not needed"
_SHARE = "how much is looked at follows from what it costs"
_PARTIAL = "leave what is not to be differentiated out of args: functools.partial(f, key=value)"
# The same of the drop-in, which has JAX's own few options: what is another thing there.
_DROP_IN = {
    "epsilon": _CHOSEN,
    "step": _CHOSEN,
    "h": _CHOSEN,
    "fast_mode": _SHARE,
    "direction": _SHARE,
    "raise_exception": "it raises, as JAX's own does; jaxcheck.check_rule(f, *args) returns a report",
    "tolerance": "use rtol= and atol=",
    "tol": "use rtol= and atol=",
    "argnums": _PARTIAL,
    "argnum": _PARTIAL,
    "func": "pass the function first, without a keyword: check_grads(f, args, order)",
    "fun": "pass the function first, without a keyword: check_grads(f, args, order)",
    "inputs": "use args=, a tuple",
    "x0": "use args=, a tuple",
    "grad": _OTHER_DOOR,
    "backprop": _OTHER_DOOR,
    "jac": _OTHER_DOOR,
    "seed": _NO_SEED,
    "key": _NO_SEED,
    "rng": _NO_SEED,
}

# What others call their checkers, and who looks for them at `jaxcheck.`.
_CHECKERS = {
    "gradcheck": "check_rule(f, *args), or check_grad(loss, params) for a scalar loss",
    "gradgradcheck": "check_rule(f, *args, order=2)",
    "check_grads": "from jaxcheck.test_util import check_grads",
    "check_jvp": "from jaxcheck.test_util import check_jvp",
    "check_vjp": "from jaxcheck.test_util import check_vjp",
}
_POINT = ("args", "params", "primals", "inputs")


def missing(name: str, asking: types.FrameType) -> Exception:
    """What to raise where `jaxcheck.` has no such name; of another library's checker it says what stands for it.

    Args:
        asking: the frame that wants it. Of `from jaxcheck import name` Python would leave out what was said.
    """
    instead = f": use {_CHECKERS[name]}" if name in _CHECKERS else ""
    imported = asking.f_code.co_code[asking.f_lasti] == dis.opmap["IMPORT_FROM"]
    if instead and imported:
        return ImportError(f"cannot import name {name!r} from 'jaxcheck'{instead}", name=name)
    return AttributeError(f"module 'jaxcheck' has no attribute {name!r}{instead}")


def refuse(door: str, given: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise TypeError for the first keyword that `door` does not have, with what to write instead."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            like_jax = door in _CHECKERS and _DROP_IN.get(name)
            instead = (
                like_jax
                or _ELSEWHERE.get(name)
                or (f"did you mean {close[0]}=?" if close else "it has " + ", ".join(f"{one}=" for one in known))
            )
            if door == "check_rule" and name in _POINT:
                instead = "pass the arguments of f one after the other: check_rule(f, *args)"
            elif door == "check_rule" and name not in _ELSEWHERE and not close:
                instead = f"a keyword argument of f goes into kwargs={{{name!r}: ...}}"
            raise TypeError(f"{door} has no option {name}=: {instead}")


def refuse_positions(door: str, args: Sequence[object], names: Sequence[str]) -> None:
    """Raise TypeError where arguments stand in SciPy's order, or more in a row than `door` has places for."""
    given = len(args)
    # Parameters may be callable themselves (a module that is a pytree); their gradient in numbers is so too then.
    if "grad" in names and given > 2 and callable(args[1]) and args[2] is not None and not callable(args[2]):
        raise TypeError(
            f"{door} takes ({', '.join(names)}), and a function stands where {names[1]} belongs: SciPy's "
            f"order is (func, grad, x0). Write {door}({', '.join(names)}), and args=(x, y) for what the "
            "function takes beside"
        )
    if given > len(names):
        extra = "; what the function takes beside goes into args=(x, y)" if "grad" in names else ""
        raise TypeError(
            f"{door} takes {len(names)} arguments without a keyword ({', '.join(names)}), not {given}{extra}"
        )


def refuse_call(door: str, signature: inspect.Signature, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    """Raise TypeError for a call without what every call needs, or with something twice, before Python does."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        needed = [
            f"*{name}" if p.kind is p.VAR_POSITIONAL else name
            for name, p in signature.parameters.items()
            if p.kind is p.VAR_POSITIONAL or (p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty)
        ]
        raise TypeError(f"{door}: {error}; write {door}({', '.join(needed)}, ...)") from None


# Options of the doors that are yes or no; one of them may be a number.
_FLAGS = ("has_aux", "where", "transforms", "algebra")


def refuse_values(kwargs: Mapping[str, object]) -> None:
    """Raise TypeError or ValueError for what is no value of an option that takes yes or no, or a name."""
    for flag in _FLAGS:
        value = kwargs.get(flag, True)
        if flag == "where":
            _refuse_seconds(value)
        elif not (isinstance(value, int) or type(value).__name__ == "bool") or value not in (0, 1):  # NumPy's bool, too
            raise TypeError(f"{flag}={value!r}: True or False")
    name = kwargs.get("name")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name={name!r}: a string, by which the report calls the check")
    if name is not None and not name.isprintable():
        raise ValueError(f"name={name!r}: one line of text, for the report's first line")


def _refuse_seconds(where: object) -> None:
    what = "True, False, or a number, the seconds that the search for the line may take"
    if not (isinstance(where, numbers.Real) or type(where).__name__ == "bool"):
        raise TypeError(f"where={where!r}: {what}")
    if not 0 <= where < float("inf"):  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"where={where!r}: {what}")
