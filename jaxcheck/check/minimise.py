"""A failing check made small: fewer rows, narrower axes and plainer values, for as long as the same leaf fails."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import jax
import numpy as np

from jaxcheck.check import script
from jaxcheck.program.calm import calm
from jaxcheck.result import Report, Verdict
from jaxcheck.tracebacks import of_a_signal

Parameters = ParamSpec("Parameters")
Tree = dict[str, Any]

# Sizes that an axis is cut to, the smallest first; half of it is tried besides.
SMALL = (1, 2, 3)
# Digits to which values are rounded, after zeros and ones.
DIGITS = (0, 1, 2)
# Seconds that one check on the way may take.
EACH = 10.0


def minimisable(*data: str) -> Callable[[Callable[Parameters, Report]], Callable[Parameters, Report]]:
    """Decorator of a door whose reports, where they are a FAIL, know how to be made small.

    Args:
        data: the parameters of the door that hold what may be made smaller.
    """

    def decorate(f: Callable[Parameters, Report]) -> Callable[Parameters, Report]:
        signature = inspect.signature(f)

        @functools.wraps(f)
        def door(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Report:
            __tracebackhide__ = True
            report = f(*args, **kwargs)
            if isinstance(report, Report) and report.verdict is Verdict.FAIL:
                given = signature.bind(*args, **kwargs)
                # Beside its fields, which are numbers alone: neither compared, saved nor pickled.
                object.__setattr__(report, "_smaller", functools.partial(_minimise, f, given, data, report))
            return report

        return door

    return decorate


def _minimise(
    f: Callable[..., Report], given: inspect.BoundArguments, data: tuple[str, ...], report: Report, seconds: float
) -> str:
    """The script of the smallest call found that fails alike."""
    grad = given.arguments.get("grad")
    if grad is not None and not callable(grad):
        raise ValueError(
            "minimise(): grad was given as numbers, which are known at this point alone; "
            "give check_grad the function that computes them"
        )
    search = _Search(f, given, report, time.perf_counter() + seconds)
    with calm():
        small = search.go({name: given.arguments[name] for name in data if name in given.arguments})
    return script.of_call(f.__name__, given, small, search.wrong)


class _Search:
    """Smaller calls that fail as the first one did."""

    def __init__(self, f: Callable[..., Report], given: inspect.BoundArguments, report: Report, deadline: float):
        self.f, self.given, self.deadline = f, given, deadline
        self.reason = report.reason
        self.wrong = report.failed[0].path if report.failed else ""

    def go(self, tree: Tree) -> Tree:
        """The smallest that was found in time."""
        for kind in (self._narrower, self._plainer_at_once, self._plainer):
            tree = kind(tree)
        return tree

    def stays(self, tree: Tree) -> bool:
        """Whether a smaller call fails for the same reason, in the same leaf."""
        arguments = {**self.given.arguments, **tree}
        call = inspect.BoundArguments(self.given.signature, arguments)  # type: ignore[arg-type]
        options = dict(call.kwargs, where=False, budget=EACH, progress=False)
        options.pop("resume", None)  # the file is that of the first call
        try:
            report = self.f(*call.args, **options)
        except Exception as error:  # what is smaller may be nonsense for the program in any way
            if of_a_signal(error):
                raise
            return False
        alike = report.verdict is Verdict.FAIL and report.reason is self.reason
        return alike and (not self.wrong or any(leaf.path == self.wrong for leaf in report.failed))

    def first(self, tree: Tree, smaller: Iterator[Tree]) -> Tree:
        """The first of some smaller ones that fails alike, else the one there is."""
        for other in smaller:
            if time.perf_counter() > self.deadline:
                break
            if self.stays(other):
                return other
        return tree

    def _narrower(self, tree: Tree) -> Tree:
        """Every axis of a size cut together: rows first, then whatever else can be cut."""
        rows = [np.shape(x)[0] for x in jax.tree.leaves(tree.get("args", ())) if np.ndim(x)]
        sizes = sorted({n for x in jax.tree.leaves(tree) for n in np.shape(x) if n > 1}, reverse=True)
        for size in dict.fromkeys([*rows, *sizes]):
            cuts = [k for k in dict.fromkeys((*SMALL, size // 2)) if 0 < k < size]
            tree = self.first(tree, (_cut(tree, size, k) for k in cuts))
        return tree

    def _plainer_at_once(self, tree: Tree) -> Tree:
        return self.first(tree, (_changed(tree, lambda x, i, n=n: _rounded(x, n)) for n in DIGITS))

    def _plainer(self, tree: Tree) -> Tree:
        """Each array by itself."""
        for k, x in enumerate(jax.tree.leaves(tree)):
            if not _is_float(x):
                continue
            guesses = [np.zeros_like(x), np.ones_like(x), *(_rounded(x, n) for n in DIGITS)]
            guesses = [g for g in guesses if not np.array_equal(g, x)]
            if np.array_equal(x, guesses[0] if guesses else x):
                continue
            tree = self.first(tree, (_changed(tree, lambda old, i, k=k, g=g: g if i == k else old) for g in guesses))
        return tree


def _changed(tree: Tree, change: Callable[[Any, int], Any]) -> Tree:
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, [_like(change(x, i), x) for i, x in enumerate(leaves)])


def _like(new: Any, old: Any) -> Any:
    """An array of the same library as the old one."""
    if new is old or not hasattr(old, "dtype"):
        return new
    return jax.numpy.asarray(new, old.dtype) if isinstance(old, jax.Array) else np.asarray(new, old.dtype)


def _cut(tree: Tree, size: int, to: int) -> Tree:
    """All axes of a size cut; whole numbers that may point into one are taken modulo its new size."""

    def smaller(x: Any, _: int) -> Any:
        if not hasattr(x, "dtype") or jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended) or size not in np.shape(x):
            return x
        cut = np.asarray(x)[tuple(slice(to) if n == size else slice(None) for n in np.shape(x))]
        return cut % to if cut.dtype.kind in "iu" and cut.size and to <= cut.max() < size else cut

    return _changed(tree, smaller)


def _is_float(x: Any) -> bool:
    return (hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, np.inexact)) or isinstance(x, (float, complex))


def _rounded(x: Any, digits: int) -> Any:
    if not _is_float(x):
        return x
    wide = np.round(np.asarray(x).astype(complex if np.iscomplexobj(x) else float), digits) + 0.0
    return wide.astype(x.dtype) if hasattr(x, "dtype") else type(x)(wide)
