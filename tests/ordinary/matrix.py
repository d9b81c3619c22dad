"""Every way in which a small regression may be written, and the check of it: a cell of the matrix is one way.

`python -m tests.ordinary.matrix` runs all cells and prints what is not as it should be; the suite runs a sample.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

import jaxcheck as jc
from jaxcheck.result import Report, Verdict
from jaxcheck.test_util import check_grads

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 4)), RNG.random(6)
W, V = RNG.standard_normal((4, 3)), RNG.standard_normal(3)

PARAMS = ("numpy64", "numpy32", "jax", "bfloat16", "float16")
DATA = ("numpy64", "numpy32", "jax", "bfloat16")
PLACES = ("closed", "args", "converted")
GRADS = ("hand", "autodiff", "value_and_grad", "numbers")
DOORS = ("check_grad", "check_rule", "check_batch", "check_grads")


class Cell(NamedTuple):
    params: str
    data: str
    place: str
    jit: bool
    grad: str
    x64: bool
    door: str = "check_grad"


def cells(door: str = "check_grad") -> list[Cell]:
    grads = GRADS if door == "check_grad" else ("hand",)
    out = itertools.product(PARAMS, DATA, PLACES, (False, True), grads, (False, True))
    return [Cell(*c, door) for c in out if not (c[4] == "numbers" and c[0] in ("bfloat16", "float16"))]


def make(x: np.ndarray, kind: str) -> Any:
    """The same numbers, held in another way; those of low precision are rounded to it."""
    if kind == "numpy64":
        # A new one each time: JAX 0.10 remembers by object what it made of an array in another mode, and no
        # caller's program holds one array in two modes.
        return x.copy()
    if kind == "jax":
        return jnp.asarray(x)
    return x.astype({"numpy32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}[kind])


def loss(p: Any, x: Any, y: Any) -> Any:
    return jnp.mean((jnp.tanh(x @ p["W"]) @ p["v"] - y) ** 2)


def backprop(p: Any, x: Any, y: Any, k: float = 1.0) -> Any:
    h = jnp.tanh(x @ p["W"])
    d = 2 * (h @ p["v"] - y) / y.shape[0]
    return {"W": k * (x.T @ (d[:, None] * p["v"] * (1 - h * h))), "v": h.T @ d}


def build(cell: Cell, k: float) -> dict[str, Any]:
    """The arguments of `check_grad` for a cell, the gradient of W off by a factor `k`."""
    params = {"W": make(W, cell.params), "v": make(V, cell.params)}
    x, y = make(X, cell.data), make(Y, cell.data)
    wrap = jax.jit if cell.jit else lambda f: f
    if cell.place == "args":
        f, g, args = wrap(loss), wrap(lambda p, a, b: backprop(p, a, b, k)), (x, y)
    else:
        to = jnp.asarray if cell.place == "converted" else lambda a: a
        f, g, args = wrap(lambda p: loss(p, to(x), to(y))), wrap(lambda p: backprop(p, to(x), to(y), k)), ()
    grad = {"hand": g, "autodiff": None, "value_and_grad": lambda *a: (f(*a), g(*a)), "numbers": None}[cell.grad]
    if cell.grad == "numbers":
        grad = jax.jit(jax.grad(f))(params, *args) if k == 1.0 else g(params, *args)
    return {"loss": f, "params": params, "grad": grad, "args": args}


def check(cell: Cell, k: float = 1.0) -> Report | Verdict:
    """The verdict on a cell."""
    with jax.enable_x64(cell.x64):
        given = build(cell, k)
        if cell.door == "check_grad":
            return jc.check_grad(**given, where=False)
        if cell.door == "check_batch":
            points = [given["params"], jax.tree.map(lambda a: a * a.dtype.type(0.5), given["params"])]
            return jc.check_batch(given["loss"], points, given["grad"], args=given["args"])
        rule = jax.custom_vjp(given["loss"])
        rule.defvjp(
            lambda *a: (given["loss"](*a), a),
            lambda a, ct: (
                jax.tree.map(lambda u, p: (ct * u).astype(p.dtype), given["grad"](*a), a[0]),
                *(None for _ in a[1:]),
            ),
        )
        if cell.door == "check_rule":
            return jc.check_rule(
                rule, given["params"], *given["args"], argnums=0, transforms=False, algebra=False, where=False
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                check_grads(lambda p: rule(p, *given["args"]), (given["params"],), order=1, modes=("rev",))
            except AssertionError as error:
                return error.report.verdict
        return Verdict.PASS


def wrong(cell: Cell) -> str:
    """What is not as it should be, or ""."""
    try:
        right = check(cell)
        if isinstance(right, Report):
            if right.verdict is not Verdict.PASS:
                return f"right: {right.verdict.value} {right.reason.name} {right.difference:.1e}"
            silent = [
                w for w in right.witnesses if w.how == "absent" and not w.note.startswith(("same program", "no custom"))
            ]
            if silent:
                return f"right: no autodiff: {silent[0].note}"
            if cell.grad != "numbers" and not right.difference < 1e-9:
                return f"right: difference {right.difference:.1e}"
        elif right is not Verdict.PASS:
            return f"right: {right.value}"
        if cell.grad == "autodiff" or (cell.grad == "numbers" and not cell.x64):
            return ""  # nothing of the caller's to be wrong; 0.1 % of a float32 number is seen, and tried below
        off = check(cell, 1.001)
        verdict = off.verdict if isinstance(off, Report) else off
        return "" if verdict is Verdict.FAIL else f"0.1 % off: {verdict.value}"
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"


def main(doors: list[str]) -> int:
    bad = count = 0
    for door in doors or DOORS:
        for cell in cells(door):
            said = wrong(cell)
            count += 1
            bad += bool(said)
            if said:
                print(*cell, "->", said, flush=True)
    print(f"{count - bad} of {count} as they should be")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
