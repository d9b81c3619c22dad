"""<J t, g> = <t, J^T g>: the rule's reverse mode against a forward mode, leaf by leaf."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxcheck.bars import FINE_UNIT, TEXTBOOK
from jaxcheck.check.laws.run import Answer, Job, run
from jaxcheck.check.laws.site import Arrays, Site, draw, finite, host, natural, norm, pull, push, unsupported, worst
from jaxcheck.program.custom.census import has_stop_gradient
from jaxcheck.program.mode import laid_out
from jaxcheck.result import Row

# How far a point close by lies, as a part of each number; and where that is zero. Choices.
CLOSE_BY, FROM_ZERO = 1e-2, 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Adjoint:
    """`whole` are the rule's answers at the cotangents `g`: all results, then group by group; `masks` the tangents
    of `t` by group, so that every pair of leaves has a product of its own. `values` are the results."""

    site: Site
    values: Sequence[Any]
    g: Sequence[Arrays]
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
        d, bad = self._products(tangents, self.whole)
        if bad is None:
            return Row("law", title, "OK", d)
        if not all(map(finite, tangents.rows)):
            return unsupported("law", title, "the derivative of the program without its rule is not finite here")
        if why := "" if is_rule else _excuse(tangents.closed):
            return unsupported("law", title, why)
        if self._holds_beside(call):
            return Row("law", title, "OK", 0.0, "holds next to the point; at the point itself there is a kink")
        return Row("law", title, "WRONG", d, f"{self._named(*bad)}: <J t, g> is not <t, J^T g>")

    def _named(self, pulled: int, mask: int) -> str:
        """The leaves of the worst product."""
        result = f", with result {pulled - 1} alone" if 0 < pulled and len(self.g) == len(self.values) + 1 else ""
        return f"leaf `{self.site.paths[mask]}`{result}"

    def _products(self, tangents: Answer, whole: Answer):
        """(relative difference, (cotangent, first leaf of the group) that are worst), or (the largest, None)."""
        largest, culprit, unit = 0.0, None, max(whole.unit, tangents.unit)
        for k, (g, back) in enumerate(zip(map(host, self.g), whole.rows, strict=True)):
            # What a sum over all leaves can lose to rounding where the terms of one leaf cancel.
            floor = 64 * unit * sum(norm(a) * norm(b) for a, b in zip(host(self.t), back, strict=True))
            # Nor is the rounding of terms that the rule itself cancels an error.
            residue = natural(self.values, self.site.live, g)
            floor += 16 * unit * sum(norm(a) * n for a, n in zip(host(self.t), residue, strict=True))
            for m, (jt, mask) in enumerate(zip(tangents.rows, self.masks, strict=True)):
                left = [np.sum(a * b).real for a, b in zip(jt, g, strict=True)]
                right = [np.sum(a * b).real for a, b in zip(host(mask), back, strict=True)]
                terms = [norm(a * b) for a, b in [*zip(jt, g, strict=True), *zip(host(mask), back, strict=True)]]
                d, size = abs(sum(left) - sum(right)), max(map(abs, [*left, *right, *terms]), default=0.0)
                relative = 0.0 if d == 0 else d / size if size > 0 else float("nan")
                off = _moves(whole.off, k, host(mask)) + _moves(tangents.off, m, g)
                if not d <= _allowed(unit) * size + floor + off:
                    if culprit is None or relative > largest:
                        largest, culprit = relative, (k, m)
                elif culprit is None:
                    largest = max(largest, relative)
        return float(largest), culprit

    def _holds_beside(self, call: Callable) -> bool:
        moves = draw(self.site.live, self.seed, "near")
        x = [_beside(v, r) for v, r in zip(self.site.live, moves, strict=True)]
        found = run({"u": Job(pull(self.site.call), x, self.g), "j": Job(push(call), x, self.masks)})
        u, j = found["u"], found["j"]
        if u.error or j.error or not all(map(finite, [*u.rows, *j.rows])):
            return False
        return self._products(j, u)[1] is None

    def _both_reverse(self, title: str, call: Callable) -> Row:
        """Where the program without its rule has no forward mode, its own reverse mode must do."""
        plain = run({"u": Job(pull(call), self.site.live, self.g)})["u"]
        if plain.error is not None:
            return unsupported("law", title, plain.error)
        if not all(map(finite, plain.rows)):
            return unsupported("law", title, "the derivative of the program without its rule is not finite here")
        unit, rows = max(self.whole.unit, plain.unit), []
        for k, (mine, theirs) in enumerate(zip(self.whole.rows, plain.rows, strict=True)):
            sizes = [max(norm(a), norm(b)) for a, b in zip(theirs, mine, strict=True)]
            off = self.whole.off[k] if self.whole.off else [0.0] * len(sizes)
            bars = [_allowed(unit) * s + 64 * unit * max(sizes) + 2 * o for s, o in zip(sizes, off, strict=True)]
            d, bad = worst(mine, theirs, bars, sizes)
            text = "" if bad < 0 else f"{self._named(k, bad)}: not the transpose of the program without its rule"
            rows.append(Row("law", title, "OK" if bad < 0 else "WRONG", d, text))
        found = max(rows, key=lambda r: (r.status == "WRONG", r.difference))
        if found.status == "WRONG" and (why := _excuse(plain.closed)):
            return unsupported("law", title, why)
        return found


def _allowed(unit: float) -> float:
    """Two formulas of one derivative differ by more than the rounding of one."""
    return TEXTBOOK if unit < FINE_UNIT else 4096 * unit


def _moves(off: Sequence[Sequence[float]], row: int, along: Sequence[np.ndarray]) -> float:
    """How far a product with `along` may be off when the row of an answer is."""
    return sum(o * norm(a) for o, a in zip(off[row], along, strict=True)) if off else 0.0


def _excuse(closed: Any) -> str:
    """Why the program without its rule is no judge of the rule, or nothing."""
    if closed is None:
        return ""
    if has_stop_gradient(closed):
        return "the program without its rule stops gradients"
    return ""


def _beside(value: Any, move: Any) -> Any:
    """A point close by; zeros move too, for that is where most kinks are."""
    old, move = np.asarray(value), np.asarray(move)
    return laid_out(
        np.where(old == 0, FROM_ZERO * move, old * (1 + CLOSE_BY * np.tanh(move.real))).astype(old.dtype), value
    )
