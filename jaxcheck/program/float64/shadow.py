"""The same program in float64: by promotion where that is enough, emitted again where it is not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxcheck.program import asides, bits, draws, interpret, mistyped
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.custom import owner, rules
from jaxcheck.program.float64 import lifting
from jaxcheck.program.float64.lifting import Unliftable
from jaxcheck.program.float64.narrow import islands, low_precision, narrow, programs_of, stuck_in, uses_random_bits
from jaxcheck.program.float64.widths import lifted_dtype
from jaxcheck.program.mode import is_traced, is_wide
from jaxcheck.program.native import NativeTrace, refuse_no_function, trace_native
from jaxcheck.program.tidy import tidy

__all__ = ["Traced", "Unliftable", "in_float64", "islands", "lift", "low_precision", "runnable", "to_float64",
           "trace_float64", "uses_random_bits"]  # fmt: skip

# Not to be lifted, yet at home in both modes: Python, and programs that JAX itself splits.
_PORTABLE = ("pure_callback", "io_callback", "shard_map", "xla_pmap")


def lift(
    closed_jaxpr: Any,
    native_islands: bool = False,
    wide: bool | None = None,
    unheard: frozenset[Any] = frozenset(),
) -> Callable[..., list[Any]]:
    """The program as a function of flat float64 arguments, computing in float64 throughout.

    Custom rules are lifted with it, so that its derivatives are the rules' in float64. Random draws stay those of the
    original. Prints are dropped. `wide` says in which mode of JAX the program was traced (True: 64-bit), and is taken
    from the program itself if absent. With `native_islands`, what cannot run in float64 runs as it is, between two
    casts; what `unheard` host functions (`asides`) give is NaN.

    Raises:
        Unliftable: when the result is traced, if the program contains something that cannot run
            in float64 and `native_islands` is False.
    """
    mode = interpret.has_64_bits(closed_jaxpr) if wide is None else wide
    lifter = lifting.Lifter(mode, native_islands, unheard)

    def lifted(*args: Any) -> list[Any]:
        return lifter.function(closed_jaxpr)(*map(to_float64, args))

    return lifted


def to_float64(x: Any) -> Any:
    """A leaf in float64 or complex128 where it is inexact, unchanged where it is not."""
    if isinstance(x, float) and not isinstance(x, np.generic):
        return np.asarray(x, np.float64)
    if isinstance(x, complex) and not isinstance(x, np.generic):
        return np.asarray(x, np.complex128)
    dtype = getattr(x, "dtype", None)
    if dtype is None or (lifted_dtype(dtype) == dtype and not rules.is_inexact(x)):
        return x
    wide = lifted_dtype(dtype)
    if is_traced(x):
        with jax.enable_x64(True):
            return jax.lax.convert_element_type(x, wide)
    return np.asarray(x).astype(wide)


@dataclass(frozen=True)
class Traced:
    """A program traced for float64.

    `closed` takes the flat leaves for which `dynamic` is true: arrays and Python floats. Python ints, bools and other
    objects are baked in, as they may decide shapes and branches. `how` is `float64` (pure promotion), `lifted` (to be
    emitted again) or `native` (parts stay narrow), and `reasons` says why it is not the first.
    """

    closed: Any
    out_tree: Any
    how: str
    reasons: tuple[str, ...]
    dynamic: tuple[bool, ...]
    wide: bool
    mixed: bool = False


def _is_data(leaf: Any) -> bool:
    arrays = (jax.Array, np.ndarray, np.generic)
    return isinstance(leaf, (*arrays, float, complex)) and not isinstance(leaf, bool)


def trace_float64(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Traced:
    """Trace `f`, at arguments of any dtype, in the way which brings it nearest to pure float64.

    First with the arguments promoted, in the 64-bit mode. If that raises, or a custom rule cannot be differentiated
    there, or random numbers are drawn (other ones in that mode), natively.

    Raises:
        Whatever tracing `f` at its own dtypes raises.
    """
    traced, error = _promoted(f, args, kwargs)
    programs = () if traced is None else programs_of(traced.closed)
    error = error or _other_in_64_bits(programs)
    wide = not error
    if error or traced is None:
        traced, wide = trace_native(f, args, kwargs, _is_data), is_wide()
        traced = traced._replace(closed=tidy(traced.closed, wide))
        programs = programs_of(traced.closed)
    reasons, stuck = narrow(programs), stuck_in(programs)
    # An island in pure float64 is no hindrance: the program can run as it stands.
    how = "float64" if not reasons else "native" if stuck else "lifted"
    if reasons and error:
        reasons = (error, *reasons)
    return Traced(traced.closed, traced.out_tree, how, (*stuck, *reasons) if reasons else (),
                  traced.dynamic, wide, traced.mixed)  # fmt: skip


def _promoted(f: Any, args: Any, kwargs: Any) -> tuple[NativeTrace | None, str]:
    wide_args, wide_kwargs = jax.tree_util.tree_map(to_float64, (args, kwargs))
    rounded = not is_wide()

    def promote() -> tuple[NativeTrace | None, str]:
        with jax.enable_x64(True):
            traced = trace_native(f, wide_args, wide_kwargs, _is_data)
            # What the caller's own program rounds is rounded here, too.
            traced = traced._replace(closed=tidy(traced.closed, True, rounded), mixed=mistyped.mixed(traced.closed))
            if not any(is_traced(x) for x in traced.flat):
                _try_callbacks(traced)
            failure = _rule_failure(traced.closed)
        # A rule which refuses either way (one that forbids derivatives, say) is no reason.
        refused = failure and not _rule_failure(trace_native(f, args, kwargs, _is_data).closed)
        return (None, failure) if refused else (traced, "")

    try:
        return ask(promote)
    except Refused as no:  # a program written for one precision may fail in any way in another; native it is
        return None, _say(no.error)


def _try_callbacks(traced: NativeTrace) -> None:
    """Run a program with callbacks once, and its rules if they call back: what a callback makes of float64 numbers
    only it knows.

    Raises:
        JaxRuntimeError: what a callback raises, or returns in another dtype than declared.
    """

    def calling(unheard: frozenset[Any] = frozenset()) -> list[bool]:
        named = (stuck_in((p,), unheard) for p in programs_of(traced.closed))
        return [any(name in ("pure_callback", "io_callback") for name in names) for names in named]

    data = [x for x, m in zip(traced.flat, traced.dynamic, strict=True) if m]
    if not any(calling()) or not any(calls := calling(asides.silent(traced.closed, data, True))):
        return
    f = core.jaxpr_as_fun(traced.closed)
    jax.block_until_ready(jax.jit(f)(*data))
    if any(calls[1:]):
        live = [i for i, x in enumerate(data) if rules.is_inexact(jax.typeof(x))]

        def slopes(*moving: Any) -> Any:
            full = list(data)
            for i, x in zip(live, moving, strict=True):
                full[i] = x
            return sum(jnp.sum(y.real) for y in f(*full) if rules.is_inexact(y))

        for way in (jax.grad(slopes, tuple(range(len(live)))), lambda *x: jax.jvp(slopes, x, x)):
            try:
                ask(lambda way=way: jax.block_until_ready(jax.jit(way)(*(data[i] for i in live))))
            except Refused as no:  # else in this mode the rules do not go, whatever they call
                if isinstance(no.error, jax.errors.JaxRuntimeError):
                    raise


def _other_in_64_bits(programs: tuple[Any, ...]) -> str:
    """Why a promoted program would not be the original one, or nothing. Foreign code may be made for one precision; a
    callback is Python, and may well work in float64 if its results are declared as such."""
    if any(map(draws.draws, programs)):
        return "random numbers are drawn"
    if any(bits.other_bits(eqn) for program in programs for eqn, _ in interpret.walk(program)):
        return "the bits of numbers are read"
    names = stuck_in(programs)
    if names and (any(name not in _PORTABLE for name in names) or narrow(programs)):
        return "foreign code is called"
    return ""


def _rule_failure(closed_jaxpr: Any) -> str:
    """What a user's rule raises when differentiated, abstractly: pinned dtypes show only there."""
    for eqn, _ in interpret.walk(closed_jaxpr):
        if rules.rule_kind(eqn) is None or owner.owner(eqn).origin == "jax":
            continue
        live, outs = rules.live_operands(eqn), rules.inexact_positions(eqn.outvars)
        try:
            if live and outs:
                ask(rules.vjp_program, eqn, live, outs)
        except Refused as no:
            return _say(no.error)
    return ""


def _say(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"promotion fails: {type(error).__name__}: {first[:200]}"


def runnable(traced: Traced) -> Callable[..., list[Any]]:
    """The traced program as a function of all the flat leaves, in float64.

    It enters the 64-bit mode by itself; jit, vmap and differentiate it.
    """
    if traced.how == "float64":
        run = core.jaxpr_as_fun(traced.closed)
    else:
        run = lift(traced.closed, native_islands=traced.how == "native", wide=traced.wide)

    def flat(*leaves: Any) -> list[Any]:
        data = [to_float64(x) for x, m in zip(leaves, traced.dynamic, strict=True) if m]
        with jax.enable_x64(True):
            data = [jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in data]
            return list(run(*data))

    return flat


def in_float64(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` computed in float64 throughout: the same arguments, of any dtype; float64 results.

    The caller's precision mode neither matters nor changes. Custom rules are carried along. For derivatives in float64
    write `in_float64(jax.grad(f))`, or differentiate inside `jax.enable_x64(True)`: outside of it JAX itself makes
    float32 of them.

    Raises:
        TypeError: `f` is no function.
        Whatever tracing `f` raises, when the result is called.
    """
    refuse_no_function("in_float64", f)

    @functools.wraps(f, updated=())
    def wide(*args: Any, **kwargs: Any) -> Any:
        traced = trace_float64(f, *args, **kwargs)
        leaves = jax.tree_util.tree_leaves((args, kwargs))
        return jax.tree_util.tree_unflatten(traced.out_tree, runnable(traced)(*leaves))

    return wide
