"""JAX's eager mode, in which each operation is a program: compiled at little cost, and once for equal ones.

What JAX itself runs eagerly it compiles with all optimisation, and anew for each new trace of a loop's body. The
caller's Python sees no difference: it is given arrays, and no tracers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax._src import core, dispatch
from jax.sharding import SingleDeviceSharding

from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.identity import called_with
from jaxcheck.program.interpret import is_jaxpr
from jaxcheck.program.mode import as_jax, is_traced, is_wide
from jaxcheck.program.run import batching, cache
from jaxcheck.program.run.by_numpy import by_numpy
from jaxcheck.program.run.compile import SMALL, work

# What looks at each operation, or makes one of each, is meant for JAX's own.
_WATCHED = ("jax_debug_nans", "jax_debug_infs", "jax_disable_jit", "jax_debug_key_reuse", "jax_check_tracer_leaks")


_NOT = (*batching.CALLBACKS, "create_token", "after_all", "rng_uniform")


class _Eager(core.EvalTrace):
    """Runs operations as they come."""

    def process_primitive(self, primitive: Any, args: Any, *rest: Any) -> Any:
        params = rest[-1]
        if all(map(_is_ordinary, args)):
            avals = tuple(map(jax.typeof, args))
            found = by_numpy(primitive, avals, args, params)
            if found is not None:
                found = list(map(jax.device_put, found))
                return found if primitive.multiple_results else found[0]
            run = _program(primitive, avals, args, params)
            if run is not None:
                return run(*args)
        return super().process_primitive(primitive, args, *rest)

    def stage_value(self, val: Any) -> Any:
        return val if isinstance(val, jax.Array) else as_jax(val)

    # A rule is not asked for where nothing is differentiated.

    def process_custom_jvp_call(self, primitive: Any, fun: Any, *rest: Any, **more: Any) -> Any:
        return self._called(fun, rest)

    def process_custom_vjp_call(self, primitive: Any, fun: Any, *rest: Any, **more: Any) -> Any:
        return self._called(fun, rest)

    def _called(self, fun: Any, rest: Any) -> Any:
        args = next(x for x in reversed(rest) if isinstance(x, (list, tuple)))
        with core.set_current_trace(self):
            return fun.call_wrapped(*args)


_TRACE = _Eager()


def as_it_is(work: Callable[[Callable], Any]) -> Any:
    """`work(eager)`, where `eager(f, *args)` is `f(*args)` outside of any trace; by JAX itself on an accelerator, where
    it is told to watch, and where it refuses anything here.

    Raises:
        Refused: by the caller's code or by JAX.
    """
    if jax.default_backend() == "cpu" and not any(getattr(jax.config, name, False) for name in _WATCHED):
        with contextlib.suppress(Refused):
            return work(_eager)
    return work(ask)


def run_eagerly(f: Callable, *args: Any) -> Any:
    """`f(*args)` as it is, see `as_it_is`."""
    return as_it_is(lambda eager: eager(f, *args))


def _eager(f: Callable, *args: Any) -> Any:
    with core.set_current_trace(_TRACE):
        return ask(f, *args)


def _program(primitive: Any, avals: Any, args: Any, params: dict[str, Any]) -> Callable | None:
    """The compiled form of one operation, or None where JAX is to run it."""
    if not (_is_program(primitive) and all(map(_is_quiet, params.values()))):
        return None
    turns = params.get("length", 20 if primitive.name == "while" else 1)
    if max(sum(a.size for a in avals), turns * sum(work(v) for v in params.values() if is_jaxpr(v))) > SMALL:
        return None
    try:
        key = _key(primitive, avals, params)
        return (cache.find(key) or ask(cache.make, key, functools.partial(_bind, primitive, params), args, True))[0]
    except Refused:  # JAX meets it again, and says so as it does
        return None


def _key(primitive: Any, avals: Any, params: dict[str, Any]) -> Any:
    random = getattr(jax.config, "jax_threefry_partitionable", None)
    return primitive, called_with(params), avals, is_wide(), random


def compiled_before(eqn: Any) -> Callable | None:
    """The compiled form of an equation's operation, where it was run eagerly before."""
    if not (_is_program(eqn.primitive) and all(map(_is_quiet, eqn.params.values()))):
        return None
    hit = cache.find(_key(eqn.primitive, tuple(v.aval for v in eqn.invars), eqn.params))
    return None if hit is None else hit[0]


def _bind(primitive: Any, params: dict[str, Any], *args: Any) -> Any:
    return primitive.bind(*args, **params)


def _is_program(primitive: Any) -> bool:
    """Whether JAX compiles a program for it."""
    impl = getattr(primitive, "impl", None)
    return primitive.name not in _NOT and (
        primitive.name == "jit" or getattr(impl, "func", None) is dispatch.apply_primitive
    )


def _is_ordinary(x: Any) -> bool:
    if isinstance(x, jax.Array):
        return (
            not is_traced(x)
            and isinstance(x.sharding, SingleDeviceSharding)
            and not (jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended))
        )
    return isinstance(x, (np.ndarray, np.generic, bool, int, float, complex))


def _is_quiet(value: Any) -> bool:
    """Whether a parameter says nothing of effects, of Python to be called, and of devices."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_quiet, value))
    if is_jaxpr(value):
        return not value.effects and not batching.calls_back(value)
    return not isinstance(value, jax.sharding.Sharding)
