"""A function with its custom rules at one point, in flat form, and the arithmetic of comparing its results."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.program import interpret
from jaxcheck.program.ask import on_purpose
from jaxcheck.program.mode import as_jax, laid_out
from jaxcheck.result import Row
from jaxcheck.theta import is_none, take_apart, why_not_differentiable

Arrays = list[Any]


def cast(x: Any, dtype: Any) -> Any:
    """An inexact array in another precision, anything else as it is. Complex follows the real width.

    Raises:
        TypeError: for a complex array where `dtype` has no complex partner.
    """
    if not isinstance(x, (jax.Array, np.ndarray, np.generic)) or why_not_differentiable(x):
        return x
    wanted = np.dtype(dtype)
    if jnp.iscomplexobj(x):
        pair = {"float32": np.complex64, "float64": np.complex128}
        if wanted.name not in pair:
            raise on_purpose(TypeError(f"there is no complex {wanted.name}"))
        wanted = np.dtype(pair[wanted.name])
    value = np.asarray(x).astype(wanted)
    return laid_out(value, x) if isinstance(x, jax.Array) else value


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """`call` takes the differentiable leaves of the arguments in question and gives all inexact results;
    `full` gives the other array results too. `live` are those leaves, `paths` their names."""

    call: Callable[..., Arrays]
    full: Callable[..., Arrays]
    live: tuple[Any, ...]
    paths: tuple[str, ...]


def build(f: Callable, args: Sequence[Any], kwargs: dict, argnums: Any, dtype: Any = None) -> Site:
    """Flatten `f` at its arguments, first cast to `dtype` if one is given (in the 64-bit mode for float64).

    Raises:
        ValueError: if an argnum is out of range or nothing differentiable is among the arguments.
        TypeError: if an argument cannot be cast.
    """
    argnums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if any(not -len(args) <= i < len(args) for i in argnums):
        raise ValueError(f"argnums={argnums} for {len(args)} positional arguments")
    argnums = tuple(i % len(args) for i in argnums)
    if dtype is not None:
        args, kwargs = jax.tree_util.tree_map(lambda x: cast(x, dtype), (tuple(args), kwargs))
    places, live, paths = [], [], []
    for i in argnums:
        theta = take_apart(args[i], "")
        for leaf in theta.leaves:
            places.append((i, leaf.position))
            live.append(_strong(theta.values[leaf.position], dtype))
            joint = "" if not leaf.path or leaf.path.startswith("[") else "."
            paths.append(f"args[{i}]{joint}{leaf.path}")
    if not live:
        raise ValueError("no argument in argnums has a differentiable leaf")
    trees = [jax.tree_util.tree_flatten(a, is_leaf=is_none) for a in args]

    def full(*values: Any) -> Arrays:
        flat = [list(leaves) for leaves, _ in trees]
        for (i, position), value in zip(places, values, strict=True):
            flat[i][position] = value
        whole = [jax.tree_util.tree_unflatten(t, leaves) for leaves, (_, t) in zip(flat, trees, strict=True)]
        out = jax.tree_util.tree_leaves(f(*whole, **kwargs))
        return [x for x in out if hasattr(x, "dtype") or isinstance(x, (bool, int, float, complex))]

    def call(*values: Any) -> Arrays:
        return [x for x in full(*values) if not why_not_differentiable(x)]

    return Site(call, full, tuple(live), tuple(paths))


def _strong(value: Any, dtype: Any) -> Any:
    if not isinstance(value, jax.Array):
        value = as_jax(value if dtype is None else cast(np.asarray(value), dtype))
    return value


def pull(call: Callable) -> Callable:
    """(x, g) -> the cotangents of x by the rules in `call`; flat, for g of all its results."""

    def pulled(x: Sequence[Any], g: Sequence[Any]) -> Arrays:
        return list(jax.vjp(call, *x)[1](list(g)))

    return pulled


def push(call: Callable) -> Callable:
    """(x, t) -> the tangents of the results by the rules in `call`; flat."""

    def pushed(x: Sequence[Any], t: Sequence[Any]) -> Arrays:
        return list(jax.jvp(call, list(x), list(t))[1])

    return pushed


def some_outputs(call: Callable, part: tuple[int, ...]) -> Callable:
    """`call` with some of its results alone."""

    def used(*values: Any) -> list[Any]:
        out = call(*values)  # once, or every use would be a call of its own
        return [out[k] for k in part]

    return used


def some_inputs(call: Callable, part: tuple[int, ...]) -> Callable:
    """(x, g) -> the cotangents of some of x, the others held fixed."""

    def pulled(x: list[Any], g: list[Any]) -> list[Any]:
        def moved(*values: Any) -> Any:
            given = dict(zip(part, values, strict=True))
            return call(*(given.get(i, v) for i, v in enumerate(x)))

        return list(jax.vjp(moved, *(x[k] for k in part))[1](list(g)))

    return pulled


def draw(like: Sequence[Any], seed: int, name: str) -> Arrays:
    """Normal numbers of mixed signs, of the types of `like`; another leaf changes none of them."""
    out = []
    for k, x in enumerate(like):
        rng = np.random.default_rng([seed, zlib.crc32(f"{name}{k}".encode())])
        value = rng.standard_normal(np.shape(x))
        if jnp.iscomplexobj(x):
            value = value + 1j * rng.standard_normal(np.shape(x))
        out.append(laid_out(np.asarray(value).astype(jax.dtypes.result_type(x)), x))
    return out


def moved(x: Sequence[Any], parts: Sequence[Any]) -> Arrays:
    """x (1 + part), leaf by leaf, of the dtypes of x; on the host, where it is no program to compile."""
    return [laid_out((np.asarray(v) * (1 + np.asarray(p))).astype(v.dtype), v) for v, p in zip(x, parts, strict=True)]


def nearby(x: Sequence[Any], size: float, seed: int, name: str) -> Arrays:
    """x with each number moved up or down by `size` of itself."""
    return moved(x, [size * np.sign(np.real(np.asarray(r))).astype(np.float64) for r in draw(x, seed, name)])


def natural(values: Sequence[Any], x: Sequence[Any], g: Sequence[Any]) -> list[float]:
    """The size of a cotangent by its units, |g| |f| / |x|: what is far below it is a rounding residue."""
    total = sum(norm(a) * norm(b) for a, b in zip(host(values), host(g), strict=True))
    sizes = [norm(a) for a in host(x)]
    return [total / s if s > 0 and np.isfinite(total) else 0.0 for s in sizes]


def host(arrays: Sequence[Any]) -> list[np.ndarray]:
    """On the host, in float64 or complex128."""
    values = [np.asarray(x) for x in arrays]
    return [v.astype(np.complex128 if v.dtype.kind == "c" else np.float64) for v in values]


def norm(x: np.ndarray) -> float:
    """The 2-norm, without overflow; NaN where an entry is not finite."""
    scale = np.abs(x).max(initial=0.0)
    if scale == 0 or not np.isfinite(scale):
        return 0.0 if scale == 0 else float("nan")
    return float(scale * np.linalg.norm(x / scale))


def finite(arrays: Sequence[np.ndarray]) -> bool:
    return all(np.isfinite(x).all() for x in arrays)


def unit_of(*dtypes: Any) -> float:
    """The unit round-off of the narrowest floating dtype among these."""
    floats = [d for d in dtypes if d is not None and jax.dtypes.issubdtype(d, np.inexact)]
    return max((float(jnp.finfo(d).eps) for d in floats), default=float(np.finfo(np.float64).eps))


def unit_in(closed: Any) -> float:
    """The same for everything that a program computes."""
    outs = [v for eqn, _ in interpret.walk(closed) for v in eqn.outvars]
    return unit_of(*(getattr(v.aval, "dtype", None) for v in [*interpret.opened(closed).invars, *outs]))


def worst(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], bars: Sequence[float], sizes: Sequence[float]):
    """(relative difference, leaf) of the leaf that disagrees most beyond its bar, or (largest difference, -1).

    A NaN equals nothing, not even a NaN; and what is the same is the same, where nobody knows its bar.
    """
    largest, culprit, excess = 0.0, -1, 0.0
    for k, (a, b, bar, size) in enumerate(zip(found, wanted, bars, sizes, strict=True)):
        d = norm(a - b) if a.shape == b.shape else float("nan")
        relative = 0.0 if d == 0 else d / size if size > 0 else float("inf")
        if d != 0 and not d <= bar:
            over = d / bar if bar > 0 and np.isfinite(d) else float("inf")
            if culprit < 0 or over > excess:
                largest, culprit, excess = relative, k, over
        elif culprit < 0 and size > bar:  # what is nothing but its rounding is no size
            largest = max(largest, relative)
    return largest, culprit


def reason(error: BaseException) -> str:
    """JAX's own words, the first line."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0].strip()[:200]}"


def unsupported(group: str, name: str, why: Any) -> Row:
    return Row(group, name, "UNSUPPORTED", detail=reason(why) if isinstance(why, BaseException) else str(why))
