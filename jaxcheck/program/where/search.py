"""The search: which small change of a backward pass makes all of its results right, at two points."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxcheck.program.where import edits as e
from jaxcheck.program.where import source, spreading
from jaxcheck.program.where.beyond import nameable
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.handed import is_argument, only_hands_on
from jaxcheck.program.where.loops import turned
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.projections import Projections, downstream
from jaxcheck.program.where.queued import Kin, Queue
from jaxcheck.program.where.reductions import reductions
from jaxcheck.program.where.shifts import shifts
from jaxcheck.program.where.sites import Group, Site
from jaxcheck.program.where.terms import Terms
from jaxcheck.program.where.weigh import is_cotangent, was_right, weighed

_TERMS = ("own", "forward", "local")
# How a value is brought in, and with which factor; and the factors alone, where there is no constant to solve for.
_FORMS, _SCALES = (("swap", 1.0), ("times", 1.0), ("over", 1.0), ("plus", 1.0), ("plus", -1.0)), (-1.0, 2.0, 0.5)


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """A change that makes all results right at every point, and what speaks for it (`weigh.weighed`)."""

    edit: Edit
    fields: dict[str, Any]
    price: float


class Search:
    """The changes that repair one problem.

    Args:
        price: what a change costs, of the fields that `weigh.weighed` gives: the cheaper, the likelier.
        margin: what costs that much more than the cheapest change found is not looked for.
        dearest: nor what costs more than this.
        least_right: what a change of a value that was right costs at least.
        only_value: whether a change only says what a value should be, not how it comes about.
    """

    def __init__(
        self,
        problem: Problem,
        price: Callable[[dict[str, Any]], float],
        margin: float,
        dearest: float,
        least_right: float,
        only_value: Callable[[dict[str, Any]], bool],
    ):
        self.p = problem
        self.price, self.margin, self.dearest, self.least_right = price, margin, dearest, least_right
        self.only_value = only_value
        self.found: list[Found] = []
        self._cheapest = np.inf
        self.queue = Queue(problem, price, margin, dearest, only_value, self._best, self._done, self._take)
        self.projections = Projections(problem)
        self.sources = problem.sources

    def go(self) -> list[Found]:
        """All that repairs; nothing where the time ran out, for a likelier change may not have been seen."""
        those = nameable(self.p, [s for s in self.p.sites if self._matters(s)])
        right = [s for s in those if was_right(self.p, s) and not self._handed(s)]
        # What gives a value that the loss knows is seldom to blame; a cotangent may lack the next link of its chain.
        self.queue.add(iter(turned(self.p.scans)))
        self._look(s for s in those if s not in right or is_cotangent(self.p, s))
        if self._best() + self.margin >= self.least_right:
            self._look(s for s in right if not is_cotangent(self.p, s))
        if all(f.price > self.dearest or self.only_value(f.fields) for f in self.found):
            forgotten = Terms(self)
            for site in those:
                if not self.p.late() and self.projections.affine(site):
                    for edit in (*forgotten.products(site), *forgotten.sums(site, self._depending(site))):
                        self._take(edit)
        return [] if self.p.late() else self.found

    def _handed(self, site: Site) -> bool:
        """Whether a site only gives on what is right: something else may have been meant."""
        return is_argument(self.p.tape.ops[site.ops[0]]) or source.handed_on(site.place, site.name)

    def _best(self) -> float:
        return self._cheapest

    def _done(self) -> set[Any]:
        return {f.fields["same"][1:] for f in self.found if f.fields["same"] is not None}

    def _look(self, those: Iterable[Site]) -> None:
        for site in those:
            if self.p.late():
                return
            if is_argument(self.p.tape.ops[site.ops[0]]):
                self._given_another(site)
            elif self.projections.affine(site):
                self._screened(site)
            elif not self._right_forward(site):
                self._all(site)
            elif not self.found:
                self.queue.add(self._next_link(site))
        self.queue.run()

    def _matters(self, site: Site) -> bool:
        """Whether what it gives reaches the results, or decides about them."""
        outs = [self.p.tape.ops[k].outs[0] for k in site.ops]
        return any(self.p.runs[0][o].dtype.kind in "bi" or self.projections.reach(o) for o in outs)

    def _next_link(self, site: Site) -> Iterator[Edit]:
        """Of what computes a value of the loss, the changes that make another of it: the next link of the chain."""
        for edit in e.unary(self.p.tape, site, OUT, self.olds(site, OUT)[0], self.p.tape.ops[site.ops[0]]):
            if (new := self.p.first(edit)) is not None and new in self.p.forward:
                yield edit

    def _right_forward(self, site: Site) -> bool:
        """Whether it computes a value of the loss: in such a place there is seldom a mistake."""
        return all(self.p.runs[0][self.p.tape.ops[k].outs[0]] in self.p.forward for k in site.ops)

    # What is tried.

    def _alone(self, site: Site) -> Iterator[Edit]:
        """The changes that bring no other value in."""
        tape, op = self.p.tape, self.p.tape.ops[site.ops[0]]
        yield from e.structural(tape, site)
        yield from (*reductions(tape, site, self.p.users), *shifts(tape, site))
        for slot in self.slots(site):
            i = op.outs[0] if slot == OUT else op.ins[slot]
            value = tape.values[i]
            if slot != OUT and i in tape.literals and not value.ndim and value.dtype.kind != "c":
                for c in self.p.constants.other_literals(float(value)):
                    yield Edit(site, slot, "scale", factor=c)
            else:
                yield from e.unary(tape, site, slot, value, op)

    def _all(self, site: Site) -> None:
        """Every change of a site whose changes have to be run."""
        self.queue.add(self._alone(site))
        op = self.p.tape.ops[site.ops[0]]
        for slot in self.slots(site):
            if slot == OUT or op.ins[slot] not in self.p.tape.literals:
                if self._is_float(site, slot):
                    self.queue.add(Edit(site, slot, "scale", factor=c) for c in _SCALES)
                self._brought(site, slot, self.sources)

    def _brought(self, site: Site, slot: int, groups: Sequence[Group]) -> None:
        """Other values brought in, without a constant to solve for, as kin."""
        floats = self._is_float(site, slot)
        for what in dict.fromkeys(g.what for g in groups):
            those = [g for g in groups if g.what == what]
            many = floats and (what in _TERMS or what == "use")
            for form, c in _FORMS if many else _FORMS[:1]:
                made = functools.partial(self._formed, site, slot, form, c, those)
                self.queue.add_kin(Kin(Edit(site, slot, form, tuple(those[:1]), c), made))

    def _formed(self, site: Site, slot: int, form: str, factor: float, groups: Sequence[Group]) -> Iterator[Edit]:
        olds = self.olds(site, slot)
        for group in groups:
            for backwards in (False, True) if len(site.ops) > 1 else (False,):
                if self.given(group, site, olds, backwards) is not None:
                    yield Edit(site, slot, form, (group,), factor, backwards=backwards)

    # Where the results are affine.

    def _screened(self, site: Site) -> None:
        for edit in self._alone(site):
            if self.p.late():
                return
            if self.projections.fits(edit):
                self._take(edit)
        later = self._depending(site)
        self.queue.add(spreading.factors(self.p, site, self.sources))
        for slot in self.slots(site):
            self._brought(site, slot, later)
            weights = self.projections.slot(site, slot)
            if weights is not None:
                self._weighed(site, slot, weights, later)
            elif slot != OUT and self.p.tape.ops[site.ops[0]].ins[slot] not in self.p.tape.literals:
                those = [Edit(site, slot, "scale", factor=c) for c in _SCALES] if self._is_float(site, slot) else []
                for edit in (*those, *self._formed(site, slot, "swap", 1.0, self.sources)):
                    if self.p.late():
                        return
                    if self.projections.fits(edit):
                        self._take(edit)

    def _given_another(self, site: Site) -> None:
        """Another value for an argument of a call; the negative of one that is no value of the loss."""
        olds = self.olds(site, OUT)
        those = [Edit(site, OUT, "scale", factor=-1.0)] if not self._right_forward(site) else []
        those += [
            Edit(site, OUT, "swap", (group,), backwards=backwards)
            for group in self.sources
            for backwards in (False, True)
            if group.what == "own" and self.p.runs[0][group.ids[-backwards]].shape == olds[0].shape
            if self.given(group, site, olds, backwards) is not None
        ]
        if self.projections.affine(site):
            for edit in filter(self.projections.fits, those):
                self._take(edit)
        else:
            self.queue.add(iter(those))

    def _weighed(self, site: Site, slot: int, weights: Any, later: Any) -> None:
        """Changes of what is in a slot on which the projections depend linearly."""
        olds = self.olds(site, slot)
        now = _along(weights, (x.ravel() for x in olds))
        self._solve(Edit(site, slot, "scale"), now, self.projections.required + now)
        for group in self.sources:
            if self.p.late():
                return
            if group not in later:
                self._with(site, slot, group, weights, olds)

    def slots(self, site: Site) -> range:
        op = self.p.tape.ops[site.ops[0]]
        return range(OUT, 0 if only_hands_on(op) else len(op.ins))

    def olds(self, site: Site, slot: int) -> list[np.ndarray]:
        ops = [self.p.tape.ops[k] for k in site.ops]
        return [self.p.runs[0][op.outs[0] if slot == OUT else op.ins[slot]] for op in ops]

    def _is_float(self, site: Site, slot: int) -> bool:
        return self.olds(site, slot)[0].dtype.kind in "fc"

    def _depending(self, site: Site) -> list[Group]:
        """The values that one instance may take from what another gave: what they will be is found by running."""
        if len(site.ops) == 1:
            return []
        reached, _ = downstream(self.p, site, site.ops[-1])
        return [g for g in self.sources if g.what == "own" and not reached.isdisjoint(g.ids)]

    def _with(self, site: Site, slot: int, group: Group, weights: list[np.ndarray], olds: list[np.ndarray]) -> None:
        required = self.projections.required
        flat = [x.ravel() for x in olds]
        now = _along(weights, flat)
        for backwards in (False, True) if len(site.ops) > 1 else (False,):
            given = self.given(group, site, olds, backwards)
            if given is None or all(np.array_equal(x, y) for x, y in zip(flat, given, strict=True)):
                continue
            straight = _along(weights, given)
            made: dict[str, Any] = dict(groups=(group,), backwards=backwards)
            self._solve(Edit(site, slot, "swap", **made), straight, required + now)
            if group.what in _TERMS or any(x.any() for x in flat):  # plus nothing it is that value itself
                self._solve(Edit(site, slot, "plus", **made), straight, required)
            if group.what in _TERMS:
                with np.errstate(all="ignore"):
                    times = _along(weights, (x * y for x, y in zip(flat, given, strict=True)))
                    over = _along(weights, (x / y for x, y in zip(flat, given, strict=True)))
                self._solve(Edit(site, slot, "times", **made), times, required + now)
                self._solve(Edit(site, slot, "over", **made), over, required + now)
            shape = olds[0].shape
            if len(shape) == 2 and shape[0] == shape[1] and len(olds) == 1:
                turned = _along(weights, [given[0].reshape(shape).T.ravel()])
                self._solve(Edit(site, slot, "turned", **made), turned, required + now)

    def given(self, group: Group, site: Site, olds: list[np.ndarray], backwards: bool) -> list[np.ndarray] | None:
        """A source's values per instance, flat and in the shape of what is changed; None where that cannot be."""
        count, length = len(site.ops), len(group.ids) or len(group.arrays[0])
        if length not in (1, count) or (backwards and length == 1):
            return None
        given = []
        for n, (k, old) in enumerate(zip(site.ops, olds, strict=True)):
            j = (count - 1 - n if backwards else n) if length == count else 0
            if group.what == "own" and group.made[j] >= k:
                return None
            x = self.p.runs[0][group.ids[j]] if group.what == "own" else group.arrays[0][j]
            fits = x.dtype == old.dtype or (x.dtype.kind in "fb" and old.dtype.kind in "fc")
            if not fits or x.size > old.size or (x := e.fitted(x, old.shape)) is None:
                return None
            given.append(np.asarray(x, np.result_type(x, float)).ravel())
        return given

    def _solve(self, edit: Edit, moved: Any, wanted: np.ndarray) -> None:
        """Take a change with the constant that fits the projections, if there is one and it is a nice one."""
        c = self.projections.solve(moved, wanted)
        nice = None if c is None else self.p.constants.nice(c)
        if nice is not None:
            self._take(dataclasses.replace(edit, factor=nice))

    def _take(self, edit: Edit) -> None:
        if self.p.repairs(edit):
            fields = weighed(self.p, edit)
            self.found.append(found := Found(edit, fields, self.price(fields)))
            if not self.only_value(fields):
                self._cheapest = min(self._cheapest, found.price)


def _along(weights: Iterable[np.ndarray], values: Iterable[np.ndarray]) -> Any:
    """What values with these weights come to, together, in each projection."""
    return np.real(sum(w @ x for w, x in zip(weights, values, strict=True)))
