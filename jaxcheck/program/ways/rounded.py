"""How each primitive rounds: not at all, in what it gives, or as if in what it was given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcheck.program import interpret, units
from jaxcheck.program.custom import rules
from jaxcheck.program.run import factors

# Results that are operands, or parts of them, or halves of nothing: no digit is lost.
EXACT = frozenset(
    """
    neg abs max min clamp select_n real imag complex conj copy copy_p stop_gradient optimization_barrier name
    reshape transpose squeeze expand_dims broadcast_in_dim broadcast rev slice dynamic_slice dynamic_update_slice
    concatenate pad gather scatter scatter-min scatter-max split tile reduce_max reduce_min cummax cummin
    reduce_window_max reduce_window_min device_put sharding_constraint mesh_cast pvary reduce_precision_exact
    pbroadcast all_gather ppermute all_to_all pmax pmin top_k approx_top_k optimization_barrier_p layout_constraint
    """.split()
)
# A function of decisions alone.
DECIDED = frozenset("sign floor ceil round random_gamma rng_uniform random_bits iota is_finite".split())
_FACTORS = frozenset("triangular_solve tridiagonal_solve cholesky cholesky_update householder_product".split())
# Backward stable by norm only: a small entry, or a zero, is as far off as the largest.
_BY_NORM = frozenset("eig schur hessenberg tridiagonal geqrf geqp3 qr".split())


class Step:
    """One equation with the operands of the plain run and of the perturbed one, and the ways to move a value."""

    eqn: Any
    plain: list[Any]
    noisy: list[Any]
    same: bool  # whether no operand differs between the runs

    def unit(self, x: Any) -> float:
        """What one rounding of an array is worth here."""
        raise NotImplementedError

    def factor_unit(self, own: float) -> float:
        """The same for the factors of a product; 0: as what one rounding is `own` worth."""
        raise NotImplementedError

    def move(self, x: Any, count: float = 1.0) -> Any:
        """An array times 1 + count u xi; what is not inexact as it is."""
        raise NotImplementedError

    def spread(self, x: Any, size: Any) -> Any:
        """An array plus u size xi."""
        raise NotImplementedError


def results(step: Step) -> tuple[list[Any], list[Any]]:
    """What an equation gives in the plain run, and in the perturbed run; None there: the same."""
    name = step.eqn.primitive.name
    inexact = [rules.is_inexact(v.aval) for v in step.eqn.outvars]
    if name == "lu":
        return _lu(step)
    plain = interpret.bind(step.eqn, step.plain)
    if name in DECIDED or not any(inexact):
        return plain, [None] * len(plain)
    if name in EXACT or _is_exact(step):
        noisy = [None] * len(plain) if step.same else interpret.bind(step.eqn, step.noisy)
    elif name in _SPECIAL:
        noisy = _SPECIAL[name](step, plain)
    else:
        noisy = _rounded(step, _cost(step.eqn))
    return plain, [n if i else None for n, i in zip(noisy, inexact, strict=True)]


def _is_exact(step: Step) -> bool:
    """Of the arithmetic, what moves no digit: wider types, powers of two, nothing added."""
    name, eqn = step.eqn.primitive.name, step.eqn
    if name == "convert_element_type":
        # Integers count as exact: those that a float cannot hold are hardly ever meant to be.
        return units.unit(eqn.invars[0].aval.dtype) >= units.unit(eqn.outvars[0].aval.dtype) or not rules.is_inexact(
            eqn.invars[0].aval
        )
    if name == "mul":
        return any(map(_is_power_of_two, step.plain))
    if name == "div":
        return _is_power_of_two(step.plain[1])
    if name in ("add", "sub", "add_any"):
        return any(_known(x) and not np.any(x) for x in step.plain)
    return name == "integer_pow" and eqn.params["y"] == 1


def _known(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic)) and np.size(x) <= 4096


def _is_power_of_two(x: Any) -> bool:
    """Whether a known array holds nothing but powers of two and zeros, with either sign."""
    if not _known(x) or np.iscomplexobj(x):
        return False
    value = np.asarray(x, np.float64)
    return bool(np.all(np.isfinite(value)) and np.all(np.isin(np.abs(np.frexp(value)[0]), (0.0, 0.5))))


def _cost(eqn: Any) -> units.Cost:
    name, params = eqn.primitive.name, eqn.params
    shape: tuple[Any, ...] = tuple(getattr(eqn.invars[0].aval, "shape", ())) if eqn.invars else ()
    if name == "dot_general":
        return units.product(math.prod(shape[a] for a in params["dimension_numbers"][0][0]))
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval
        return units.product(kernel.size / max(1, kernel.shape[params["dimension_numbers"].rhs_spec[0]]))
    if name in ("reduce_sum", "reduce_prod", "reduce", "psum"):
        return units.tree(math.prod(shape) / max(1, math.prod(eqn.outvars[0].aval.shape)))
    if name in ("cumsum", "cumprod", "cumlogsumexp"):
        return units.tree(shape[params["axis"]])
    if name == "fft":
        return units.tree(math.prod(params["fft_lengths"]))
    if name in ("reduce_window_sum", "reduce_window"):
        return units.tree(math.prod(params["window_dimensions"]))
    if name in ("scatter-add", "scatter-mul"):
        return units.sequence(eqn.invars[2].aval.size / max(1, math.prod(shape)))
    if name in _FACTORS:
        return units.product(shape[-1])
    cost = units.library(name)
    both = any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in (*eqn.invars, *eqn.outvars)
               if rules.is_inexact(v.aval))  # fmt: skip
    if both and name not in ("add", "sub", "add_any"):
        # A part of a complex product is a sum of products.
        return units.Cost(cost.result, max(1.0, cost.operand))
    return cost


# Operands that are whole numbers, of which the function knows no others.
_WHOLE = {"polygamma": (0,)}


def _rounded(step: Step, cost: units.Cost) -> list[Any]:
    operands = list(step.noisy)
    if cost.operand:
        moved = [i for i in range(len(operands)) if i not in _WHOLE.get(step.eqn.primitive.name, ())]
        count = cost.operand
        if step.eqn.primitive.name in factors.PRODUCTS:
            own = step.unit(operands[0])
            if coarse := step.factor_unit(own):
                count = max(count, coarse / own)
            else:  # one factor is enough to move every term by itself; the smaller one costs less
                moved = [min(moved, key=lambda i: np.size(operands[i]))]
        operands = [step.move(x, count) if i in moved else x for i, x in enumerate(operands)]
    results = [step.move(r, cost.result) for r in interpret.bind(step.eqn, operands)]
    if cost.absolute:
        results = [step.spread(r, np.asarray(cost.absolute, r.dtype)) for r in results]
    if cost.spot is not None and results[0].dtype == np.float64:
        x, (low, high, count) = step.plain[0], cost.spot
        results = [jnp.where((x > low) & (x < high), step.move(r, count), r) for r in results]
    return results


def _by_norm(step: Step) -> list[Any]:
    return [step.move(r) for r in interpret.bind(step.eqn, [_spread(step, x) for x in step.noisy])]


def _spread(step: Step, x: Any) -> Any:
    """A matrix with each of its entries moved by a unit of its largest."""
    if not rules.is_inexact(x) or x.ndim < 2:
        return x
    return step.spread(x, jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True))


def _lu(step: Step) -> tuple[list[Any], list[Any]]:
    """By its derivative: the one form of the perturbed factors in which the pivots are the plain run's."""
    matrix = step.plain[0]
    change = step.move(step.noisy[0]) - matrix
    plain, slope = jax.jvp(lambda a: interpret.bind(step.eqn, [a]), (matrix,), (change,))
    cost = units.product(min(matrix.shape[-2:]))
    return plain, [step.move(plain[0] + slope[0], cost.result), None, None]


def _eigh(step: Step, plain: list[Any]) -> list[Any]:
    vectors, values = _by_norm(step)
    return [vectors * _phase(plain[0], vectors, -2), values]


def _svd(step: Step, plain: list[Any]) -> list[Any]:
    noisy = _by_norm(step)
    if len(noisy) == 1:
        return noisy
    s, u, vt = noisy
    left, right = _phase(plain[1], u, -2), _phase(plain[2], vt, -1)
    paired = min(u.shape[-1], vt.shape[-2])
    # The phases of a pair belong together; vectors beyond the pairs have their own.
    right = jnp.concatenate([jnp.conj(jnp.swapaxes(left, -1, -2))[..., :paired, :], right[..., paired:, :]], axis=-2)
    return [s, u * left, vt * right]


def _phase(plain: Any, noisy: Any, axis: int) -> Any:
    """Factors of modulus one that turn vectors to where the plain run's point; a sign is a decision."""
    along = jnp.sum(jnp.conj(noisy) * plain, axis=axis, keepdims=True)
    size = jnp.abs(along)
    return jnp.where(size > 0, along / jnp.where(size > 0, size, 1), 1).astype(noisy.dtype)


def _rem(step: Step, plain: list[Any]) -> list[Any]:
    x, y = step.plain
    count = lax.round((x - plain[0]) / y)
    return [step.noisy[0] - count * step.noisy[1]]


def _sort(step: Step, plain: list[Any]) -> list[Any]:
    order = permutation(step.eqn, step.plain)
    return [jnp.take_along_axis(x, order, axis=step.eqn.params["dimension"]) for x in step.noisy]


def permutation(eqn: Any, operands: Sequence[Any]) -> Any:
    """The order into which a sort brings its operands: for each place, where the value came from."""
    axis = eqn.params["dimension"]
    places = lax.broadcasted_iota(np.int32, operands[0].shape, axis)
    keys = eqn.params["num_keys"]
    return lax.sort([*operands[:keys], places], dimension=axis, is_stable=eqn.params["is_stable"], num_keys=keys)[-1]


def _chosen(step: Step, plain: list[Any]) -> list[Any]:
    """Sums of what a window chose, by the plain run's values."""
    operands = [step.move(step.noisy[0]), *step.plain[1:]]
    return [step.move(r) for r in interpret.bind(step.eqn, operands)]


def _fewer_bits(step: Step, plain: list[Any]) -> list[Any]:
    bits = step.eqn.params["mantissa_bits"]
    return [step.move(step.noisy[0], 2.0 ** -(bits + 1) / units.unit(plain[0].dtype))]


def given_up(closed: Any) -> float:
    """The unit of the fewest bits that a program rounds to by itself; 0 where it does not."""
    bits = [e.params["mantissa_bits"] for e, _ in interpret.walk(closed) if e.primitive.name == "reduce_precision"]
    return max((2.0**-b for b in bits), default=0.0)


_SPECIAL: dict[str, Callable[[Step, list[Any]], list[Any]]] = {
    "eigh": _eigh,
    "svd": _svd,
    "rem": _rem,
    "sort": _sort,
    "reduce_precision": _fewer_bits,
    "select_and_scatter_add": _chosen,
    "select_and_gather_add": _chosen,
    **dict.fromkeys(_BY_NORM, lambda step, plain: _by_norm(step)),
}
