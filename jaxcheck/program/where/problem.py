"""From a loss, a backward pass and a point to a problem for the search."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcheck.bars import ASTRAY, CANCELLED, CANCELLED_SIZE, REPAIRED
from jaxcheck.formula import norm2
from jaxcheck.program.where import kernels
from jaxcheck.program.where.constants import Constants
from jaxcheck.program.where.edits import Edit
from jaxcheck.program.where.foreign import without_hosts
from jaxcheck.program.where.further import Further, as_result, second_point
from jaxcheck.program.where.handed import only_hands_on, with_handed
from jaxcheck.program.where.loops import scans
from jaxcheck.program.where.matching import Known, reordered
from jaxcheck.program.where.nonsense import tried
from jaxcheck.program.where.places import Place
from jaxcheck.program.where.reach import Reach
from jaxcheck.program.where.shared import as_called
from jaxcheck.program.where.sites import Group, live, own_values, sites
from jaxcheck.program.where.sources import each_once
from jaxcheck.program.where.tape import Tape, record
from jaxcheck.program.where.truths import truths
from jaxcheck.there import there

# Operations of one line that are looked at together.
FEW = 4


@dataclasses.dataclass(eq=False)
class Problem:
    """A backward pass next to the truth: at each point all values of its tape, and what its results should be.

    `truths` are the loss's values; `loss` is its tape, all values of it at each point, and its outputs' cotangents;
    `made` are changes that were made already, which the values know.
    """

    tape: Tape
    runs: list[list[np.ndarray]]
    targets: list[list[np.ndarray]]
    truths: list[Group]
    constants: Constants
    deadline: float
    loss: tuple[Tape, list[list[np.ndarray]], dict[int, np.ndarray]]
    made: tuple[Edit, ...] = ()
    backward: tuple[str, str] = ("", "")  # file and name of a rule's backward pass
    short: Problem | None = None  # the same with fewer turns of its loops, see `shorter`
    further: Further | None = None

    def __post_init__(self) -> None:
        every = sites(self.tape)
        self.sites = [s for s in live(self.tape, every) if not self.tape.hidden.issuperset(s.ops)]
        self.own = own_values(self.tape, [*every, *self.sites])
        self.scans = scans(self.tape)
        self.users: dict[int, list[int]] = {}
        for k, op in enumerate(self.tape.ops):
            for i in op.ins:
                self.users.setdefault(i, []).append(k)
        self.reach = Reach(self.tape, self.users, len(self.loss[0].inputs), self.backward)
        self.scales = [_scales(row) for row in self.targets]
        inputs = [self.runs[0][i] for i in self.tape.inputs]
        forward = [x for g in self.truths if g.what == "forward" for x in g.arrays[0]]
        self.forward = Known([*forward, *inputs])
        self.known = Known([*forward, *inputs, *(x for g in self.truths if g.what == "cotangent" for x in g.arrays[0])])
        self.parts = Known(x for g in self.truths if g.what == "use" for x in g.arrays[0])
        self._knows: dict[int, bool] = {}
        self._disorders: dict[int, bool] = {}
        self.answers: dict[Any, bool] = {}  # what `weigh` has asked of sites
        self._entering: dict[tuple[str, int, str], bool] = {}
        self.free, self.loose = self._reached(self.knows), self._reached(lambda i: self.runs[0][i] in self.forward)
        self.leading = self._reached(lambda i: False)

    @functools.cached_property
    def sources(self) -> list[Group]:
        """The values that a change may bring in, each value once; the backward pass's own first."""
        return each_once(self.tape, [*self.own, *self.truths], self.runs[0])

    def knows(self, i: int) -> bool:
        """Whether a value of the tape is one of the loss's."""
        if i not in self._knows:
            self._knows[i] = self.runs[0][i] in self.known
        return self._knows[i]

    def _line(self, i: int) -> tuple[str, int] | None:
        """The line that makes a value."""
        k = self.tape.makers.get(i)
        return self.tape.ops[k].stack[0][:2] if k is not None and self.tape.ops[k].stack else None

    def disordered(self, i: int) -> bool:
        """Whether a line makes a value of the same numbers in another order than its axes': so it is not known."""
        if i not in self._disorders:
            before, line = [i], self._line(i)
            found = False
            for _ in range(FEW) if line else ():
                before = [j for n in before if self._line(n) == line for j in self.tape.ops[self.tape.makers[n]].ins]
                found = found or any(reordered(self.runs[0][i], self.runs[0][j]) for j in before)
            self._disorders[i] = found
        return self._disorders[i]

    def _reached(self, known: Callable[[int], bool]) -> set[int]:
        """The values from which a wrong result is reached otherwise than through one that is known; `free` of all that
        the loss knows, `loose` of its forward values."""
        found: set[int] = set()
        queue = [(o, True) for o, wrong in zip(self.tape.outputs, self.wrong(), strict=True) if wrong]
        while queue:
            i, result = queue.pop()
            if i in found:
                continue
            found.add(i)
            k = self.tape.makers.get(i)
            if k is not None and (result or not known(i)):
                # What only gives a result its shape is still the result.
                queue += [(j, result and not self.tape.ops[k].stack) for j in self.tape.ops[k].ins]
        return found

    def entering(self, place: Place) -> bool:
        """Whether the loss knows all that comes into a line from others, the first time it is run."""
        line = (*place[:2], place.function)  # which may give a function as well
        if line not in self._entering:
            here = [self.tape.ops[s.ops[0]] for s in self.sites if (*s.place[:2], s.place.function) == line]
            own = {i for op in here for i in op.outs}
            ins = {i for op in here for i in op.ins} - own - self.tape.literals
            arrays = [i for i in ins if (x := self.runs[0][i]).dtype.kind in "fc" and x.ndim]
            # A transform and its inverse give one cotangent's numbers, conjugate or scaled: that proves nothing.
            proved = [i for i in arrays if self.runs[0][i].dtype.kind != "c" or self.runs[0][i] in self.forward]
            # Of nothing nothing is wrong.
            right = all(self.knows(i) or self._is_input(i) for i in arrays)
            self._entering[line] = len(proved) == len(arrays) and right
        return self._entering[line]

    def _is_input(self, i: int) -> bool:
        """Whether a value is what the pass was given: a mask, of whose numbers nobody knows whose they are."""
        while (k := self.tape.makers.get(i)) is not None and only_hands_on(self.tape.ops[k]):
            (i,) = self.tape.ops[k].ins
        return i in self.tape.inputs

    def exchanged(self) -> bool:
        """Whether a result is what another one should be, and is not: they were given back in another order."""
        values, targets = [self.runs[0][o] for o in self.tape.outputs], self.targets[0]
        return any(
            i != j and wrong and x.shape == t.shape and t.any() and norm2(x - t) <= REPAIRED * self.scales[0][j]
            for i, (x, wrong) in enumerate(zip(values, self.wrong(), strict=True))
            for j, t in enumerate(targets)
        )

    def wrong(self) -> list[bool]:
        """Which results are wrong."""
        return [bool(x > ASTRAY) for x in self.error(self.runs[0], 0)]

    def late(self) -> bool:
        return time.perf_counter() > self.deadline

    def error(self, values: Sequence[np.ndarray], point: int) -> np.ndarray:
        """Relative error of each result."""
        return np.array([self.off(values, point, n) for n in range(len(self.tape.outputs))])

    def off(self, values: Sequence[np.ndarray], point: int, n: int) -> float:
        """Relative error of one result."""
        value, target = values[self.tape.outputs[n]], self.targets[point][n]
        if np.shape(value) != np.shape(target):
            return np.inf
        with np.errstate(all="ignore"):
            return float(np.linalg.norm(value - target)) / self.scales[point][n]

    def run(self, edit: Edit, point: int, only: Sequence[int] | None = None) -> list[np.ndarray] | None:
        """All values with a change made; None where it does not fit.

        Args:
            only: the operations that are run again, where not all that the change concerns.
        """
        edits = {k: f for e in (*self.made, edit) for k, f in e.at(self.tape, point).items()}
        return tried(self.tape.replay, self.runs[point], {}, edits, edit.site.ops[0], only)

    def first(self, edit: Edit) -> np.ndarray | None:
        """What a change makes of the first instance; None where it does not fit."""
        k, values = edit.site.ops[0], self.runs[0]
        results = tried(edit.first(self.tape), [values[i] for i in self.tape.ops[k].ins], values)
        return None if results is None else results[0]

    def only(self, k: int) -> Problem:
        """The problem of one result alone."""
        return dataclasses.replace(
            self,
            tape=dataclasses.replace(self.tape, outputs=[self.tape.outputs[k]]),
            targets=[[row[k]] for row in self.targets],
            short=None if self.short is None else self.short.only(k),
            further=None if self.further is None else self.further.only(k),
        )

    def after(self, edit: Edit) -> Problem:
        """The problem that is left when a change that fits has been made."""
        runs = [there(self.run(edit, point)) for point in range(len(self.runs))]
        return dataclasses.replace(self, runs=runs, made=(*self.made, edit), short=None)

    def depth(self, k: int) -> int:
        """How many operations lead to a result."""
        found: set[int] = set()
        queue = [self.tape.outputs[k]]
        while queue:
            made = self.tape.makers.get(queue.pop())
            if made is not None and made not in found:
                found.add(made)
                queue += self.tape.ops[made].ins
        return len(found)

    def repaired(self, edit: Edit) -> set[int]:
        """The wrong results that a change makes right at every point; none, if it makes a right one wrong."""
        before = self.error(self.runs[0], 0) > ASTRAY
        if not self.reach.allows(edit):
            return set()
        right = np.ones(len(before), bool)
        for point in range(len(self.runs)):
            values = self.run(edit, point)
            if values is None:
                return set()
            right &= self.error(values, point) <= REPAIRED
        return set() if (~right & ~before).any() else set(map(int, np.flatnonzero(right & before)))

    def repairs(self, edit: Edit) -> bool:
        """Whether a change makes all results right, at every point."""
        if not self.reach.allows(edit):
            return False
        for point in range(len(self.runs)):
            values = self.run(edit, point)
            if values is None or not (self.error(values, point) <= REPAIRED).all():
                return False
        return True


def _scales(targets: Sequence[np.ndarray]) -> list[float]:
    """What the error of each result is relative to: its norm, or, of one that is zero but for rounding, as that in a
    bias before batch norm is, a part of the largest one's."""
    norms = [float(np.linalg.norm(t)) for t in targets]
    largest = max(norms, default=0.0)
    sizes = [n if n > CANCELLED * largest else CANCELLED_SIZE * largest for n in norms]
    return [max(n, float(np.finfo(float).tiny)) for n in sizes]


def of_loss(
    loss: Any,
    manual: Any,
    values: Sequence[Any],
    count: int,
    cotangents: Sequence[Any],
    deadline: float,
    moving: Sequence[int] | None = None,
    tangents: Sequence[int] = (),
    cut: Mapping[int, int] | None = None,
) -> Problem | None:
    """The problem of a backward pass against the truth that follows from the loss; None where no result is wrong, or
    the loss itself has nothing to say at one of the points.

    Args:
        loss, manual: closed jaxprs of the same inputs; the results of `manual` are, but for axes of length 1, the
            gradients in the first `count` inputs of the loss's outputs times `cotangents`. Where `manual` takes more
            inputs than the loss, those are the cotangents.
        values: of the inputs.
        deadline: of the search, by `time.perf_counter`.
        moving: the inputs that are others at the second point; default the first `count`.
        tangents: the inputs that are tangents, where `loss` is a forward derivative.
        cut: axes of the caller's programs, and to what each is cut in these.

    Raises:
        Unflattened: see `record`.
        Whatever an equation raises.
    """
    # A loss may be taken from a function that gives the gradients as well: what those are made of is no truth.
    ahead = without_hosts(record(loss, values).pruned())
    back = as_called(with_handed(record(manual, [*values, *cotangents][: len(manual.in_avals)])), ahead)
    moving = range(count) if moving is None else moving
    other = [second_point(x, k) if k in moving else x for k, x in enumerate(back.values[i] for i in back.inputs)]
    seeds = dict(zip(ahead.outputs, map(kernels.wide, cotangents), strict=True))
    further = Further(back, ahead, seeds, moving, range(count))
    with np.errstate(all="ignore"):
        runs, losses = (list(both) for both in zip((back.values, ahead.values), further.runs(other), strict=True))
        known = [ahead.back(v, seeds) for v in losses]
    targets = [
        [as_result(total.get(i), run[o]) for i, o in zip(ahead.inputs[:count], back.outputs, strict=True)]
        for run, (total, _) in zip(runs, known, strict=True)
    ]
    if not all(np.isfinite(t).all() for row in targets for t in row):
        return None
    numbers = [t.values[i] for t in (ahead, back) for i in t.literals]
    literals = [float(x) for x in numbers if x.dtype.kind in "fi"]
    sizes = {n for t in (ahead, back) for x in t.values for n in (*np.shape(x), np.size(x))}
    told = truths(ahead, losses, known, [ahead.inputs[k] for k in tangents])
    problem = Problem(back, runs, targets, told, Constants(sizes, literals, cut), deadline, (ahead, losses, seeds))
    problem.further = further
    wrong = [problem.error(run, point) > ASTRAY for point, run in enumerate(runs)]
    astray = [problem.error(run, point) > REPAIRED for point, run in enumerate(runs)]
    if not all(w.any() for w in wrong) or any((a & ~w).any() for a, w in zip(astray, wrong, strict=True)):
        return None
    return problem
