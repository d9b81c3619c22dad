"""The caller's loss and gradient as functions of flat leaves, with every bad input named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence.witnesses import real_gradient
from jaxcheck.theta import Theta, mismatch


class StructureError(Exception):
    """The gradient's structure is wrong; the text names the leaf."""


def refuse_tracing(*trees: Any) -> None:
    """Raise TypeError when called under jit, grad or vmap."""
    traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree_util.tree_leaves(trees))
    if traced or isinstance(jnp.zeros(()), jax.core.Tracer):
        raise TypeError(
            "a gradient check was called while JAX is tracing (inside jit, grad, vmap or scan); "
            "call it outside, on concrete parameters: it is for debugging, not for the training step"
        )


def to_array(x: Any) -> Any:
    """A leaf as an array: Python numbers become float64 / complex128 scalars."""
    return x if hasattr(x, "dtype") else np.asarray(x, np.complex128 if isinstance(x, complex) else np.float64)


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
        raise TypeError(f"loss must return a scalar, not an array of shape {np.shape(value)}; sum or average it")
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

    def _arguments(self, leaves: Any, extras: Any) -> tuple[Any, ...]:
        """The arguments with other differentiable leaves; what is carried along is copied, see `copies`."""
        theta, args = self.theta, self.args
        if not any(isinstance(x, jax.core.Tracer) for x in (*leaves, *extras)):
            theta = dataclasses.replace(theta, values=copies(theta.values))
            args = dataclasses.replace(args, values=copies(args.values))
        return theta.rebuild(leaves), *args.rebuild(extras)

    def value(self, leaves: Any, extras: Any) -> Any:
        """The loss's value on the given leaves; raises TypeError where `has_aux` does not fit."""
        out = self.loss(*self._arguments(leaves, extras))
        if self.has_aux:
            if not (isinstance(out, tuple) and len(out) == 2):
                raise TypeError(f"with has_aux=True loss must return (value, aux), not {type(out).__name__}")
            return out[0]
        return out

    def outputs(self, leaves: Any, extras: Any) -> Any:
        """(1,) outputs, for tracing."""
        value = self.value(leaves, extras)
        check_scalar(value)
        return jnp.reshape(value, (1,))

    def gradient(self, leaves: Any, extras: Any) -> tuple[list[Any], str]:
        """(gradients of the differentiable leaves, note). Raises StructureError naming the leaf."""
        tree = self.grad(*self._arguments(leaves, extras))
        return select(self.theta, tree)

    def host_leaves(self, theta: Theta, vector: np.ndarray) -> list[Any]:
        """Leaves in float64, each of the caller's own kind: numpy, JAX array or Python number."""
        out = []
        for given, value in zip(theta.inexact(), theta.unravel(vector), strict=True):
            if isinstance(given, jax.Array):
                with jax.enable_x64(True):
                    value = jnp.asarray(value)
            elif not hasattr(given, "dtype"):
                value = complex(value) if np.iscomplexobj(value) else float(value)
            else:
                # A copy: the function may write into its input.
                value = value.copy()
            out.append(value)
        return out

    def wide_args(self) -> list[Any]:
        return self.host_leaves(self.args, self.args.ravel())

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
        if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer):
            return jnp.copy(x)
        return x

    return jax.tree_util.tree_map(one, tree)


def select(theta: Theta, tree: Any) -> tuple[list[Any], str]:
    """The gradient's leaves and a note; a (value, grads) or (grads, aux) pair is looked through.

    Raises:
        StructureError: naming the leaf.
    """
    found, note = mismatch(theta, tree)
    if found is not None:
        return found, note
    if isinstance(tree, tuple) and len(tree) == 2:
        for position, what in ((1, "(value, grads)"), (0, "(grads, aux)")):
            inner, more = mismatch(theta, tree[position])
            if inner is not None:
                return inner, f"grad returned {what}; the gradient was taken from it. {more}".strip()
    raise StructureError(note)


def real_rows(theta: Theta, picked: Any) -> np.ndarray:
    """Concrete leaf gradients to the real view (1, P)."""
    parts = [
        real_gradient(leaf, np.asarray(g).astype(np.complex128 if leaf.is_complex else np.float64)[None], np)
        for leaf, g in zip(theta.leaves, picked, strict=True)
    ]
    return np.concatenate(parts, axis=1)
