"""<J t, g> = <t, J^T g>: the rule's reverse mode against a forward mode, leaf by leaf."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence.laws_run import Answer, Job, run
from jaxcheck.evidence.laws_site import Arrays, Site, draw, finite, host, natural, norm, pull, push, unsupported, worst
from jaxcheck.program.census import has_stop_gradient
from jaxcheck.program.interpret import walk
from jaxcheck.result import Row

# Groups of leaves with an inner product of their own: one over all would hide a small leaf.
GROUPS = 8


def masks(t: Sequence[Any]) -> list[Arrays]:
    """The tangents `t`, a group of leaves at a time, the others zero."""
    count = min(GROUPS, len(t))
    return [[x if i % count == m else jnp.zeros_like(x) for i, x in enumerate(t)] for m in range(count)]


@dataclasses.dataclass(frozen=True, eq=False)
class Adjoint:
    """`whole` are the rule's cotangents, first those at `g`; `masks` the tangents of `t` by group."""

    site: Site
    g: Sequence[Any]
    t: Sequence[Any]
    whole: Answer
    masks: Sequence[Arrays]
    seed: int

    def row(self, title: str, tangents: Answer, call: Callable, is_rule: bool) -> Row:
        """The law with the tangents that `call` gives; `is_rule` where they are the rule's own."""
        if self.whole.error is not None:
            return unsupported("law", title, self.whole.error)
        if tangents.error is not None:
            return unsupported("law", title, tangents.error) if is_rule else self._both_reverse(title, call)
        d, bad = self._products(tangents.rows, self.whole.rows[0], max(self.whole.unit, tangents.unit))
        if bad < 0:
            return Row("law", title, "OK", d)
        if not all(map(finite, tangents.rows)):
            return unsupported("law", title, "the derivative of the program without its rule is not finite here")
        if why := "" if is_rule else _excuse(tangents.closed, d):
            return unsupported("law", title, why)
        if self._holds_beside(call):
            return Row("law", title, "OK", 0.0, "holds next to the point; at the point itself there is a kink")
        return Row("law", title, "WRONG", d, f"leaf `{self.site.paths[bad]}`: <J t, g> is not <t, J^T g>")

    def _products(self, tangents: Sequence[Any], grads: Sequence[Any], unit: float) -> tuple[float, int]:
        """(relative difference, first leaf of the worst group), or (the largest, -1)."""
        g = host(self.g)
        largest, culprit = 0.0, -1
        # What a sum over all leaves can lose to rounding where the terms of one leaf cancel.
        floor = 64 * unit * sum(norm(a) * norm(b) for a, b in zip(host(self.t), grads, strict=True))
        # Nor is the rounding of terms that the rule itself cancels an error.
        residue = natural(self.site.call(*self.site.live), self.site.live, self.g)
        floor += 16 * unit * sum(norm(a) * n for a, n in zip(host(self.t), residue, strict=True))
        for m, (jt, mask) in enumerate(zip(tangents, self.masks, strict=True)):
            left = [np.sum(a * b).real for a, b in zip(jt, g, strict=True)]
            right = [np.sum(a * b).real for a, b in zip(host(mask), grads, strict=True)]
            terms = [norm(a * b) for a, b in [*zip(jt, g, strict=True), *zip(host(mask), grads, strict=True)]]
            d, size = abs(sum(left) - sum(right)), max(map(abs, [*left, *right, *terms]), default=0.0)
            relative = 0.0 if d == 0 else d / size if size > 0 else float("nan")
            if not d <= _allowed(unit) * size + floor:
                if culprit < 0 or relative > largest:
                    largest, culprit = relative, m
            elif culprit < 0:
                largest = max(largest, relative)
        return float(largest), culprit

    def _holds_beside(self, call: Callable) -> bool:
        moves = draw(self.site.live, self.seed, "near")
        x = [_beside(v, r) for v, r in zip(self.site.live, moves, strict=True)]
        found = run({"u": Job(pull(self.site.call), x, [self.g]), "j": Job(push(call), x, self.masks)})
        u, j = found["u"], found["j"]
        if u.error or j.error or not all(map(finite, [*u.rows, *j.rows])):
            return False
        return self._products(j.rows, u.rows[0], max(u.unit, j.unit))[1] < 0

    def _both_reverse(self, title: str, call: Callable) -> Row:
        """Where the program without its rule has no forward mode, its own reverse mode must do."""
        plain = run({"u": Job(pull(call), self.site.live, [self.g])})["u"]
        if plain.error is not None:
            return unsupported("law", title, plain.error)
        if not finite(plain.rows[0]):
            return unsupported("law", title, "the derivative of the program without its rule is not finite here")
        unit = max(self.whole.unit, plain.unit)
        sizes = [max(norm(a), norm(b)) for a, b in zip(plain.rows[0], self.whole.rows[0], strict=True)]
        bars = [_allowed(unit) * s + 64 * unit * max(sizes) for s in sizes]
        d, bad = worst(self.whole.rows[0], plain.rows[0], bars, sizes)
        if bad >= 0 and (why := _excuse(plain.closed, d)):
            return unsupported("law", title, why)
        text = "" if bad < 0 else f"leaf `{self.site.paths[bad]}`: not the transpose of the program without its rule"
        return Row("law", title, "OK" if bad < 0 else "WRONG", d, text)


def _allowed(unit: float) -> float:
    """Two formulas of one derivative differ by more than the rounding of one."""
    return 1e-7 if unit < 1e-15 else 4096 * unit


def _excuse(closed: Any, difference: float) -> str:
    """Why the program without its rule is no judge of the rule, or nothing."""
    if closed is None:
        return ""
    if has_stop_gradient(closed):
        return "the program without its rule stops gradients"
    if difference < 1e-2 and any(eqn.primitive.name == "while" for eqn, _ in walk(closed)):
        return f"the program without its rule iterates; the two agree to {difference:.1g}"
    return ""


def _beside(value: Any, move: Any) -> Any:
    """A point close by; zeros move too, for that is where most kinks are."""
    return jnp.where(value == 0, 1e-3 * move, value * (1 + 1e-2 * jnp.tanh(move.real))).astype(value.dtype)
