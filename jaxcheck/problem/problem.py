"""What is checked, ready to be measured: one form for losses and for maps.

Everything is in the real view: a leaf is a vector of n real numbers (a complex leaf gives its real
parts, then its imaginary parts), a gradient is d output / d that vector, and G outputs ("columns",
1 for a loss) are handled at once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxcheck.problem import parts
from jaxcheck.problem.parts import Layout
from jaxcheck.problem.run import Run
from jaxcheck.program.objective import Traced
from jaxcheck.there import there
from jaxcheck.theta import Theta

EPS = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What is checked, ready to run.

    `primal`, `manual`, `autodiff` are traced programs of (leaves, extras), or None; the `host_*` twins
    are Python functions of the real vector theta for code that JAX cannot trace. `numbers` is a
    gradient given as data. `columns` is G.
    """

    theta: Theta
    extras: tuple[Any, ...]
    primal: Traced | None
    manual: Traced | None
    autodiff: Traced | None
    columns: int = 1
    numbers: np.ndarray | None = None
    host_primal: Callable | None = None
    host_manual: Callable | None = None
    host_autodiff: Callable | None = None
    host_unit: float = EPS
    is_autodiff: bool = False  # M is jax.grad itself, without a rule of the user's
    numbers_unit: np.ndarray | None = None  # rounding unit of each number that is given as such, (P,)
    numbers_run: Run | None = None  # the programs beside which such numbers are looked at
    at_limit: bool = False  # loops that stop at a tolerance are run on
    layout: Layout | None = None  # of leaves that lie over several devices

    def place(self, x: np.ndarray) -> Any:
        """(..., P) vectors as programs are given them: as they are, or leaf by leaf where their shards are."""
        return x if self.layout is None else parts.place(x, self.theta.leaves, self.layout)

    @property
    def cost(self) -> float:
        return self.primal.program.cost if self.primal else 1e5

    @functools.cached_property
    def derivatives(self) -> list[Traced]:
        """The programs of M and A, those that there are; one where both are the same, as where M is `jax.grad`."""
        m, a = self.manual, self.autodiff
        if m is not None and a is not None and m.program.is_same(a.program):
            return [m]
        return [t for t in (m, a) if t is not None]

    def of_each(self, found: Sequence[Any]) -> tuple[Any, Any]:
        """What was found of M and of A, None for what there is not, given what was found of each of `derivatives`."""
        return found[0] if self.manual is not None else None, found[-1] if self.autodiff is not None else None

    @property
    def sharp(self) -> bool:
        """Whether the gradient and autodiff are programs in float64, and that is the caller's own precision."""
        programs = (self.manual, self.autodiff)
        return all(t is not None and t.how == "float64" and not t.rounded for t in programs) and all(
            leaf.native in ("float64", "complex128") for leaf in self.theta.leaves
        )

    @property
    def loss(self) -> Traced:
        """The primal of a problem that is known to have been traced."""
        return there(self.primal)

    @property
    def unit(self) -> float:
        return self.primal.unit if self.primal else self.host_unit

    @property
    def resolution(self) -> float:
        """Rounding unit of the coarsest that looks at the point: the function, or what gave the gradient as numbers; of
        a function that hands out some leaves as such, where it does so of all."""
        if self.numbers_unit is None or not self.numbers_unit.size:
            return self.unit
        coarsest = np.max if self.numbers is not None else np.min
        return max(self.unit, float(coarsest(self.numbers_unit)))
