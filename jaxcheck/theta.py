"""A pytree and its theta: leaf paths, which leaves are differentiable, and the way there and back.

Theta is the textbook's one long vector: all inexact leaves in `ravel_pytree` order. A complex entry
is two real ones in it, real part first, because differences move along real directions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.foreign import is_array, no_wider, refuse


def path_name(path: Sequence[Any], root: str = "params") -> str:
    """A key path as a person writes it: `layers[1].W`; `root` for a tree that is one bare leaf."""
    text = ""
    for key in path:
        if isinstance(key, jax.tree_util.SequenceKey):
            text += f"[{key.idx}]"
        elif isinstance(key, jax.tree_util.GetAttrKey):
            text += f".{key.name}"
        elif isinstance(key, (jax.tree_util.DictKey, jax.tree_util.FlattenedIndexKey)):
            value = key.key
            plain = isinstance(value, str) and value.isidentifier()
            text += f".{value}" if plain else f"[{value!r}]"
        else:
            text += str(key)
    return text.removeprefix(".") or root


def _joined(name: str, rest: str) -> str:
    return name + (rest if not rest or rest.startswith("[") else f".{rest}")


def argument_paths(args: Sequence[Any]) -> list[str]:
    """What the caller calls the items of `args`."""
    return [f"args[{k}]" for k in range(len(args))]


def is_none(x: Any) -> bool:
    return x is None


# Why a Python number that could be differentiated is carried along.
_HELD = "whose gradient is None"


def why_not_differentiable(leaf: Any) -> str:
    """Empty for an inexact leaf; otherwise the reason why it is carried along."""
    if leaf is None:
        return "None"
    if isinstance(leaf, (bool, int)):
        return f"Python {type(leaf).__name__}"
    if isinstance(leaf, (float, complex)):
        return ""
    if not is_array(leaf):
        return f"{type(leaf).__name__} object"
    dtype = leaf.dtype
    if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return "PRNG key"
    if jax.dtypes.issubdtype(dtype, np.inexact):
        return ""
    return f"{dtype} array"


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One differentiable leaf: its path, shape, dtype, and its slice of theta (`start`, `stop`).

    `dtype` is what the caller has, `native` what JAX makes of it: float32 of NumPy's float64, by default.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    native: str
    is_complex: bool
    position: int  # among all leaves of the tree
    start: int
    stop: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Theta:
    """A tree taken apart. `values` are all its leaves (None included); `leaves` describes the
    differentiable ones in theta order; `carried` names the others with the reason."""

    treedef: Any
    values: tuple[Any, ...]
    paths: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    carried: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        """Length of the real vector theta."""
        return self.leaves[-1].stop if self.leaves else 0

    @property
    def held(self) -> tuple[str, ...]:
        """The Python numbers that are carried along since their gradient is None, by their paths."""
        return tuple(path for path, why in self.carried if why.endswith(_HELD))

    def inexact(self) -> list[Any]:
        """The differentiable leaves, as given."""
        return [self.values[leaf.position] for leaf in self.leaves]

    def rebuild(self, inexact: Sequence[Any]) -> Any:
        """The tree with its differentiable leaves replaced, the others as they were."""
        values = list(self.values)
        for leaf, value in zip(self.leaves, inexact, strict=True):
            values[leaf.position] = value
        return jax.tree_util.tree_unflatten(self.treedef, values)

    def ravel(self, inexact: Sequence[Any] | None = None) -> np.ndarray:
        """The real float64 vector theta of `inexact` (default: of the tree itself)."""
        parts = [to_real(x) for x in (self.inexact() if inexact is None else inexact)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def unravel(self, vector: Any) -> list[Any]:
        """Inverse of `ravel`, in float64 / complex128; works on numpy and on traced JAX vectors, and on what has
        `leaves_of` of its own."""
        if hasattr(vector, "leaves_of"):
            return vector.leaves_of(self.leaves)
        out = []
        for leaf in self.leaves:
            part = vector[leaf.start : leaf.stop]
            if leaf.is_complex:
                half = leaf.stop - leaf.start >> 1
                part = part[:half] + 1j * part[half:]
            out.append(part.reshape(leaf.shape))
        return out


def to_real(x: Any) -> np.ndarray:
    """One leaf as a real float64 vector: its entries, or all real parts and then all imaginary parts."""
    x = np.asarray(x)
    if x.dtype.kind == "c":
        x = x.astype(np.complex128).ravel()
        return np.concatenate([x.real, x.imag])
    return x.astype(np.float64).ravel()


# Variables of flax.nnx that a module keeps for itself: its transformations differentiate Param and its kinds alone.
_STATISTICS = {"BatchStat", "Cache", "Intermediate", "RngState"}


def _statistics(tree: Any) -> list[tuple[tuple[Any, ...], str]]:
    """(path, why it is carried) of each variable of a flax.nnx module that is no parameter."""

    def why(x: Any) -> str:
        kinds = [c.__name__ for c in type(x).__mro__ if c.__module__.startswith("flax.nnx")]
        return f"{kinds[0]}, which nnx does not differentiate" if _STATISTICS & set(kinds) else ""

    nodes = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: bool(why(x)))[0]
    return [(path, said) for path, x in nodes if (said := why(x))]


def take_apart(
    tree: Any,
    root: str = "params",
    names: Sequence[str] | None = None,
    *,
    differentiated: bool = True,
    held: Sequence[str] = (),
) -> Theta:
    """Flatten `tree` into a `Theta`. `root` names a bare leaf; `names`, the items of a tuple of arguments.

    Args:
        differentiated: False for extra arguments, which may hold any object.
        held: leaves, by their paths, that are no parameters, see `without_gradient`.

    Raises:
        TypeError: a leaf hides numbers from the check (see `foreign`).
    """
    with_paths, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    leaves, carried, start = [], [], 0
    if names is None:
        paths = tuple(path_name(path, root) for path, _ in with_paths)
    else:
        paths = tuple(_joined(str(names[path[0].idx]), path_name(path[1:], "")) for path, _ in with_paths)
    kept = _statistics(tree)
    for position, (name, (path, value)) in enumerate(zip(paths, with_paths, strict=True)):
        refuse(name, value, differentiated=differentiated)
        why = next((why for start, why in kept if path[: len(start)] == start), "") or why_not_differentiable(value)
        why = why or (f"Python {type(value).__name__}, {_HELD}" if name in held else "")
        if why:
            carried.append((name, why))
            continue
        native = jax.dtypes.result_type(value)
        dtype = value.dtype if is_array(value) else native
        shape = tuple(np.shape(value))
        is_complex = bool(jax.dtypes.issubdtype(dtype, np.complexfloating))
        stop = start + math.prod(shape) * (2 if is_complex else 1)
        leaves.append(Leaf(name, shape, str(dtype), str(native), is_complex, position, start, stop))
        start = stop
    values = tuple(value for _, value in with_paths)
    return Theta(treedef, values, paths, tuple(leaves), tuple(carried))


def without_gradient(theta: Theta, grads: Any) -> tuple[str, ...]:
    """The Python numbers that are fields of objects, by their paths, whose gradient is None where that of every array
    is there: `equinox.filter_grad` differentiates arrays alone (the rate of a dropout layer is no parameter)."""
    with_paths, _ = jax.tree_util.tree_flatten_with_path(grads, is_leaf=is_none)
    given = {path_name(path, "(the whole gradient)"): g for path, g in with_paths}
    fields = {path_name(path, "") for path, _ in with_paths if path and isinstance(path[-1], jax.tree_util.GetAttrKey)}
    numbers = [leaf.path for leaf in theta.leaves if not hasattr(theta.values[leaf.position], "dtype")]
    arrays = [leaf.path for leaf in theta.leaves if hasattr(theta.values[leaf.position], "dtype")]
    if not arrays or any(given.get(path) is None for path in arrays):
        return ()
    return tuple(path for path in numbers if path in fields and given[path] is None)


def _unfit(leaf: Leaf, g: Any) -> str:
    """Why something is no gradient of a leaf, "" where it is one."""
    if g is None:
        return f"the gradient of leaf `{leaf.path}` is None; return an array of shape {leaf.shape}"
    if not hasattr(g, "dtype") and not isinstance(g, (int, float, complex)):
        return f"the gradient of leaf `{leaf.path}` is a {type(g).__name__}, not an array"
    if tuple(np.shape(g)) != leaf.shape:
        return f"the gradient of leaf `{leaf.path}` has shape {np.shape(g)}, the parameter {leaf.shape}"
    dtype = jax.dtypes.result_type(g)
    if not jax.dtypes.issubdtype(dtype, np.inexact) and not isinstance(g, int):
        return f"the gradient of leaf `{leaf.path}` has dtype {dtype}, the parameter {leaf.dtype}"
    if jax.dtypes.issubdtype(dtype, np.complexfloating) and not leaf.is_complex:
        return f"the gradient of the real leaf `{leaf.path}` is complex ({dtype})"
    return ""


def no_leaf(theta: Theta, said: str) -> TypeError:
    """The error of a tree without anything to differentiate; `said` is how it begins."""
    found = ", ".join(f"`{path}` ({why})" for path, why in theta.carried[:5]) or "nothing"
    whole = any("int" in why for _, why in theta.carried)
    advice = "; whole numbers have no derivative, make them floats: np.asarray(x, float)" if whole else ""
    return TypeError(f"{said} {found}{advice}")


def mismatch(theta: Theta, grads: Any) -> tuple[list[Any] | None, str]:
    """Match a gradient tree against the parameters' tree, leaf by leaf.

    Returns:
        (gradients of the differentiable leaves, note), or (None, what is wrong, naming the leaf).
        Carried leaves may hold anything (None, float0, zeros): JAX's own conventions differ.
    """
    with_paths, _ = jax.tree_util.tree_flatten_with_path(grads, is_leaf=is_none)
    if len(with_paths) == 1 and not with_paths[0][0] and not jax.tree_util.treedef_is_leaf(theta.treedef):
        value = with_paths[0][1]
        if value is None or not (is_array(value) or isinstance(value, (int, float, complex))):
            what = "None" if value is None else f"a {type(value).__name__}"
            wanted = ", ".join(f"`{leaf.path}`" for leaf in theta.leaves[:5])
            return None, f"the gradient is {what}; it has to be a tree of leaves {wanted}"
    # A bare array is a leaf of its own only where the parameters are one too.
    root = theta.paths[0] if jax.tree_util.treedef_is_leaf(theta.treedef) else "(the whole gradient)"
    given = {path_name(path, root): no_wider(g) for path, g in with_paths}
    wanted = {leaf.path for leaf in theta.leaves}
    missing = [leaf.path for leaf in theta.leaves if leaf.path not in given]
    extra = [path for path in given if path not in theta.paths]
    if missing or extra:
        parts = []
        if missing:
            parts.append("it has no leaf " + ", ".join(f"`{p}`" for p in missing[:5]))
        if extra:
            parts.append("it has a leaf " + ", ".join(f"`{p}`" for p in extra[:5]) + " that the parameters lack")
        alone = jax.tree_util.treedef_is_leaf(theta.treedef)
        if any(p.startswith("[" if alone else f"{leaf}[") for leaf in missing for p in extra):
            parts.append("a list is a tree of numbers, and no array: hand over np.asarray(...) of it")
        return None, "the gradient's structure differs from the parameters': " + "; ".join(parts)
    notes = []
    for leaf in theta.leaves:
        g = given[leaf.path]
        if wrong := _unfit(leaf, g):
            return None, wrong
        dtype = jax.dtypes.result_type(g)
        if isinstance(g, int):
            continue
        # Without 64-bit mode a float32 gradient of a float64 parameter is what JAX itself gives.
        if str(dtype) not in (leaf.dtype, leaf.native) and leaf.path in wanted:
            notes.append(f"`{leaf.path}`: gradient {dtype}, parameter {leaf.dtype}")
    note = "The gradient's dtype differs from the parameter's: " + "; ".join(notes[:3]) if notes else ""
    return [given[leaf.path] for leaf in theta.leaves], note
