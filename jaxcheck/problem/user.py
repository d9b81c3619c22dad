"""The caller's loss and gradient as functions of flat leaves, with every bad input named."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.foreign import is_array, no_wider
from jaxcheck.problem.at_theta import real_gradient
from jaxcheck.problem.pairs import at_others, other
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.mode import as_jax, is_traced
from jaxcheck.theta import Theta, mismatch, without_gradient


class StructureError(Exception):
    """The gradient's structure is wrong; the text names the leaf."""


class HeldFixed(StructureError):
    """The gradient is right to leave out the leaves at `paths`, see `theta.without_gradient`."""

    def __init__(self, paths: tuple[str, ...]):
        super().__init__(f"the gradient of `{paths[0]}` is None")
        self.paths = paths


def refuse_no_tuple(args: Any) -> None:
    """Raise TypeError for `args=x`."""
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args must be a tuple of extra arguments, not {type(args).__name__}; write args=(x,)")


def to_array(x: Any) -> Any:
    """A leaf as an array: Python numbers become weakly typed scalars, as in JAX, where they take the type of what they
    meet (2.0 times a float16 is a float16)."""
    return x if hasattr(x, "dtype") else jnp.asarray(x)


def first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else ''}"


def check_scalar(value: Any) -> None:
    """Raise TypeError unless `value` is a real scalar of float type."""
    if isinstance(value, tuple):
        raise TypeError("loss returned a tuple; pass has_aux=True if it returns (value, aux)")
    if value is None or not (hasattr(value, "dtype") or isinstance(value, (int, float, complex))):
        raise TypeError(f"loss must return a scalar, not {type(value).__name__}")
    if np.shape(value) != ():
        raise TypeError(
            f"loss must return a scalar, not an array of shape {np.shape(value)}; sum or average it, "
            "or check all outputs of a function with check_rule(f, *args)"
        )
    dtype = jax.dtypes.result_type(value)
    if jax.dtypes.issubdtype(dtype, np.complexfloating):
        raise TypeError("loss must be real; it returned a complex number. Take its real part or absolute value")
    if not jax.dtypes.issubdtype(dtype, np.floating):
        raise TypeError(f"loss must return a float, not {dtype}: it has no derivative")


@dataclasses.dataclass(frozen=True, eq=False)
class User:
    """The caller's functions; `args` are the extra arguments taken apart like the parameters."""

    loss: Callable
    grad: Any
    theta: Theta
    args: Theta
    has_aux: bool

    @property
    def name(self) -> str:
        return getattr(self.loss, "__name__", type(self.loss).__name__)

    def arguments(self, leaves: Any, extras: Any) -> tuple[Any, ...]:
        """The arguments with other differentiable leaves; what is carried along is copied, see `copies`."""
        theta, args = self.theta, self.args
        if not any(is_traced(x) for x in (*leaves, *extras)):
            theta = dataclasses.replace(theta, values=copies(theta.values))
            args = dataclasses.replace(args, values=copies(args.values))
        return theta.rebuild(leaves), *args.rebuild(extras)

    def value(self, leaves: Any, extras: Any) -> Any:
        """The loss's value on the given leaves; raises TypeError where `has_aux` does not fit."""
        out = self.loss(*self.arguments(leaves, extras))
        if self.has_aux:
            if not (isinstance(out, tuple) and len(out) == 2):
                kind = "an array" if is_traced(out) or hasattr(out, "dtype") else type(out).__name__
                raise TypeError(f"with has_aux=True loss must return (value, aux), not {kind}")
            out = out[0]
        return no_wider(out)

    @property
    def grad_is_function(self) -> bool:
        """Whether the gradient is to be called: a module of the parameters' own kind is numbers, callable or not."""
        if not callable(self.grad):
            return False
        return type(self.grad) is not type(jax.tree_util.tree_unflatten(self.theta.treedef, self.theta.values))

    def outputs(self, leaves: Any, extras: Any) -> Any:
        """(1,) outputs, for tracing."""
        value = self.value(leaves, extras)
        check_scalar(value)
        return jnp.reshape(value, (1,))

    def selection(self, leaves: Any, extras: Any) -> Selection:
        """What is under test in what `grad` returns. Raises StructureError naming the leaf."""
        return select(self.theta, self.grad(*self.arguments(leaves, extras)), self.has_aux)

    def gradient(self, leaves: Any, extras: Any, before: Callable[[], Any] | None = None) -> tuple[list[Any], str]:
        """(gradients of the differentiable leaves, note). Raises StructureError naming the leaf.

        Args:
            before: calls the loss at the same point (default: with these leaves).
        """
        kept = copies((leaves, extras))  # grad may write into what it is given
        with contextlib.suppress(Refused):  # and it may read what the loss left behind, of the same point
            ask(before or (lambda: self.value(*copies(kept))))
        chosen = self.selection(leaves, extras)
        if chosen.value is not None:
            refuse_other_value(chosen.value, lambda: self.value(*copies(kept)), self._pairs(*kept))
        return chosen.leaves, chosen.note

    def confirm(self, leaves: Any, extras: Any) -> None:
        """Run `grad` and the loss once, compiled, and raise StructureError unless the first half of the
        pair that `grad` returns is the loss's value."""
        first, *values = jax.jit(lambda x, e: (self.selection(x, e).value, self.value(x, e), self.value(x, e)))(
            leaves, extras
        )
        refuse_other_value(first, lambda: values.pop(), self._pairs(leaves, extras))

    def _pairs(self, leaves: Any, extras: Any) -> Callable[[bool], list[tuple[Any, Any]]]:
        """What gives (the first half of the pair, the loss's value): in float64, or at neighbours of the point."""

        def pair(leaves: Any, extras: Any) -> tuple[Any, Any]:
            return self.selection(*copies((leaves, extras))).value, self.value(*copies((leaves, extras)))

        return functools.partial(at_others, pair, leaves, extras)

    def numbers(self) -> list[Any]:
        """The gradient that was given as data, leaf by leaf. Raises StructureError naming the leaf."""
        chosen = select(self.theta, self.grad, self.has_aux)
        if chosen.value is not None:
            refuse_other_value(chosen.value, lambda: self.value(self.fresh(), self.fresh_args()), lambda wide: [])
        return chosen.leaves

    def host_leaves(self, theta: Theta, vector: np.ndarray, wide: bool = True) -> list[Any]:
        """Leaves in float64, each of the caller's own kind: numpy, JAX array or Python number; in the caller's own
        precision where not `wide`."""
        out = []
        for given, value in zip(theta.inexact(), theta.unravel(vector), strict=True):
            if isinstance(given, jax.Array):
                with jax.enable_x64(wide):
                    value = as_jax(value if wide else value.astype(given.dtype))
            elif not hasattr(given, "dtype"):
                value = complex(value) if np.iscomplexobj(value) else float(value)
            else:
                # A copy: the function may write into its input.
                value = value.copy() if wide else value.astype(given.dtype)
            out.append(value)
        return out

    def wide_args(self, wide: bool = True) -> list[Any]:
        return self.host_leaves(self.args, self.args.ravel(), wide)

    def fresh(self) -> list[Any]:
        """The parameters as given, copied: a function may write into NumPy's, and donate JAX's."""
        return copies(self.theta.inexact())

    def fresh_args(self) -> list[Any]:
        """The differentiable extra arguments as given, copied likewise."""
        return copies(self.args.inexact())


def copies(tree: Any) -> Any:
    """A pytree with its arrays copied: jitted functions may donate them, others may write into them."""

    def one(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return x.copy()
        if isinstance(x, jax.Array) and not is_traced(x):
            return jnp.copy(x)
        return x

    return jax.tree_util.tree_map(one, tree)


class Selection(NamedTuple):
    """The gradient's leaves, a note, and the first half of a pair (value, grads), None without one."""

    leaves: list[Any]
    note: str
    value: Any = None


def select(theta: Theta, tree: Any, has_aux: bool = False) -> Selection:
    """The gradient in what was returned. A pair is looked through where it can be nothing else.

    (value, grads) and ((value, aux), grads) are taken for that by their form; whether the first half is the
    loss's value is found by running it (`refuse_other_value`). (grads, aux) takes `has_aux`: without it the
    second half may be a gradient as well, of another argument, and must not be left unseen.

    Raises:
        StructureError: naming the leaf, and for a pair what to do about it.
    """
    found, note = mismatch(theta, tree)
    if found is not None:
        return Selection(found, note)
    for half in (tree, *tree) if isinstance(tree, tuple) and len(tree) == 2 else (tree,):
        if held := without_gradient(theta, half):
            raise HeldFixed(held)
    if not (isinstance(tree, tuple) and len(tree) == 2):
        raise StructureError(note)
    first, second = (mismatch(theta, half) for half in tree)
    if has_aux and first[0] is not None:
        return Selection(first[0], _looked_through("(grads, aux)", first[1]))
    head = tree[0]
    value, what = (
        (head[0], "((value, aux), grads)") if isinstance(head, tuple) and len(head) == 2 else (head, "(value, grads)")
    )
    if second[0] is not None and _is_scalar(value):
        return Selection(second[0], _looked_through(what, second[1]), value)
    if first[0] is not None or second[0] is not None:
        which = "first" if first[0] is not None else "second"
        raise StructureError(
            f"grad returned a pair whose {which} half alone fits the parameters, and the other half "
            f"would not be looked at. {_PAIR}"
        )
    raise StructureError(note)


_PAIR = (
    "Return the gradient alone; for (grads, aux) pass has_aux=True; for the gradients of several arguments "
    "(argnums=(0, 1)) make these one tree of params, loss(params) with params=(a, b)"
)


def _looked_through(what: str, note: str) -> str:
    return f"grad returned {what}; the gradient was taken from it. {note}".strip()


def _is_scalar(x: Any) -> bool:
    if not (is_array(x) or isinstance(x, float)) or np.shape(x) != ():
        return False
    return bool(jax.dtypes.issubdtype(jax.dtypes.result_type(x), np.floating))


def refuse_other_value(first: Any, value: Callable[[], Any], pairs: Callable[[bool], list[tuple[Any, Any]]]) -> None:
    """Raise StructureError where `first` is not the loss's value, see `pairs.other`."""
    said = other(first, value, pairs)
    if said:
        raise StructureError(f"{said}. {_PAIR}")


def real_rows(theta: Theta, picked: Any) -> np.ndarray:
    """Concrete leaf gradients to the real view (1, P)."""
    parts = [
        real_gradient(leaf, np.asarray(g).astype(np.complex128 if leaf.is_complex else np.float64)[None], np)
        for leaf, g in zip(theta.leaves, picked, strict=True)
    ]
    return np.concatenate(parts, axis=1)
