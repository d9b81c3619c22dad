"""The points of a batch: a stacked pytree, a list, draws of an initialisation, or steps of a training."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from jaxcheck.budget import current
from jaxcheck.problem.problem import Problem
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.mode import as_jax, is_traced
from jaxcheck.program.objective import trace
from jaxcheck.program.run.compile import execute
from jaxcheck.there import there
from jaxcheck.theta import Theta, is_none, take_apart


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """n points: stacked leaves or a list, each with a label and a line that rebuilds it; `notes` on how they were
    read, `source` is the function that made them, "" where they were given."""

    stacked: Any
    listed: tuple[Any, ...] | None
    labels: tuple[str, ...]
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()
    source: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def tree(self, index: int) -> Any:
        if self.listed is not None:
            return self.listed[index]
        return jax.tree_util.tree_map(lambda x: _item(x, index), self.stacked)

    def alike(self, problem: Problem) -> bool:
        """Whether the points differ in nothing but the numbers of their differentiable leaves: a program traced at one
        point holds all else as constants, and may have been chosen by it (what holds the leaves, static fields,
        dtypes)."""
        if self.listed is not None:
            first, *others = self._others(problem.theta)
            if not all(_is_held_alike(other, first) for other in others):
                return False
        if not problem.theta.carried:
            return True
        moving = {leaf.position for leaf in problem.theta.leaves}
        trees = [jax.tree_util.tree_leaves(self.tree(i), is_leaf=is_none) for i in range(len(self))]
        return all(
            _equal(x, y)
            for tree in trees[1:]
            for i, (x, y) in enumerate(zip(trees[0], tree, strict=True))
            if i not in moving
        )

    @functools.cached_property
    def _apart(self) -> dict[tuple[str, ...], list[Theta]]:
        return {}

    def _others(self, theta: Theta) -> list[Theta]:
        """The points of a list, taken apart as the first was."""
        if theta.held not in self._apart:
            self._apart[theta.held] = [take_apart(tree, held=theta.held) for tree in there(self.listed)]
        return self._apart[theta.held]

    def refuse_others(self, theta: Theta) -> None:
        """Raise ValueError at the first point of a list whose differentiable leaves are not those of the first."""
        for index, other in enumerate(self._others(theta) if self.listed is not None else ()):
            said = _otherwise(other, theta, self._name(0))
            if said:
                raise ValueError(f"{self._name(index)} has other leaves or shapes than {self._name(0)}: {said}")

    def _name(self, index: int) -> str:
        """A point as the caller knows it."""
        return f"{self.labels[index]} of {self.source}" if self.source else f"points[{index}]"

    def theta_rows(self, problem: Problem) -> np.ndarray:
        """(n, P) real vectors theta, of the numbers that the caller's own program sees."""
        rows = self._rows(problem.theta)
        with np.errstate(over="ignore"):
            for leaf in problem.theta.leaves:
                here = slice(leaf.start, leaf.stop)
                rows[:, here] = rows[:, here].astype(jax.numpy.finfo(leaf.native).dtype)
        return rows

    def _rows(self, theta: Theta) -> np.ndarray:
        """The same, of the numbers as they were given."""
        if self.listed is not None:
            return np.stack([other.ravel() for other in self._others(theta)])
        leaves = jax.tree_util.tree_leaves(self.stacked, is_leaf=is_none)
        parts = []
        for leaf in theta.leaves:
            x = np.asarray(leaves[leaf.position])
            if leaf.is_complex:
                x = x.reshape(len(x), -1).astype(np.complex128)
                parts += [x.real, x.imag]
            else:
                parts.append(x.reshape(len(x), -1).astype(np.float64))
        return np.concatenate(parts, axis=1)


def _otherwise(other: Theta, first: Theta, its_name: str) -> str:
    """In what the differentiable leaves differ, or nothing."""
    found, wanted = ({leaf.path: leaf for leaf in theta.leaves} for theta in (other, first))
    for path, leaf in found.items():
        if path not in wanted:
            return f"it has a leaf `{path}`, {its_name} has {_what(first, path)}"
        if (leaf.shape, leaf.is_complex) != (wanted[path].shape, wanted[path].is_complex):
            return (
                f"leaf `{path}` is {leaf.dtype}{list(leaf.shape)}, there {wanted[path].dtype}{list(wanted[path].shape)}"
            )
    missing = next((path for path in wanted if path not in found), None)
    return "" if missing is None else f"{its_name} has a leaf `{missing}`, it has {_what(other, missing)}"


def _what(theta: Theta, path: str) -> str:
    """What a tree without that differentiable leaf has there."""
    why = dict(theta.carried).get(path)
    return "none" if why is None else f"one that is not differentiated ({why})"


def _is_held_alike(one: Theta, other: Theta) -> bool:
    """Whether two points are trees of one structure, with leaves of the same kinds and dtypes."""
    try:
        same = ask(lambda: bool(one.treedef == other.treedef))
    except Refused:  # a static field that does not compare: an array
        same = False
    kinds = [[(x.dtype, isinstance(t.values[x.position], jax.Array)) for x in t.leaves] for t in (one, other)]
    return same and kinds[0] == kinds[1]


def _equal(x: Any, y: Any) -> bool:
    if x is y:
        return True
    numbers = [hasattr(v, "dtype") for v in (x, y)]
    if all(numbers):
        if any(jax.dtypes.issubdtype(v.dtype, jax.dtypes.prng_key) for v in (x, y)):
            return x.dtype == y.dtype and np.array_equal(jax.random.key_data(x), jax.random.key_data(y))
        return x.dtype == y.dtype and bool(np.array_equal(x, y))
    return not any(numbers) and type(x) is type(y) and bool(x == y)


def _item(x: Any, index: int) -> Any:
    """One item of a stacked leaf; indexing a JAX array would compile a program per shape."""
    if not hasattr(x, "shape"):
        return x
    if isinstance(x, jax.Array) and not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return as_jax(np.asarray(x)[index])
    return x[index]


def _no_array(points: Any) -> Exception:
    if isinstance(points, (list, tuple)) and not points:
        return ValueError("points holds no point: the list is empty")
    return TypeError("points holds no array; give a pytree whose leaves have a leading axis, or a list of pytrees")


def collect(points, init, n, train_step, steps, seed, accepts) -> Batch:
    """Validate the three ways to name points.

    `accepts(tree)` says whether the loss takes it: a list is a list of points if the loss takes its first
    item, and a stacked pytree that happens to be a list otherwise. A loss of `p[0]` and `p[1]` takes both: then a
    tuple is a stacked pytree, a list a list.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    if (points is None) == (init is None):
        both = "not both" if points is not None else "neither is there"
        raise TypeError(f"give either points (a stacked pytree or a list of pytrees) or init=; {both}")
    if (train_step is None) != (steps is None):
        raise TypeError("train_step= and steps= go together: steps=[0, 100] checks before and after 100 steps")
    _refuse_no_function("init", "key", init)
    _refuse_no_function("train_step", "params", train_step)
    if train_step is not None:
        if n is not None:
            raise TypeError("n= draws initialisations; with train_step= the points come from steps=")
        if init is None:
            return _trained(points, "points", train_step, steps)
        return _trained(init(jax.random.key(seed)), f"init(jax.random.key({seed}))", train_step, steps)
    if init is not None:
        return _drawn(init, n, seed)
    listed = _listed(points, n, accepts)
    if listed is not None:
        return listed
    leaves = [x for x in jax.tree_util.tree_leaves(points) if hasattr(x, "shape")]
    if not leaves:
        raise _no_array(points)
    lengths: set[Any] = {x.shape[0] if x.ndim else None for x in leaves}
    if len(lengths) != 1 or None in lengths:
        found = ", ".join(sorted("none (a scalar)" if n is None else str(n) for n in lengths))
        raise ValueError(f"points must have one leading axis of equal length on every leaf; found lengths {found}")
    if lengths == {0}:
        raise ValueError("points holds no point: its leading axis has length 0")
    return Batch(points, None, *_names(lengths.pop(), "jax.tree.map(lambda x: x[%d], points)"))


def _refuse_no_function(name: str, of: str, given: Any) -> None:
    if given is not None and not callable(given):
        raise TypeError(f"{name} must be a function, {name}({of}) -> params, not {type(given).__name__}")


def _drawn(init: Callable, n: Any, seed: int) -> Batch:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"n={n!r}: how many points to draw from init, a whole number of at least 1")
    n = int(n)
    keys = jax.random.split(jax.random.key(seed), n)
    names = _names(n, f"init(jax.random.split(jax.random.key({seed}), {n})[%d])")
    try:
        # Traced each time, for `init` may close over what has changed; compiled where that made another program of it.
        drawn = ask(trace, lambda leaves, _: jax.vmap(init)(*leaves), [keys], [], "native")
        flat, _ = ask(execute, "init", lambda programs, keys: programs[0](keys), [drawn.program], keys)
        return Batch(jax.tree_util.tree_unflatten(drawn.out_tree, flat), None, *names, source="init")
    except Refused:
        # An init written in NumPy, or with Python control flow, is called key by key.
        return Batch(None, tuple(init(key) for key in keys), *names, source="init")


def _listed(points: Any, n: Any, accepts: Callable) -> Batch | None:
    """The points of a list; None for a stacked pytree."""
    if n is not None:
        raise TypeError("n= draws that many points from init=; points= are as many as they are")
    if isinstance(points, np.ndarray) and points.dtype == object:
        raise TypeError("points is an array of objects: give a list of pytrees, list(points)")
    if isinstance(points, Iterator):
        raise TypeError(
            f"points is a {type(points).__name__}, which can be run through once: give a list of pytrees, list(points)"
        )
    if not (isinstance(points, (list, tuple)) and len(points) and accepts(points[0])):
        return None
    both = _stacks(points) and accepts(jax.tree_util.tree_map(lambda x: _item(x, 0), points))
    if both and not isinstance(points, list):
        return None
    other = len(jax.tree_util.tree_leaves(points)[0]) if both else 0
    said = (
        (
            f"points is read as a list of {len(points)} points; where it means {other} points stacked leaf by leaf, "
            "make it a tuple",
        )
        if both
        else ()
    )
    return Batch(None, tuple(points), *_names(len(points), "points[%d]"), said)


def _stacks(points: Any) -> bool:
    """Whether all leaves are arrays with a leading axis of one length."""
    lengths = {x.shape[0] if hasattr(x, "shape") and x.ndim else 0 for x in jax.tree_util.tree_leaves(points)}
    return len(lengths) == 1 and lengths != {0}


def _names(n: int, line: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(f"point {i}" for i in range(n)), tuple(line % i for i in range(n))


def _copied(tree: Any) -> Any:
    def copy(x):
        if isinstance(x, np.ndarray) or (isinstance(x, jax.Array) and not is_traced(x)):
            return x.copy()
        return x

    return jax.tree_util.tree_map(copy, tree)


def _trained(params, line, train_step, steps) -> Batch:
    wanted = list(steps) if isinstance(steps, Iterable) else []
    if not wanted or any(isinstance(s, bool) or not isinstance(s, (int, np.integer)) or s < 0 for s in wanted):
        raise ValueError(f"steps={steps!r}: a list of step counts, each a whole number that is not negative")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"steps={steps!r} names a count twice; the points are those after each count, once")
    found = {}
    # A step may donate what it is given (or write into it): it gets its own, never the caller's nor a stored one.
    params = _copied(params)
    clock = current()
    for step in range(max(wanted) + 1):
        if step in wanted:
            found[step] = _copied(params)
        if step < max(wanted):
            clock.tell("training steps", step, max(wanted))
            clock.ask()
            params = train_step(params)
            if params is None:
                raise TypeError(f"train_step returned None at step {step + 1}: it returns the parameters after a step")
    order = sorted(set(wanted))
    labels = tuple(f"step {s}" for s in order)
    lines = tuple(f"functools.reduce(lambda p, _: train_step(p), range({s}), {line})" for s in order)
    return Batch(None, tuple(found[s] for s in order), labels, lines, source="train_step")
