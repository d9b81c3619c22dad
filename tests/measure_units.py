"""How far off the library functions of this backend are: `python -m tests.measure_units [points]` prints the table
that `program/units.py` holds.

The error of f at x is split: what a relative error of one unit in x would explain (`operand`), and a relative
error of f (`result`). Printed are the largest error over u |f| alone, over u (|f| + |x f'(x)|), and over what
`units` grants, each over points spread evenly in the logarithm. Truth is mpmath's, at 40 digits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
from jax import lax

from jaxcheck.program import units


class Case(NamedTuple):
    name: str
    function: Callable
    truth: Callable
    ranges: tuple[tuple[float, float], ...]  # of the operand's size; negative: both signs
    second: tuple[float, ...] = ()  # values of the second operand


def _i(order: int) -> Callable:
    return lambda x: mp.besseli(order, x) * mp.exp(-abs(x))


BOTH, POSITIVE = ((-1e-3, 20.0),), ((1e-3, 20.0),)
UNARY = [
    Case("exp", lax.exp, mp.exp, ((-1e-3, 80.0),)),
    Case("exp2", lax.exp2, lambda x: mp.mpf(2) ** x, ((-1e-3, 80.0),)),
    Case("expm1", lax.expm1, mp.expm1, ((-1e-6, 80.0),)),
    Case("log", lax.log, mp.log, ((1e-8, 1e8),)),
    Case("log1p", lax.log1p, mp.log1p, ((1e-8, 1e4), (-1e-8, 0.9))),
    Case("logistic", lax.logistic, lambda x: 1 / (1 + mp.exp(-x)), ((-1e-3, 40.0),)),
    Case("sin", lax.sin, mp.sin, ((-1e-3, 100.0),)),
    Case("cos", lax.cos, mp.cos, ((-1e-3, 100.0),)),
    Case("tan", lax.tan, mp.tan, ((-1e-3, 100.0),)),
    Case("asin", lax.asin, mp.asin, ((-1e-3, 0.999),)),
    Case("acos", lax.acos, mp.acos, ((-1e-3, 0.999),)),
    Case("atan", lax.atan, mp.atan, ((-1e-3, 1e3),)),
    Case("sinh", lax.sinh, mp.sinh, ((-1e-3, 80.0),)),
    Case("cosh", lax.cosh, mp.cosh, ((-1e-3, 80.0),)),
    Case("tanh", lax.tanh, mp.tanh, ((-1e-3, 20.0),)),
    Case("asinh", lax.asinh, mp.asinh, ((-1e-3, 1e3),)),
    Case("acosh", lax.acosh, mp.acosh, ((1.001, 1e3),)),
    Case("atanh", lax.atanh, mp.atanh, ((-1e-3, 0.999),)),
    Case("sqrt", lax.sqrt, mp.sqrt, ((1e-8, 1e8),)),
    Case("rsqrt", lax.rsqrt, lambda x: 1 / mp.sqrt(x), ((1e-8, 1e8),)),
    Case("cbrt", lax.cbrt, mp.cbrt, ((1e-8, 1e8),)),
    Case("integer_pow", lambda x: lax.integer_pow(x, 7), lambda x: x**7, ((-1e-2, 1e2),)),
    Case("erf", lax.erf, mp.erf, ((-1e-3, 5.0),)),
    Case("erfc", lax.erfc, mp.erfc, ((-1e-3, 8.0),)),
    Case("erf_inv", lax.erf_inv, mp.erfinv, ((-1e-3, 0.9999),)),
    Case("lgamma", lax.lgamma, lambda x: mp.re(mp.loggamma(x)), ((1e-3, 1e3),)),
    Case("digamma", lax.digamma, mp.digamma, ((1e-3, 1e3),)),
    Case("bessel_i0e", lax.bessel_i0e, _i(0), POSITIVE),
    Case("bessel_i1e", lax.bessel_i1e, _i(1), BOTH),
]
if hasattr(lax, "log2"):  # JAX 0.11
    UNARY += [
        Case("log2", lax.log2, lambda x: mp.log(x, 2), ((1e-8, 1e8),)),
        Case("one_minus_square", lax.one_minus_square, lambda x: 1 - x * x, ((-1e-3, 1e3),)),
    ]
BINARY = [
    Case("pow", lax.pow, mp.power, ((1e-3, 1e3),), (0.3, 2.5, -1.7, 9.3)),
    Case("atan2", lax.atan2, mp.atan2, ((-1e-3, 1e3),), (1.0, -2.0)),
    Case("igamma", lambda x, a: lax.igamma(a, x), lambda x, a: mp.gammainc(a, 0, x, regularized=True),
         ((1e-2, 20.0),), (0.5, 3.0)),
    Case("igammac", lambda x, a: lax.igammac(a, x), lambda x, a: mp.gammainc(a, x, mp.inf, regularized=True),
         ((1e-2, 20.0),), (0.5, 3.0)),
    Case("zeta", lambda x, a: lax.zeta(x, np.asarray(a, x.dtype)), mp.zeta, ((1.1, 20.0),), (1.0, 2.5)),
    Case("polygamma", lambda x, a: lax.polygamma(np.asarray(a, x.dtype), x), lambda x, a: mp.psi(int(a), x),
         ((1e-2, 20.0),), (1.0, 2.0)),
    Case("regularized_incomplete_beta", lambda x, a: lax.betainc(a, np.asarray(2.0, x.dtype), x),
         lambda x, a: mp.betainc(a, 2, 0, x, regularized=True), ((1e-3, 0.999),), (0.5, 3.0)),
]  # fmt: skip


def points(case: Case, count: int, dtype: type) -> np.ndarray:
    found = []
    for low, high in case.ranges:
        sizes = np.exp(np.linspace(np.log(abs(low)), np.log(high), count))
        found.append(sizes if low > 0 else sizes * np.where(np.arange(count) % 2, 1.0, -1.0))
    return np.unique(np.concatenate(found).astype(dtype))


def measure(case: Case, count: int, dtype: type) -> tuple[float, float, float, float]:
    """Largest errors: in units of the result, in units of result and operands, in what `units` grants; and where
    the first one is."""
    u, cost, worst, together, granted, where = units.unit(dtype), units.library(case.name), 0.0, 0.0, 0.0, 0.0
    with jax.enable_x64(True), mp.workdps(40):
        for second in case.second or (None,):
            xs = points(case, count, dtype)
            fixed = () if second is None else (np.asarray(second, dtype),)
            values = np.asarray(jax.jit(jax.vmap(lambda x: case.function(x, *fixed)))(xs))  # noqa: B023
            moved = tuple(mp.mpf(float(f)) for f in fixed)
            for x, value in zip(xs, values, strict=True):
                x = mp.mpf(float(x))
                truth = case.truth(x, *moved)
                if not np.isfinite(value) or abs(truth) < np.finfo(dtype).tiny:
                    continue
                error = abs(mp.mpf(float(value)) - truth)
                slopes = [abs(x * mp.diff(lambda t: case.truth(t, *moved), x))]  # noqa: B023
                if case.name == "pow":
                    slopes.append(abs(truth * moved[0] * mp.log(x)))
                alone = float(error / (u * abs(truth)))
                if alone > worst:
                    worst, where = alone, float(x)
                together = max(together, float(error / (u * (abs(truth) + sum(slopes)))))
                there = dtype is np.float64 and cost.spot is not None and cost.spot.low < x < cost.spot.high
                result = cost.spot.result if there else cost.result
                units_of_error = result * abs(truth) + cost.operand * sum(slopes) + cost.absolute
                granted = max(granted, float(error / (u * units_of_error)))
    return worst, together, granted, where


def one_after_the_other(x: jax.Array) -> jax.Array:
    return jax.ops.segment_sum(x.T, jnp.zeros(x.shape[1], int), 1)[0]


def sums() -> None:
    """How the errors of sums of n terms grow, over u (|sum| + root of the sum of squares), and what is granted."""
    rng, u = np.random.default_rng(0), units.unit(np.float32)
    head = "".join(f"{name:>16}{'granted':>9}" for name in ("reduce_sum", "matmul", "cumsum", "scatter-add"))
    print(f"{'terms':>8} {'signs':6}{head}")
    for n in (10, 100, 1000, 10_000, 100_000):
        for signs in ("equal", "random"):
            x, b = rng.normal(size=(8, n)).astype(np.float32), rng.normal(size=(n, 8)).astype(np.float32)
            x, b = (abs(x), abs(b)) if signs == "equal" else (x, b)
            wide, cells = x.astype(float), []
            for value, truth, squares, cost in (
                (jax.jit(lambda x: x.sum(1))(x), wide.sum(1), (wide**2).sum(1), units.tree(n)),
                (jax.jit(lambda x, b: x @ b)(x, b), wide @ b, wide**2 @ b.astype(float) ** 2, units.product(n)),
                (jax.jit(lambda x: lax.cumsum(x, 1))(x), wide.cumsum(1), (wide**2).cumsum(1), units.tree(n)),
                (jax.jit(one_after_the_other)(x), wide.sum(1), (wide**2).sum(1), units.sequence(n)),
            ):  # fmt: skip
                error = np.abs(np.asarray(value, float) - truth) / (u * (abs(truth) + np.sqrt(squares)))
                cells.append(f"{error.max():16.1f}{cost.result:9.1f}")
            print(f"{n:8} {signs:6}{''.join(cells)}")


def main() -> None:
    if sys.argv[1:] == ["sums"]:
        sums()
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    head = "".join(f"{dtype:>12}{'with op.':>10}{'granted':>10}{'at':>10}" for dtype in ("float64", "float32"))
    print(f"{'primitive':28}{head}   result + operand + absolute")
    for case in (*UNARY, *BINARY):
        cells = [measure(case, count if not case.second else count // 4, d) for d in (np.float64, np.float32)]
        held = units.library(case.name)
        line = "".join(f"{a:12.1f}{b:10.1f}{c:10.2f}{x:10.2g}" for a, b, c, x in cells)
        print(f"{case.name:28}{line}   {held.result:g} + {held.operand:g} + {held.absolute:g}")


if __name__ == "__main__":
    main()
