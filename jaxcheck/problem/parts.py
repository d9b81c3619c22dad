"""Vectors theta of parameters that lie over several devices: leaf by leaf, each as the caller laid it out.

A model that is spread over devices because it fits into none of them must not be gathered into one vector. `Parts`
stands for such a vector, or for rows of them, inside of compiled programs: it is added, scaled and indexed by row as an
array is, and the host sees it as one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxcheck.program.run import spread
from jaxcheck.theta import Leaf, Theta

Layout = tuple[NamedSharding, ...]


@jax.tree_util.register_pytree_node_class
class Parts:
    """(..., P) numbers in the real view: of each leaf (..., *shape), or (..., 2, *shape) where it is complex.

    Args:
        arrays: one of each leaf. axes: how many axes of each are the leaf's own.
    """

    # NumPy's arrays leave arithmetic with it to this class.
    __array_ufunc__ = None

    def __init__(self, arrays: Sequence[Any], axes: tuple[int, ...]):
        self.arrays, self.axes = tuple(arrays), axes

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[int, ...]]:
        return self.arrays, self.axes

    @classmethod
    def tree_unflatten(cls, axes: tuple[int, ...], arrays: Sequence[Any]) -> Parts:
        return cls(arrays, axes)

    def map(self, f: Callable, *others: Parts) -> Parts:
        """f of each leaf's array, with those of others."""
        return Parts([f(*x) for x in zip(self.arrays, *(o.arrays for o in others), strict=True)], self.axes)

    def _with(self, f: Callable, other: Any) -> Parts:
        if isinstance(other, Parts):
            return self.map(f, other)
        return self.map(lambda x: f(x, other))

    def __add__(self, other: Any) -> Parts:
        return self._with(operator.add, other)

    def __sub__(self, other: Any) -> Parts:
        return self._with(operator.sub, other)

    def __mul__(self, other: Any) -> Parts:
        return self._with(operator.mul, other)

    __radd__, __rmul__ = __add__, __mul__

    def __matmul__(self, other: Parts) -> Any:
        """Rows times one vector."""
        products = [jnp.tensordot(x, y, axes=y.ndim) for x, y in zip(self.arrays, other.arrays, strict=True)]
        return sum(products[1:], products[0])

    def __getitem__(self, rows: Any) -> Parts:
        return self.map(lambda x: x[rows])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the rows: what is in front of the numbers of theta."""
        return self.arrays[0].shape[: self.arrays[0].ndim - self.axes[0]]

    @property
    def dtype(self) -> Any:
        return self.arrays[0].dtype

    def astype(self, dtype: Any) -> Parts:
        return self.map(lambda x: x.astype(dtype))

    def leaves_of(self, leaves: Sequence[Leaf]) -> list[Any]:
        """Of one vector, in float64 / complex128: see `Theta.unravel`."""
        return [x[0] + 1j * x[1] if leaf.is_complex else x for leaf, x in zip(leaves, self.arrays, strict=True)]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """On the host: (..., P)."""
        parts = [np.asarray(x) for x in self.arrays]
        flat = [x.reshape(*x.shape[: x.ndim - axes], -1) for x, axes in zip(parts, self.axes, strict=True)]
        return np.concatenate(flat, axis=-1).astype(dtype or flat[0].dtype)


def axes_of(leaves: Sequence[Leaf]) -> tuple[int, ...]:
    return tuple(len(leaf.shape) + leaf.is_complex for leaf in leaves)


def layout_of(theta: Theta) -> Layout | None:
    """How the caller laid the leaves out over the devices of one mesh; None where none of them is spread, or the caller
    named other devices."""
    found = [getattr(x, "sharding", None) for x in theta.inexact()]
    meshes = [s.mesh for s in found if isinstance(s, NamedSharding) and not s.is_fully_replicated]
    if not meshes or spread.current().chosen:
        return None
    whole = NamedSharding(meshes[0], PartitionSpec())
    return tuple(s if isinstance(s, NamedSharding) and s.mesh == meshes[0] else whole for s in found)


def place(x: np.ndarray, leaves: Sequence[Leaf], layout: Layout) -> Parts:
    """(..., P) numbers of the host, each leaf's where its shards are."""
    out = []
    for leaf, sharding in zip(leaves, layout, strict=True):
        shape = (*x.shape[:-1], *((2,) if leaf.is_complex else ()), *leaf.shape)
        front = (None,) * (len(shape) - len(leaf.shape))
        own = NamedSharding(sharding.mesh, PartitionSpec(*front, *sharding.spec))
        out.append(jax.device_put(x[..., leaf.start : leaf.stop].reshape(shape), own))
    return Parts(out, axes_of(leaves))


def gradient(found: Sequence[Any], leaves: Sequence[Leaf]) -> Parts:
    """(G, *shape) gradients in JAX's convention as (G, P) in the real view, in float64; real ones of complex leaves are
    bars, which hold of both parts."""
    out = []
    for leaf, g in zip(leaves, found, strict=True):
        if leaf.is_complex:
            g = jnp.stack([g.real, -g.imag] if jnp.iscomplexobj(g) else [g, g], axis=1)
        out.append((g.real if jnp.iscomplexobj(g) else g).astype(jnp.float64))
    return Parts(out, axes_of(leaves))
