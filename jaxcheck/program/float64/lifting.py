"""A jaxpr emitted again with every low-precision float made a float64.

One invariant carries the whole: a value whose type in the program is a float of any width is a
float64 here (a complex one a complex128), and every other value has the type that it had. Each
nested program keeps it, so loops and branches still fit, and each equation is bound again with
its own parameters, those that name a dtype apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcheck.program import asides, draws, foreign, interpret, jaxpr, kernels
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.custom import rules
from jaxcheck.program.float64.lifting_special import SPECIAL
from jaxcheck.program.float64.own_bits import rounded_to, shut
from jaxcheck.program.float64.widths import cast, lift_value, lifted_aval, lifted_dtype, to_dtype_of

_DTYPE_PARAMS = (
    "new_dtype", "dtype", "preferred_element_type", "out_dtype", "accumulation_type",
    "accum_dtype", "element_type",
)  # fmt: skip
_CONST_PARAMS = ("consts", "update_consts", "select_consts", "scatter_consts")
# Programs that JAX does not know: another machine's kernels, another language's functions.
_ISLANDS = (
    "pallas_call", "ffi_call", "pure_callback", "io_callback", "custom_partitioning", "custom_call",
    "tpu_custom_call", "triton_kernel_call", "core_map", "mosaic_gpu",
    "xla_pmap", "shard_map",
)  # fmt: skip
_DROPPED = ("debug_callback", "debug_print")
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
# What these do depends on the width of a number, and is exact.
_EXACT = ("bitcast_convert_type", "nextafter")
_INLINED = ("closed_call", "core_call", "call", "custom_vmap_call", "custom_dce_call", "composite",
            "eval_jaxpr", "custom_lin", "call_hi_primitive", rules.FORWARD)  # fmt: skip


class Unliftable(Exception):
    """A program contains something that cannot be run in float64; the message names it."""

    on_purpose = True  # where the caller's code is asked, this is an answer


class Value(NamedTuple):
    """A lifted array, and whether it may depend on the program's inexact inputs."""

    array: Any
    moving: bool


def is_island(eqn: Any) -> bool:
    """Whether an equation is one which cannot be emitted again in another precision. A call of Python that neither
    takes nor gives a float is as it is in every one: most that look for errors are."""
    if eqn.primitive.name == "pure_callback" and not any(rules.is_inexact(v.aval) for v in (*eqn.invars, *eqn.outvars)):
        return False
    if kernels.is_kernel(eqn):
        return kernels.opened(eqn) is None
    name = eqn.primitive.name
    return name in _ISLANDS or name.startswith(("pallas", "ffi", "tpu_", "triton", "mosaic"))


class Lifter:
    """Emits programs again in float64. Programs that occur twice are lifted once."""

    def __init__(self, wide: bool, native_islands: bool = False, unheard: frozenset[Any] = frozenset()):
        self.wide = wide  # the rules of the program are traced in the mode that it was traced in
        self._native_islands, self._unheard = native_islands, unheard
        self._programs: dict[Any, tuple[Any, Any]] = {}
        self._by_impl: dict[int, tuple[Any, Any]] = {}  # with the equation, so that its id stays its own

    def run(self, program: Any, args: Sequence[Any], moving: Sequence[bool],
            drawn: Sequence[bool] | None = None) -> list[Value]:  # fmt: skip
        """The program's results on lifted arguments; `drawn` says which of them go into draws only."""
        pairs = [Value(cast(a, self._dtype(v)), m) for a, v, m in
                 zip(args, interpret.opened(program).invars, moving, strict=True)]  # fmt: skip
        only = draws.for_draws(program, moving, drawn) if draws.draws(program) or any(drawn or ()) else frozenset()
        return interpret.evaluate(program, pairs, lambda eqn, operands: self._equation(eqn, operands, only), _constant)

    def function(self, program: Any, moving: Sequence[bool] | None = None) -> Callable[..., list[Any]]:
        """The program as a function of flat float64 arguments, of which all that are inexact move if not said."""
        if moving is None or len(moving) != len(interpret.opened(program).invars):
            moving = [rules.is_inexact(v.aval) for v in interpret.opened(program).invars]

        def call(*args: Any) -> list[Any]:
            # Also entered here: a rule runs when its caller differentiates, in whatever mode.
            with jax.enable_x64(True):
                return [v.array for v in self.run(program, args, moving)]

        return call

    def _dtype(self, atom: Any) -> Any:
        dtype = getattr(atom.aval, "dtype", None)
        extended = dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended)
        return None if extended or not rules.is_inexact(atom.aval) else lifted_dtype(dtype)

    def _equation(self, eqn: Any, operands: list[Value], drawn: frozenset[Any]) -> list[Value]:
        moving = draws.moving_results(eqn, [v.moving for v in operands])
        results = self._results(eqn, operands, drawn)
        return [Value(cast(r, self._dtype(v)), m) for r, v, m in zip(results, eqn.outvars, moving, strict=True)]

    def _results(self, eqn: Any, operands: list[Value], drawn: frozenset[Any]) -> list[Any]:
        name = eqn.primitive.name
        args = [v.array for v in operands]
        if name in _DROPPED:
            return []
        if (opened := self._opened(eqn)) is not None:
            return [v.array for v in self.run(opened, args, [v.moving for v in operands])]
        if asides.is_unheard(eqn, self._unheard):
            return [
                jnp.full(v.aval.shape, np.nan if rules.is_inexact(v.aval) else 0, v.aval.dtype) for v in eqn.outvars
            ]
        if is_island(eqn):
            if not self._native_islands:
                raise Unliftable(f"`{name}` cannot run in float64")
            return self.native(eqn, args)
        if (same := self._of_original(eqn, operands, drawn)) is not None:
            return same
        if rules.rule_kind(eqn) is not None:
            return self._rule(eqn, operands)
        if name in _INLINED:
            return self._inline(eqn, operands)
        if name in SPECIAL:
            return SPECIAL[name](self, eqn, operands)
        if name == "jit" and eqn.params.get("name") == "frexp" and len(eqn.outvars) == 2:  # not a derivative of it
            return list(jnp.frexp(args[0]))  # its bit masks are those of one width
        return self._again(eqn, operands, drawn)

    def _opened(self, eqn: Any) -> Any | None:
        """What a kernel or another library's primitive does, in JAX's own; None where that is not seen."""
        if kernels.is_kernel(eqn):
            return kernels.opened(eqn)
        if not foreign.is_foreign(eqn.primitive):
            return None
        if id(eqn) not in self._by_impl:
            self._by_impl[id(eqn)] = eqn, foreign.opened(eqn, self.wide)
        return self._by_impl[id(eqn)][1]

    def _of_original(self, eqn: Any, operands: list[Value], drawn: frozenset[Any]) -> list[Any] | None:
        """The results of the original program where they must be just those, None where they need not: a draw in
        other bits is another mask."""
        args, still = [v.array for v in operands], not any(v.moving for v in operands)
        if eqn.primitive.name in draws.NATIVE:
            return self.native(eqn, args, alone=True)
        if still and (draws.samples(eqn) or draws.prepares(eqn, drawn)):
            return self._rounded(eqn, args)
        if still and eqn.primitive.name in _COMPARISONS:
            return self.native(eqn, args)
        return None

    def native(self, eqn: Any, args: list[Any], alone: bool = False) -> list[Any]:
        """The equation as it is; `alone`: XLA rounds it alike wherever it stands."""
        args = [to_dtype_of(a, v.aval) for a, v in zip(args, eqn.invars, strict=True)]
        return shut(interpret.bind(eqn, shut(args))) if alone else interpret.bind(eqn, args)

    def _rounded(self, eqn: Any, args: list[Any]) -> list[Any]:
        """An equation of a draw with every number rounded as its type says, after it was computed in float64: XLA
        rounds the same draw in two programs in two ways, and here it is the same number in both."""

        def once(eqn: Any, args: list[Any]) -> list[Any]:
            inner = jaxpr.nested(eqn)
            floats = any(rules.is_inexact(v.aval) for v in eqn.outvars)
            if inner is not None and floats:
                return interpret.evaluate(inner, args, once, interpret.as_declared)
            whole = eqn.primitive.name in (*_EXACT, *draws.PRIMITIVES) or any(interpret.sub_jaxprs(eqn.params))
            if whole or not floats:
                return self.native(eqn, args, alone=True)
            wide = [Value(cast(x, self._dtype(v)), False) for x, v in zip(args, eqn.invars, strict=True)]
            results = self._again(eqn, wide, frozenset())
            return [rounded_to(r, v.aval) for r, v in zip(results, eqn.outvars, strict=True)]

        return once(eqn, [rounded_to(x, v.aval) for x, v in zip(args, eqn.invars, strict=True)])

    def _inline(self, eqn: Any, operands: list[Value]) -> list[Any]:
        program = rules.primal(eqn)
        key = "call" if program is None else None
        program = interpret.closed(eqn.params[key]) if key in eqn.params else program
        if program is None:
            raise Unliftable(f"`{eqn.primitive.name}` has no program to lift")
        out = self.run(program, [v.array for v in operands], [v.moving for v in operands])
        return [v.array for v in out]

    def _rule(self, eqn: Any, operands: list[Value]) -> list[Any]:
        program = rules.primal(eqn)
        if program is None:
            raise Unliftable(f"`{eqn.primitive.name}` has no program to lift")
        args, moving = [v.array for v in operands], [v.moving for v in operands]
        if not any(moving) and draws.draws(program):  # nothing to differentiate
            return [v.array for v in self.run(program, args, [False] * len(args))]

        def build(trace: Callable[[], Any]) -> Any:
            with jax.enable_x64(self.wide):
                return trace()

        call = self.function(program, moving)
        return list(rules.rebuild(eqn, self.function, call, build)(*args))

    def nested(self, eqn: Any, operands: list[Value], drawn: frozenset[Any]) -> Callable[[Any], Any]:
        """The function that lifts a program among an equation's parameters."""
        moving = [v.moving for v in operands]
        known = {id(inner.program): inner for inner in draws.nested(eqn)}

        def lifted(program: Any) -> Any:
            inner = known.get(id(program))
            if inner is None:
                return self.program(program, tuple(any(moving) and rules.is_inexact(v.aval)
                                                   for v in interpret.opened(program).invars))  # fmt: skip
            return self.program(program, tuple(draws.moving_inputs(inner, moving)),
                                tuple(draws.outputs_for_draws(inner, eqn, drawn)))  # fmt: skip

        return lifted

    def _again(self, eqn: Any, operands: list[Value], drawn: frozenset[Any]) -> list[Any]:
        """Bind the equation again, its nested programs and its named dtypes lifted."""
        params = dict(eqn.params)
        for key in _DTYPE_PARAMS:
            if params.get(key) is not None and _is_dtype(params[key]):
                params[key] = lifted_dtype(params[key])
        for key in _CONST_PARAMS:
            if isinstance(params.get(key), (tuple, list)):
                params[key] = type(params[key])(
                    cast(np.asarray(c), lifted_dtype(np.asarray(c).dtype)) for c in params[key]
                )
        if "precision" in params:
            params["precision"] = _precision(params["precision"])
        params = interpret.map_jaxprs(params, self.nested(eqn, operands, drawn))
        try:
            return ask(interpret.bind, eqn, [v.array for v in operands], params)
        except Refused as no:
            # Other libraries' primitives may keep dtypes in parameters that only they understand.
            raise Unliftable(f"`{eqn.primitive.name}` cannot be emitted in float64: {no}") from no.error

    def program(self, program: Any, moving: tuple[bool, ...], drawn: tuple[bool, ...] = ()) -> Any:
        """A nested program lifted, of the same kind: with its constants or without.

        Raises:
            Unliftable: if it has constants that its place in an equation leaves no room for.
        """
        key = (id(program), moving, drawn if any(drawn) else ())
        if key in self._programs:
            return self._programs[key][1]
        jaxpr = interpret.opened(program)
        if len(jaxpr.constvars) != len(interpret.constants(program)):
            raise Unliftable("a primitive keeps a program apart from its constants")
        avals = [lifted_aval(v.aval) for v in jaxpr.invars]
        new = jax.make_jaxpr(
            lambda *args: [v.array for v in self.run(program, args, moving, drawn or None)]
        )(*avals)  # fmt: skip
        if not hasattr(program, "consts"):  # an open program
            if constants := interpret.constants(new):
                raise Unliftable(f"a nested program needs {len(constants)} constants")
            new = new.jaxpr
        self._programs[key] = (program, new)  # keeps the program alive, and so its id its own
        return new


def _constant(value: Any, aval: Any) -> Value:
    return Value(lift_value(value, aval), False)


def _is_dtype(value: Any) -> bool:
    return isinstance(value, (np.dtype, type)) or hasattr(value, "itemsize")


def _precision(value: Any) -> Any:
    """Algorithms that are made of low-precision products have no float64 form."""
    if isinstance(value, (lax.DotAlgorithm, lax.DotAlgorithmPreset)):
        return None
    return value
