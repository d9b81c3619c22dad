"""Compiled programs, kept by what they compute: so that a second check compiles nothing."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxcheck import budget
from jaxcheck.program import interpret
from jaxcheck.program.run import batching, memory, products

# Compiled forms by what they compute, the last used last, with the memory each takes; bounded in number and in bytes
# that they take. A plain dict: an exception out of a signal's handler, while keys are compared, breaks an OrderedDict.
_CACHE: dict[Any, tuple[Any, memory.Need]] = {}
_CACHE_SIZE, _CACHE_BYTES = 256, 2**26
# Programs compiled, and after how many of them memory is given back: that takes some 10 ms.
_COMPILED, _GIVE_BACK = itertools.count(1), 32
# Checks may run in several threads; a program that two of them want at once is compiled twice, and kept once.
_LOCK = threading.Lock()
# Together these compile small programs five times faster than the defaults (jaxlib 0.10, CPU).
_LLVM = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
_PLAIN = {**_LLVM, "xla_cpu_use_fusion_emitters": False}
# Products of convolutions from which these cost more than they save: a product takes 11 ns with them and 0.6 without
# (3x3, 16 channels on 4x16x16, float64, jaxlib 0.10 on 2 cores), and to compile with care takes 0.1 s more.
CONVOLVED = 1e7
# What the compiler does if nobody asked for less, in XLA_FLAGS.
CAREFUL = ({"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False},)
QUICK = ({**_PLAIN, "xla_cpu_parallel_codegen_split_count": 1}, _PLAIN, _LLVM)
# On a GPU most of the compiler's time goes into trying out kernels of its own for each product of matrices, beside
# those of the vendor's library: for the gradient of a transformer of 12 layers it took 11.5 s, and 3.7 s without, and
# what it made ran as fast (H100, jax 0.11: 3.6 and 3.5 ms in float32, 5.8 both in float64).
ON_GPU = ({"xla_gpu_enable_triton_gemm": False},)


def find(key: Any) -> tuple[Any, memory.Need] | None:
    """The executable that was made for this key, and the memory that it takes."""
    with _LOCK:
        hit = _CACHE.get(key)
        if hit is not None:
            _CACHE[key] = _CACHE.pop(key)
        return hit


def make(key: Any, f: Callable, args: Sequence[Any], small: bool) -> tuple[Any, memory.Need]:
    """`f` compiled at `args`, and kept; `key` says all that it depends on. `small`: with little optimisation.

    Nobody can stop a compiler, so the budget in force is asked before, where it can be foreseen what this one takes.
    """
    start, clock = time.perf_counter(), budget.current()
    traced, call, careful = jax.jit(f).trace(*args), None, False
    small = small and batching.convolved(traced.jaxpr) < CONVOLVED
    if small and products.compares(traced.jaxpr):
        careful = products.holds_series(traced.jaxpr)
        try:
            traced, call = _rounded_once(traced, args)
        except (TypeError, ValueError, NotImplementedError, KeyError):  # not to be emitted again: a tracer leaked, say
            careful = True
    equations, quick = sum(1 for _ in interpret.walk(traced.jaxpr)), small and not careful
    clock.ask(seconds=clock.compilation(equations, quick))
    executable = _compile(traced.lower(), small, careful)
    found = _keep(key, call(executable) if call else executable, memory.Need.of(executable))
    clock.compiled(time.perf_counter() - start, equations, quick)
    return found


def _rounded_once(traced: Any, args: Sequence[Any]) -> tuple[Any, Callable]:
    """(the program traced again, its products not contracted; what calls it when it is compiled).

    Raises:
        NotImplementedError: parts of it are out of reach.
        Whatever emitting it again raises.
    """
    if products.elsewhere(traced.jaxpr):
        raise NotImplementedError("parts of the program run elsewhere")
    run, tree = products.rounded_once(traced.jaxpr), jax.tree_util.tree_structure(traced.out_info)

    def whole(zero: Any, *args: Any) -> Any:
        return jax.tree_util.tree_unflatten(tree, run(zero, *jax.tree_util.tree_leaves(args)))

    return jax.jit(whole).trace(products.ZERO, *args), lambda executable: functools.partial(executable, products.ZERO)


def _keep(key: Any, executable: Any, need: memory.Need) -> tuple[Any, memory.Need]:
    kept = executable, need
    with _LOCK:
        _CACHE[key] = kept
        while len(_CACHE) > 1 and (len(_CACHE) > _CACHE_SIZE or sum(n.code for _, n in _CACHE.values()) > _CACHE_BYTES):
            del _CACHE[next(iter(_CACHE))]
    if not next(_COMPILED) % _GIVE_BACK:
        memory.give_back()
    return kept


def compiled(lowered: Any) -> Any:
    """What is run once, with little optimisation, and not kept."""
    return _compile(lowered, True)


def _compile(lowered: Any, small: bool, careful: bool = False) -> Any:
    ways = (CAREFUL if careful else QUICK) if small else ON_GPU if jax.default_backend() == "gpu" else ()
    for options in ways:
        try:
            return lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:  # an option that this XLA does not know
            if "option" not in str(error).lower() and "flag" not in str(error).lower():
                raise
    return lowered.compile()


def clear() -> None:
    """Forget all compiled programs."""
    with _LOCK:
        _CACHE.clear()
