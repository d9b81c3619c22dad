"""Whether many rows of a program are better run one after the other than in one batch.

vmap is not always the way: a convolution whose two operands are both batched becomes a grouped convolution
with as many groups as rows, which XLA on CPU turns into a dense one, quadratic in the rows; and callbacks,
effects and foreign primitives may have no batching rule at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import batching

from jaxcheck.program import interpret
from jaxcheck.program.custom import rules
from jaxcheck.program.custom.called import is_by_hand
from jaxcheck.program.kernels import is_kernel

CALLBACKS = ("pure_callback", "io_callback", "debug_callback")


def sequential(program: Any, which: int | None = None) -> str:
    """Why the rows of a closed jaxpr should run one by one; "" where vmap does well.

    Found without running anything: by the equations, and by asking JAX for the batched program.

    Args:
        which: the only input that moves from row to row (default: every inexact one).
    """
    jaxpr = interpret.opened(program)
    if jaxpr.effects:
        return "effects"
    moving = [rules.is_inexact(v.aval) if which is None else i == which for i, v in enumerate(jaxpr.invars)]
    why = _batches_badly(jaxpr, moving)[1]
    if why or not _foreign(program):
        return why
    avals = [
        jax.ShapeDtypeStruct((2, *v.aval.shape) if m else v.aval.shape, v.aval.dtype)
        for v, m in zip(jaxpr.invars, moving, strict=True)
    ]
    axes = [0 if m else None for m in moving]
    try:
        with jax.enable_x64(interpret.has_64_bits(program)):
            jax.eval_shape(jax.vmap(lambda *x: core.jaxpr_as_fun(program)(*x), in_axes=axes), *avals)
    except (NotImplementedError, ValueError, TypeError, KeyError) as error:
        return f"no batching rule: {(str(error).splitlines() or [''])[0][:100]}"
    return ""


def _flags(eqn: Any, inner: Any, at: list[bool]) -> list[bool]:
    """Which parameters of a nested program move when the marked operands of its equation do."""
    invars, name = interpret.opened(inner).invars, eqn.primitive.name
    shift = len(at) - len(invars)
    if name == "while" or shift not in (0, 1):
        return [rules.is_inexact(v.aval) for v in invars]
    flags = at[shift:]
    if name == "scan":  # what is carried moves as soon as anything does
        first = eqn.params.get("num_consts", 0)
        last = first + eqn.params.get("num_carry", len(flags))
        flags[first:last] = [rules.is_inexact(v.aval) for v in invars[first:last]]
    return flags


def by_caller(eqn: Any) -> bool:
    """Whether a foreign function is handed whole batches, or refuses them: it is written for what it is called with,
    and may take a batch for one large array."""
    one_by_one = str(eqn.params.get("vmap_method")).startswith("sequential")
    return eqn.primitive.name in (*CALLBACKS, "ffi_call") and not one_by_one


def of_its_own(eqn: Any) -> bool:
    """Whether what an equation makes of a batch is said by somebody else than JAX: in a `custom_vmap`, by a foreign
    function or a kernel, by a primitive's own batching rule. Which operands are batched may matter to it."""
    if eqn.primitive.name == "debug_callback":  # nothing is computed of what it does
        return False
    if is_by_hand(eqn) or by_caller(eqn) or is_kernel(eqn):
        return True
    if "_prim" in eqn.params:
        return not _is_jax(getattr(type(eqn.params["_prim"]), "batch", None))
    rule = getattr(batching, "fancy_primitive_batchers", {}).get(eqn.primitive)
    # JAX wraps a rule that was registered in its older ways.
    inner = [cell.cell_contents for cell in getattr(rule, "__closure__", None) or ()]
    return not all(map(_is_jax, [rule, *filter(callable, inner)]))


def _is_jax(f: Any) -> bool:
    module = str(getattr(getattr(f, "func", f), "__module__", None) or "jax")
    return module.split(".")[0] in ("jax", "jaxlib", "functools")


def calls_back(program: Any, wide: bool = False) -> bool:
    """Whether a program may call Python while it runs; `wide`: with 64-bit floats."""
    for eqn, _ in interpret.walk(program):
        floats = [v for v in (*eqn.invars, *eqn.outvars) if rules.is_inexact(v.aval)]
        if (eqn.primitive.name in CALLBACKS or not _known(eqn)) and (not wide or interpret.is_64_bits(floats)):
            return True
    return False


# Elements that take about as long as one call of Python, as one step of a loop of unknown length counts for, and the
# products of a contraction for one element.
_CALL, _STEPS, _PRODUCTS = 1e6, 1e3, 100.0


def effort(jaxpr: Any) -> float:
    """Time that a program takes, in elements computed one by one; on the large side."""
    total = 0.0
    for eqn in interpret.opened(jaxpr).eqns:
        name = eqn.primitive.name
        inner = [effort(sub) for _, sub in interpret.sub_jaxprs(eqn.params)]
        if inner:
            total += sum(inner) * (_STEPS if name == "while" else eqn.params.get("length", 1))
            continue
        size = float(sum(math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars))
        if name in CALLBACKS or not _known(eqn):
            size += _CALL
        elif name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            size *= 1 + math.prod(eqn.invars[0].aval.shape[d] for d in contracted) / _PRODUCTS
        elif name == "conv_general_dilated":
            # Each output is a product with the whole kernel; XLA on CPU does not do that well.
            size *= 1 + math.prod(eqn.invars[1].aval.shape[1:]) / 10
        total += size
    return total


def convolved(jaxpr: Any) -> float:
    """Products that the convolutions of a program take, all turns of its loops together where their number is known."""
    total = 0.0
    for eqn in interpret.opened(jaxpr).eqns:
        if eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval.shape
            each = math.prod(kernel) / max(kernel[eqn.params["dimension_numbers"].rhs_spec[0]], 1)
            total += each * math.prod(eqn.outvars[0].aval.shape)
        total += eqn.params.get("length", 1) * sum(convolved(sub) for _, sub in interpret.sub_jaxprs(eqn.params))
    return total


def _known(eqn: Any) -> bool:
    known = getattr(batching, "fancy_primitive_batchers", {})
    # What takes nothing in (iota) has no rule, for there is nothing to batch.
    if not eqn.invars or eqn.primitive in known:
        return True
    # Calls are batched by what they call; but for this one, of which JAX has no rule.
    return eqn.primitive.name != "linear_call" and any(True for _ in interpret.sub_jaxprs(eqn.params))


def _foreign(program: Any) -> bool:
    """Whether any primitive has no batching rule that JAX knows of; only then is it worth asking."""
    return not all(_known(eqn) for eqn, _ in interpret.walk(program))


def _batches_badly(jaxpr: Any, moving: Sequence[bool]) -> tuple[list[bool], str]:
    """(which outputs move, why not to batch); loops and branches count as moving as a whole."""
    moves = dict(zip(jaxpr.invars, moving, strict=True))
    for eqn in jaxpr.eqns:
        at = [not interpret.is_literal(a) and moves.get(a, False) for a in eqn.invars]
        name = eqn.primitive.name
        if name == "conv_general_dilated" and all(at):
            return [], "a convolution of two moving operands"
        if name == "cond" and at[0] and any(calls_back(b) for b in eqn.params["branches"]):
            return [], "a branch that calls Python"  # in a batch every branch runs: an error that is none is raised
        if any(at) and by_caller(eqn):
            return [], f"what {name} makes of a batch only it knows"
        if name == "clamp" and at == [False, False, True] and not eqn.invars[1].aval.shape:
            return [], "a clamp of scalars of which the upper bound alone moves"  # JAX's own rule fails on it
        out = any(at)
        for _, inner in interpret.sub_jaxprs(eqn.params) if out else ():
            why = _batches_badly(interpret.opened(inner), _flags(eqn, inner, at))[1]
            if why:
                return [], why
        moves.update((v, out) for v in eqn.outvars)
    return [not interpret.is_literal(v) and moves.get(v, False) for v in jaxpr.outvars], ""
