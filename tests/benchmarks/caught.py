"""The smallest planted error that is caught, here and by others, in a tanh layer whose backward pass is by hand.

    python -m tests.benchmarks.caught [--out FILE]

The error is in the gradient of the layer's weights: a factor on all of it, or one entry that is off by a part of the
gradient's norm. Sizes fall by half-decades; what is told is the smallest that every one of five draws of directions
catches, together with all larger ones. Nothing is timed. SciPy's check_grad gives a number and no verdict: the
textbook's 1e-5, relative to the gradient's norm, is put on it, since forward differences call the right gradient wrong
at 1e-7. Takes some minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads as theirs
from scipy.optimize import check_grad as scipy_check

import jaxcheck as jc
from jaxcheck.test_util import check_grads as drop_in

ROOT = Path(__file__).resolve().parent / "results"
SIZES = [10.0 ** (-k / 2) for k in range(17)]
DRAWS = 5
ROWS, INPUTS, OUTPUTS = 16, 64, 32


def problem(dtype: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(ROWS, INPUTS)), rng.normal(size=(INPUTS, OUTPUTS)) / 8
    return jnp.asarray(x, dtype), jnp.asarray(w, dtype)


def spoilt(size: float, kind: str) -> Callable[[Any], Any]:
    """A gradient with the error in it."""
    if kind == "factor":
        return lambda g: g * (1 + size)
    return lambda g: g.at[3, 5].add(size * jnp.linalg.norm(g))


def loss(x: Any, w: Any) -> Any:
    return jnp.mean(jnp.tanh(x @ w) ** 2)


def with_rule(spoil: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    f = jax.custom_vjp(loss)
    f.defvjp(
        lambda x, w: (f(x, w), (x, w)),
        lambda kept, g: tuple(g * part for part in (jax.grad(loss)(*kept), spoil(jax.grad(loss, 1)(*kept)))),
    )
    return f


def raises(check: Callable, dtype: str, spoil: Callable[[Any], Any], seed: int) -> bool:
    with jax.enable_x64(dtype == "float64"):
        np.random.seed(seed)  # the directions of JAX's own come from NumPy's global state
        try:
            check(with_rule(spoil), problem(dtype), 1, modes=["rev"])
        except AssertionError:
            return True
        return False


def fails(spoil: Callable[[Any], Any], seed: int, **options: Any) -> bool:
    x, w = problem("float32")
    report = jc.check_grad(
        lambda w: loss(x, w), w, grad=lambda w: spoil(jax.grad(loss, 1)(x, w)), seed=seed, where=False, **options
    )
    return report.verdict is jc.Verdict.FAIL


def scipy_fails(spoil: Callable[[Any], Any], seed: int) -> bool:
    with jax.enable_x64(True):
        x, w = problem("float64")
        value, grad = jax.jit(lambda w: loss(x, w.reshape(w_shape))), jax.jit(lambda w: jax.grad(loss, 1)(x, w))
        w_shape, norm = w.shape, float(jnp.linalg.norm(grad(w)))
        found = scipy_check(value, lambda flat: np.ravel(spoil(grad(flat.reshape(w_shape)))), np.ravel(w))
        return bool(found / norm > 1e-5)


WAYS: dict[str, Callable[[Callable, int], bool]] = {
    "jax.test_util.check_grads, float32": lambda spoil, seed: raises(theirs, "float32", spoil, seed),
    "jax.test_util.check_grads, float64": lambda spoil, seed: raises(theirs, "float64", spoil, seed),
    "scipy.optimize.check_grad, float64, held to 1e-5": scipy_fails,
    "jaxcheck.test_util.check_grads, float32": lambda spoil, seed: raises(drop_in, "float32", spoil, seed),
    "jaxcheck.check_grad, float32, every component": lambda spoil, seed: fails(spoil, seed, mode="exhaustive"),
    "jaxcheck.check_grad, float32, random directions": lambda spoil, seed: fails(spoil, seed, mode="sketch"),
}


def smallest(way: Callable[[Callable, int], bool], kind: str) -> float | None:
    """None where not even the largest is always caught."""
    found = None
    for size in SIZES:
        if not all(way(spoilt(size, kind), seed) for seed in range(DRAWS)):
            break
        found = size
    return found


def measured(way: Callable[[Callable, int], bool]) -> dict[str, Any]:
    right_passes = not way(lambda g: g, 0)
    kinds = ("factor", "one entry")
    return {"right passes": right_passes, **{kind: smallest(way, kind) if right_passes else None for kind in kinds}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="ways whose name holds this")
    asked = parser.parse_args()
    found = {}
    for name, way in ((name, way) for name, way in WAYS.items() if asked.only in name):
        found[name] = measured(way)
        print(f"{name:50s} {found[name]}", flush=True)
    if asked.out:
        told = {"jax": jax.__version__, "sizes": SIZES, "draws": DRAWS, "shape": [ROWS, INPUTS, OUTPUTS], "ways": found}
        asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
