"""What a rule computes in a narrow dtype, before any rounding: is it still the formula that it is in float64?

A unit of bfloat16 is almost a percent, and what a program may lose in it far more: looked at as it runs, a factor of
two is not seen there. So the program that is traced in the narrow dtype, with all that it chooses by dtype, is
emitted again in float64. What rounding then does to it is another question (`transforms_dtype`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.check.laws.site import Arrays, Site, finite, host, norm, pull
from jaxcheck.program.alike import alike
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.custom.strip import strip_rules
from jaxcheck.program.float64.shadow import islands, lift, to_float64, uses_random_bits
from jaxcheck.program.rounding import round_off
from jaxcheck.program.run.compile import Program
from jaxcheck.program.run.eagerly import run_eagerly

# Spacings of the dtype by which two formulas may differ: constants are rounded to it, and what guards a division is
# often made of one (`finfo(x.dtype).eps`). What more constants do is measured.
SPACINGS = 4.0
# Part of the largest leaf below which another is but the rounding of float64.
FAINT = 1e-10


@dataclasses.dataclass(frozen=True, eq=False)
class Formula:
    """The gradient in float64 at `x` and `g`: `closed` its program, `exact` its numbers, `call` the function."""

    call: Callable
    x: Arrays
    g: Arrays
    closed: Any
    exact: list[np.ndarray]
    value: list[np.ndarray]
    judged_by_autodiff: Callable[[], bool]  # whether autodiff without the rules gives these numbers too

    def differs(self, narrow: Site, spacing: float) -> tuple[int, float] | None:
        """(the leaf in which the narrow formula is another and by how much, relative), (-1, the largest difference)
        where it is the same, None where that cannot be told."""
        mine = _traced(narrow, narrow.call)
        if alike(mine, self.closed):
            return -1, 0.0
        if islands(mine) or not finite(self.exact):
            return None
        found = self._run(mine)
        if (off := _off(found, self.exact, spacing))[0] < 0:
            return off
        wanted = self._wanted(narrow, uses_random_bits(mine), spacing)
        for other in wanted:
            if (off := _off(found, other, spacing))[0] < 0:
                return off
        moved = self._constants(mine, spacing) if wanted else None
        if moved is None:
            return None
        offs = [_off(found, other, spacing, moved) for other in wanted]
        return next((off for off in offs if off[0] < 0), offs[0])

    def _wanted(self, narrow: Site, random: bool, spacing: float) -> list[list[np.ndarray]]:
        """What the formula may be: that of float64, and the derivative of the function as it is in the dtype. Where
        this function is another one, only that derivative can say what is right."""
        found = [] if random or not self._one_function(narrow, spacing) else [self.exact]
        plain = self._autodiff(narrow) if self.judged_by_autodiff() else None
        if plain is not None and not finite(plain):  # what guards a quotient in float64 is zero in the dtype
            return []
        return [*found, *([plain] if plain is not None else [])]

    def _run(self, closed: Any) -> list[np.ndarray]:
        with jax.enable_x64(True):
            return host(run_eagerly(lift(closed, wide=False), *map(to_float64, [*self.x, *self.g])))

    def _autodiff(self, narrow: Site) -> list[np.ndarray] | None:
        try:
            closed = _traced(narrow, strip_rules(narrow.call))
            return None if islands(closed) else self._run(closed)
        except Refused:
            return None

    def _one_function(self, narrow: Site, spacing: float) -> bool:
        with jax.enable_x64(False):
            closed = ask(jax.make_jaxpr(narrow.call), *narrow.live)
        with jax.enable_x64(True):
            value = host(run_eagerly(lift(closed, wide=False), *map(to_float64, self.x)))
        return all(norm(a - b) <= SPACINGS * spacing * norm(b) for a, b in zip(value, self.value, strict=True))

    def _constants(self, closed: Any, spacing: float) -> list[float] | None:
        """How far each leaf may be off since the constants of the program are rounded."""
        values = list(map(to_float64, [*self.x, *self.g]))
        try:
            with jax.enable_x64(True):
                program = Program.of(ask(jax.make_jaxpr(lift(closed, wide=False)), *values))
            found, _ = ask(round_off, "formula", [program], list, list, values, [False], spacing / 2, constants=True)
        except Refused:
            return None
        return [2 * norm(np.asarray(bar, np.float64)) for bar in found[0][1]]


def _off(found: Sequence[Any], wanted: Sequence[Any], spacing: float, more: Sequence[float] | None = None):
    sizes = [norm(w) for w in wanted]
    floor, largest, culprit = FAINT * max(sizes, default=0.0), 0.0, -1
    for k, (a, b, s) in enumerate(zip(found, wanted, sizes, strict=True)):
        d = norm(a - b)
        relative = 0.0 if d == 0 else d / s if s else float("inf")
        if not d <= SPACINGS * spacing * s + floor + (more[k] if more else 0.0):
            if culprit < 0 or not relative <= largest:
                largest, culprit = relative, k
        elif culprit < 0 and d > floor:
            largest = max(largest, relative)
    return culprit, largest


def _traced(narrow: Site, call: Callable) -> Any:
    with jax.enable_x64(False):
        out = ask(jax.eval_shape, call, *narrow.live)
        return ask(jax.make_jaxpr(pull(call)), list(narrow.live), list(out))
