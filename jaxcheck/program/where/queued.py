"""What has to be run to be known, the likeliest first: what is unlikely is never made."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxcheck.program.where import source
from jaxcheck.program.where.cones import Cones
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.weigh import at_best, becomes, in_place, same_of

# In place of what `becomes` says of a change: that what it costs if it repairs is known.
_EXACT = -1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Kin:
    """Changes that differ in the value alone that they bring in. `first` is one of them, `all` makes them all."""

    first: Edit
    all: Callable[[], Iterator[Edit]]


class Queue:
    """Changes, and kin of which each costs at least so much.

    Args:
        price, margin, dearest, only_value: as of `search.Search`.
        best: what the likeliest change that was found costs.
        done: what the changes that were found do, as `weigh.same_of` says it, to whatever value.
        take: what is done with a change that one result does not refute.
    """

    def __init__(
        self,
        problem: Problem,
        price: Callable[[dict[str, Any]], float],
        margin: float,
        dearest: float,
        only_value: Callable[[dict[str, Any]], bool],
        best: Callable[[], float],
        done: Callable[[], set[Any]],
        take: Callable[[Edit], None],
    ):
        self.p, self.price, self.margin, self.dearest, self.only_value = problem, price, margin, dearest, only_value
        self.best, self.done, self.take = best, done, take
        self.cones = Cones(problem)
        self._items: list[tuple[float, int, float | None, Edit | Kin]] = []
        self._count = 0

    def add(self, edits: Iterable[Edit]) -> None:
        for edit in edits:
            if self.p.late():
                return
            self._put(self._priced(edit, at_best(self.p, edit)), None, edit)

    def add_kin(self, kin: Kin) -> None:
        self._put(self._least(kin.first, True), None, kin)

    def run(self) -> None:
        """Run what is likely enough. To know what a change costs takes what one operation makes, and a run all that
        follows: so nothing is run before it is the likeliest, and known to be."""
        while self._items and not self.p.late():
            price, n, known, item = heapq.heappop(self._items)
            if price > min(self.best(), self.dearest) + self.margin:
                heapq.heappush(self._items, (price, n, known, item))
                break
            if isinstance(item, Kin):
                self._open(item)
            elif known == _EXACT or not self._put_back(price, known, item):
                self._run(item)
        self._run_links()
        self._items.clear()

    def _run(self, edit: Edit) -> None:
        if not self.cones.refutes(edit):
            self.take(edit)

    def _run_links(self) -> None:
        """Of what costs too much to be likely, what does the same as one that is: that may be missing as well on each
        link of a chain."""
        done = self.done()
        forms = {"drop" if form == "transpose" else form for form, *_ in done}
        for *_, item in self._items:
            if self.p.late() or isinstance(item, Kin) or item.form not in forms:
                continue
            same = same_of(self.p, item)
            if same is not None and same[1:] in done:
                self._run(item)

    def _open(self, kin: Kin) -> None:
        """A change that makes no value of the loss costs more, and to see that is quick."""
        least = self._least(kin.first, True), self._least(kin.first, False)
        for edit in kin.all():
            if self.p.late():
                return
            unit = becomes(self.p, edit)
            self._put(least[0 if unit else 1], unit, edit)

    def _put(self, price: float, known: float | None, item: Edit | Kin) -> None:
        if price <= self.dearest or known == _EXACT:
            self._count += 1
            heapq.heappush(self._items, (price, self._count, known, item))

    def _put_back(self, price: float, unit: float | None, edit: Edit) -> bool:
        """Whether a change has to wait for its turn, now that its price is known. A value that belongs on a line counts
        where nothing else is found, whatever it costs."""
        fields = in_place(self.p, edit, unit)
        exact = self._priced(edit, fields)
        if exact <= price or (self.best() > self.dearest and self.only_value(fields)):
            return False
        self._put(exact, _EXACT, edit)
        return True

    def _priced(self, edit: Edit, fields: dict[str, Any]) -> float:
        key = "handed on", edit.site.place, edit.site.name
        if key not in self.p.answers:
            self.p.answers[key] = source.handed_on(edit.site.place, edit.site.name)
        # What is right may be handed on by a line that should have done more with it.
        return self.price(fields | dict(was=False) if fields["was"] and self.p.answers[key] else fields)

    def _least(self, edit: Edit, known: bool) -> float:
        """What any of a change's kin costs at least that makes a value of the loss, or that makes none."""
        fields = at_best(self.p, edit)
        own = fields["source"] == "own"
        fields |= dict(constant=0, spare=own, foreign=False, passed_on=False)
        fields |= {} if known else dict(becomes=False, between=False)
        kinds = [fields["kind"]]
        if edit.form == "plus" or (own and edit.form == "swap" and edit.slot == OUT):  # it may leave something out
            kinds += ["drop", "transpose"] if edit.site.name == "transpose" else ["drop"]
        return min(self._priced(edit, fields | dict(kind=kind)) for kind in kinds)
