"""Which line is to blame, from the changes that repair a gradient; nobody, when in doubt.

A change that makes every leaf right at two points proves that it is right, not that its line is the wrong one: a
factor that is missing on one line can be made up for on the next. So changes are weighed by how likely a person is to
have meant what they make of the program, and a line is named only where no other comes near it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from jaxcheck.bars import NEAR_LINE, NEAR_LINES, TOO_DEAR


@dataclasses.dataclass(frozen=True)
class Weighed:
    """A change that repairs, as it is weighed.

    Attributes:
        where: what names the line.
        kind: of change, a key of `COST`.
        source: "own" for a value of the backward pass itself, else what it is in the loss, "" for none.
        constant: how plain the constant in it is, 0 for 1 (see `Constants.plainness`).
        was, becomes: whether the value on the line is one of the loss's, before and after.
        inputs, entering: whether all that goes into the operation is, and all that comes into the line.
        passed_on: whether the value changed is an operand that another line makes for this one alone, and that is
            not known to be right.
        spare: whether it uses what is computed and was never used.
        between: whether what was right is a cotangent, and becomes another: then a link of the chain is missing, and
            that may be on this line as well as on the next.
        foreign: whether a value is brought in that the function around the line is not given.
        alike: whether a term that is brought in sums over the same axes as one that stands beside it.
        unproved: whether it is one of what the program decides by, and does not stand at further points.
        renamed: whether the line reads a name that another line only gave another's value.
        handed_in: whether an operand is replaced, by what has no name there, of an operation for which alone a loop is
            handed an array: that may as well be the wrong one.
        same: what is done to which value: on the line that makes it, hands it on, or makes use of it.
        makes: whether it is done on the line that makes it. `returns`: on one that only gives it back.
    """

    where: tuple[str, int]
    kind: str
    source: str = ""
    constant: int = 0
    was: bool = False
    becomes: bool = False
    inputs: bool = False
    entering: bool = False
    passed_on: bool = False
    spare: bool = False
    between: bool = False
    foreign: bool = False
    alike: bool = False
    unproved: bool = False
    renamed: bool = False
    handed_in: bool = False
    same: Any = None
    makes: bool = False
    returns: bool = False


# How much a change asks of whoever made the mistake: small for a slip of the pen.
COST = {
    "transpose": 0.5, "conjugate": 0.5, "adjoint": 0.6, "times i": 0.9, "over i": 0.9,
    "instead": 0.7, "exchange": 0.7, "power": 0.6, "axes": 0.7, "sum over": 0.7, "not": 0.7,
    "drop": 0.9, "literal": 0.6, "sign": 0.7, "scale": 1.0, "swap": 0.8, "swap result": 1.3, "turned": 1.2,
    "times": 1.0, "over": 1.0,
    "plus": 1.2, "square": 0.8, "one minus": 0.9, "unary": 1.1, "moved": 1.3, "plus product": 1.8, "product": 1.8,
    "plus sum": 1.4, "plus sum of product": 1.8, "reverse": 0.9, "shift": 0.8,
}  # fmt: skip
SOURCE = {"": 0.0, "own": 0.0, "forward": 0.5, "local": 0.5, "use": 0.9, "cotangent": 0.9}
# Of a constant, the plainest first; and of one that comes with another value.
CONSTANT = {0: 0.0, 1: 0.1, 2: 0.3, 3: 0.5, 4: 0.4}
CONSTANT_BESIDE = {0: 0.0, 1: 0.2, 2: 0.6, 3: 1.0, 4: 0.8}
# What is known of the line besides.
SPEAKS = {
    "was": 2.0,
    "between": -1.2,
    "becomes": -0.4,
    "inputs": -0.2,
    "entering": -0.3,
    "first": -0.3,
    "passed_on": 0.5,
    "spare": -0.3,
    "foreign": 1.0,
    "alike": -0.6,
    "unproved": 0.5,
}
# What a change costs at least where the value was right.
_SELDOM = ("first", "passed_on", "between", "foreign", "alike", "unproved")
LEAST_RIGHT = min(COST.values()) + sum(x for name, x in SPEAKS.items() if name not in _SELDOM)
VALUE = ("use", "cotangent")


def is_value(change: Weighed) -> bool:
    """Whether a change only says what the value should be, not how it comes about."""
    return change.source in VALUE and change.kind in ("swap", "swap result", "turned")


def cost(change: Weighed) -> float:
    """How unlikely it is that this was the mistake."""
    total = COST[change.kind] + SOURCE[change.source]
    total += (CONSTANT_BESIDE if change.source else CONSTANT)[change.constant]
    # A factor is as well put on the next line, unless the value in between is known.
    placed = change.becomes or change.kind not in ("sign", "scale", "times", "over", "conjugate")
    said = dict(
        was=change.was,
        becomes=change.becomes,
        inputs=placed and change.inputs,
        entering=placed and change.entering,
        passed_on=change.passed_on,
        spare=change.spare,
        foreign=change.foreign,
        alike=change.alike,
        between=change.was and change.between,
        unproved=change.unproved,
        # All that comes into the line is right, what it gives is not, and then is: further on it could be made up for.
        first=change.becomes and change.entering and not change.was,
    )
    return total + sum(SPEAKS[name] for name, holds in said.items() if holds)


@dataclasses.dataclass(frozen=True)
class Blame:
    """The changes to be told, one per line, the likeliest first. `kind` is "line", "one of", or "value"."""

    kind: str
    changes: tuple[int, ...]


def blame(changes: Sequence[Weighed]) -> Blame | None:
    """Whom to blame, by position in `changes`; None for nobody."""
    told = [i for i, c in enumerate(changes) if not is_value(c)]
    best: dict[tuple[str, int], int] = {}
    for i in sorted(told, key=lambda i: cost(changes[i])):
        best.setdefault(changes[i].where, i)
    ranked = list(best.values())
    costs = [cost(changes[i]) for i in ranked]
    if not costs or costs[0] > TOO_DEAR:
        return _value(changes)
    if changes[ranked[0]].handed_in:
        return None
    # A line is innocent of what is handed to its loop, where another line is as likely.
    near = [i for i, c in zip(ranked, costs, strict=True) if c < costs[0] + NEAR_LINE and not changes[i].handed_in]
    made = {changes[i].same for i in near if changes[i].makes}
    # A gradient is conjugated where it is given back, as often as not.
    near = [i for i in near if not (changes[i].returns and changes[i].same in made) or changes[i].kind == "conjugate"]
    near += _likewise(changes, told, near, costs[0])[: max(NEAR_LINES - len(near), 0)]
    near += _in_its_place(changes, told, near, costs[0])[: max(NEAR_LINES - len(near), 0)]
    if len(near) == 1:
        return Blame("line", (near[0],))
    near += _along(changes, told, near, costs[0])[: max(NEAR_LINES - len(near), 0)]
    return Blame("one of", tuple(near)) if len(near) <= NEAR_LINES else None


def _likewise(changes: Sequence[Weighed], told: Sequence[int], near: Sequence[int], least: float) -> list[int]:
    """Changes that do the same to the same value on the line that makes it, the cheapest of each line."""
    lines = {changes[i].where for i in near}
    done = {changes[i].same for i in told if changes[i].where in lines and cost(changes[i]) < least + NEAR_LINE}
    return _further(changes, (i for i in told if changes[i].makes and changes[i].same in done), lines, least)


def _in_its_place(changes: Sequence[Weighed], told: Sequence[int], near: Sequence[int], least: float) -> list[int]:
    """Changes that put the value in the place of another one which is brought in beside what stands on a line that is
    named: the one that is mistaken for it may be all that is wrong, and is made up for where it is not."""
    brought = {_brings(changes[i]) for i in near if changes[i].kind in ("times", "plus")} - {()}
    those = (i for i in told if changes[i].kind == "swap" and _brings(changes[i]) in brought)
    return _further(changes, those, {changes[i].where for i in near}, least)


def _brings(change: Weighed) -> tuple[Any, ...]:
    return () if change.same is None else change.same[4]


def _along(changes: Sequence[Weighed], told: Sequence[int], near: Sequence[int], least: float) -> list[int]:
    """Of lines of which no single one is to blame, the others where the same is done to another value: what a chain of
    values lacks may be missing at each of its links."""
    done = {changes[i].same[1:] for i in near if changes[i].same is not None}
    those = (i for i in told if changes[i].same is not None and changes[i].same[1:] in done)
    return _further(changes, those, {changes[i].where for i in near}, least)


def _further(
    changes: Sequence[Weighed], those: Iterable[int], lines: Collection[tuple[str, int]], least: float
) -> list[int]:
    """Of changes the cheapest of each line that is not among `lines`, where it is not much dearer than the least."""
    found: dict[tuple[str, int], int] = {}
    for i in sorted(those, key=lambda i: cost(changes[i])):
        c = changes[i]
        if not c.foreign and c.same is not None and c.where not in lines and cost(c) < least + 2 * NEAR_LINE:
            found.setdefault(c.where, i)
    return list(found.values())


def _value(changes: Sequence[Weighed]) -> Blame | None:
    """Only values are known that would repair: the line where one belongs, if what goes into it is right, and no value
    that would repair belongs on another such line, be it right as something else."""
    here = [i for i, c in enumerate(changes) if c.kind == "swap result" and c.becomes and not c.constant]
    sure = [i for i in here if changes[i].entering]
    lines = {changes[i].where for i in sure}
    if len(lines) != 1 or changes[sure[0]].was or changes[sure[0]].renamed:
        return None
    return Blame("value", (sure[0],))


def only_value(fields: dict[str, Any]) -> bool:
    """`is_value` of a change given by the fields of a `Weighed`."""
    return is_value(Weighed(**fields))


def price(fields: dict[str, Any]) -> float:
    """The cost of a change given by the fields of a `Weighed`."""
    return cost(Weighed(**fields))
