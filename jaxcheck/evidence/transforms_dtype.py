"""A rule at float32, bfloat16 and float64: the dtype of its result, and the digits that the dtype promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jaxcheck.evidence.laws_site import (
    Site,
    build,
    draw,
    finite,
    host,
    norm,
    pull,
    reason,
    unit_in,
    unit_of,
    unsupported,
)  # fmt: skip
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.shadow import lift, to_float64, uses_random_bits
from jaxcheck.program.strip import strip_rules
from jaxcheck.result import Row

DTYPES = (np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16))


def rows(f: Callable, args: Sequence[Any], kwargs: dict, argnums: Any, seed: int) -> list[Row]:
    """One row per dtype. All are run at one point, which every one of them can represent."""
    found = []
    used = {_real(x.dtype) for x in jax.tree_util.tree_leaves((args, kwargs))
            if hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, np.inexact)}
    for dtype in (*DTYPES, np.dtype(np.float64)):
        try:
            rounded = jax.tree_util.tree_map(lambda x, d=dtype: _round(x, d), (tuple(args), kwargs))
            with jax.enable_x64(True):
                wide = Wide(ask(build, f, *rounded, argnums, np.float64), seed, dtype)
        except Refused as no:
            found.append(unsupported("transformation", dtype.name, f"in float64: {reason(no.error)}"))
            continue
        try:
            if dtype == np.float64:
                found.append(wide.row())
                continue
            with jax.enable_x64(False):
                found.append(wide.compare(ask(build, f, *rounded, argnums, dtype), dtype, dtype.name in used))
        except Refused as no:
            found.append(unsupported("transformation", dtype.name, no.error))
    return found


def _real(dtype: Any) -> str:
    """The real dtype of the same precision."""
    return {"complex64": "float32", "complex128": "float64"}.get(str(dtype), str(dtype))


def _round(x: Any, dtype: np.dtype) -> Any:
    """To numbers that `dtype` can represent, in the dtype they have: both precisions then see the same point."""
    if not isinstance(x, (jax.Array, np.ndarray, np.generic)) or not jax.dtypes.issubdtype(x.dtype, np.inexact):
        return x
    value = np.asarray(x)
    if value.dtype.kind == "c":
        real, imag = (part.astype(dtype).astype(np.float64) for part in (value.real, value.imag))
        value = (real + 1j * imag).astype(value.dtype)
    else:
        value = value.astype(dtype).astype(value.dtype)
    return jnp.asarray(value, value.dtype) if isinstance(x, jax.Array) else value


class Wide:
    """The gradient in float64, and how it moves with the rounding of a narrower dtype."""

    def __init__(self, site: Site, seed: int, dtype: np.dtype):
        self.site, self.seed = site, seed
        outs = ask(site.call, *site.live)
        self.g = [_round(g, dtype) for g in draw(outs, seed, "dtype")]
        self.call = site.call
        self.back = pull(site.call)
        self.closed = ask(jax.make_jaxpr(self.back), list(site.live), self.g)
        self.unit = unit_in(self.closed)
        self.own = self.eager(site.live)
        # Where the rule (or f) computes in less than float64, that is lifted.
        self.exact = self.own if self.unit <= 1e-15 or not site.live else self._lifted(self.closed, True)
        self.value = host(outs)

    def draw_as(self, narrow: Site, g: Sequence[Any]) -> None:
        """Take the random numbers that the narrow program draws: by one key, other precisions draw others."""
        # The program without its rule says what the gradient is, where it does so in float64.
        rule = narrow.call if not self._plain_agrees() else strip_rules(narrow.call)
        with jax.enable_x64(False):
            call = ask(jax.make_jaxpr(narrow.call), *narrow.live)
            back = ask(jax.make_jaxpr(pull(rule)), list(narrow.live), list(g))
        # Compiled as a whole: a generator of random numbers is many small operations.
        self.call = jax.jit(lift(call, wide=False))
        flat = jax.jit(lift(back, wide=False))
        self.back = lambda x, g: flat(*x, *g)
        with jax.enable_x64(True):
            self.own = self.exact = self.eager(self.site.live)
            self.value = host(ask(self.call, *self.site.live))

    def _plain_agrees(self) -> bool:
        try:
            with jax.enable_x64(True):
                plain = host(ask(pull(strip_rules(self.site.call)), list(self.site.live), self.g))
        except Refused:
            return False
        return all(norm(a - b) <= 1e-6 * norm(b) for a, b in zip(plain, self.own, strict=True))

    def _lifted(self, closed: Any, wide: bool) -> list[np.ndarray]:
        return host(ask(lift(closed, wide=wide), *map(to_float64, [*self.site.live, *self.g])))

    def eager(self, x: Sequence[Any]) -> list[np.ndarray]:
        return host(ask(self.back, list(x), self.g))

    def noise(self, unit: float) -> tuple[list[float], list[float]]:
        """How far the gradient, and the value, move when the arguments do by some roundings."""
        grads, values = [0.0] * len(self.exact), [0.0] * len(self.value)
        with jax.enable_x64(True):
            for name in ("up", "down"):
                moves = [jnp.sign(r.real) for r in draw(self.site.live, self.seed, name)]
                x = [v * (1 + 4 * unit * m) for v, m in zip(self.site.live, moves, strict=True)]
                grads = [max(n, norm(a - b)) for n, a, b in zip(grads, self.eager(x), self.own, strict=True)]
                out = host(ask(self.call, *x))
                values = [max(n, norm(a - b)) for n, a, b in zip(values, out, self.value, strict=True)]
        return grads, values

    def compare(self, narrow: Site, dtype: np.dtype, used: bool) -> Row:
        """`used`: the caller's own arguments have this dtype, so that its gradient must have it too."""
        name = dtype.name
        out = ask(narrow.call, *narrow.live)
        g = [jnp.asarray(np.asarray(g).astype(o.dtype)) for g, o in zip(self.g, out, strict=True)]
        grads = ask(pull(narrow.call), list(narrow.live), g)
        for path, x, u in zip(narrow.paths, narrow.live, grads, strict=True):
            if u.dtype != x.dtype:
                text = f"leaf `{path}`: the gradient is {u.dtype}, the argument {x.dtype}"
                if not used:  # promoted by a constant of the caller's: right for the dtype it was written for
                    return unsupported("transformation", name, text)
                return Row("transformation", name, "WRONG", float("nan"), text)
        if uses_random_bits(self.closed):
            self.draw_as(narrow, g)
        if not finite(self.exact):
            return unsupported("transformation", name, "the gradient in float64 is not finite")
        unit = max(unit_of(dtype), self.inside())
        noise, value_noise = self.noise(unit)
        values = zip(host(out), self.value, value_noise, strict=True)
        if not all(norm(a - b) <= 64 * unit * norm(b) + 16 * n for a, b, n in values):
            return unsupported("transformation", name, f"the function itself loses its digits in {name}")
        return self._row(name, host(grads), unit, noise)

    def _row(self, name: str, found: Sequence[Any], unit: float, noise: Sequence[float]) -> Row:
        sizes = [norm(w) for w in self.exact]
        largest = 0.0
        for path, a, b, s, n in zip(self.site.paths, found, self.exact, sizes, noise, strict=True):
            d = norm(a - b)
            relative = 0.0 if d == 0 else d / s if s else float("inf")
            if not d <= 64 * unit * s + 16 * n + 16 * unit * max(sizes):
                text = f"leaf `{path}`: off by {relative:.2g}, the dtype's unit is {unit:.2g}"
                return Row("transformation", name, "WRONG", relative, text)
            largest = max(largest, relative if s > unit * max(sizes) else 0.0)
        return Row("transformation", name, "OK", largest)

    def inside(self) -> float:
        """Rounding unit of the coarsest precision that the function itself computes in when given float64."""
        with jax.enable_x64(True):
            return unit_in(ask(jax.make_jaxpr(self.site.call), *self.site.live))

    def row(self) -> Row:
        """In float64: whether what is computed narrower inside costs the rule its digits."""
        name = "float64"
        if not finite(self.exact):
            return unsupported("transformation", name, "the gradient in float64 is not finite")
        inside = self.inside()
        unit = unit_of(np.float64)
        if inside > 1e-15:
            text = "the function itself computes in less than float64"
            row = self._row(name, self.own, inside, self.noise(inside)[0])
            return dataclasses.replace(row, status="OK", detail=text)
        return self._row(name, self.own, 1024 * unit, self.noise(unit)[0])
