"""How numbers are written: short, never rounded to something they are not, unknown as `-`."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterable, Iterator

from jaxcheck.result import LeafResult, Reason, Report, Verdict

UNKNOWN = "-"
WORST_FIRST = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
# The plus-minus sign, as the reader's terminal can show it.
_SIGN: contextvars.ContextVar[str] = contextvars.ContextVar("sign", default="±")

# The textbook's reading of formula (2): above this, a mistake.
MISTAKE = 1e-3
# From the strictest band down.
_BANDS = (
    (1e-7, "below 1e-7: great, most likely right"),
    (1e-5, "between 1e-7 and 1e-5: fine, but look at the components"),
    (MISTAKE, "between 1e-5 and 1e-3: look closely at the components"),
)


def small(value: float) -> str:
    """A relative size: `3.2e-11`, `0.285` where it is large, `0`, `inf`, `-` for NaN."""
    if math.isnan(value):
        return UNKNOWN
    return f"{value:.3g}" if value == 0 or 0.01 <= value < 1000 else f"{value:.1e}"


def size(value: float) -> str:
    """A norm, three digits. NaN is shown: a norm that is NaN is news."""
    return f"{value:.3g}"


def value(number: complex, digits: int = 7) -> str:
    """A value in a component table."""
    if isinstance(number, complex):
        return f"{number.real:.{digits}g}{number.imag:+.{digits}g}j"
    return f"{number:.{digits}g}"


def with_bar(text: str, bar: float) -> str:
    """A number and its error bar: `?` where that is unknown, for a number without one would look exact."""
    if text in (UNKNOWN, "nan"):
        return text
    return f"{text} {_SIGN.get()}{'?' if math.isnan(bar) else small(bar)}"


@contextlib.contextmanager
def plain_signs(wanted: bool) -> Iterator[None]:
    """`+-` for the plus-minus sign within this context, if wanted."""
    token = _SIGN.set("+-" if wanted else "±")
    try:
        yield
    finally:
        _SIGN.reset(token)


def verdict(one: Report | LeafResult) -> str:
    """`FAIL MANUAL_WRONG`; of plain agreement the verdict alone."""
    return one.verdict.value if one.reason is Reason.AGREE else f"{one.verdict.value} {one.reason.name}"


def tally(found: Iterable[Report | LeafResult]) -> list[tuple[Verdict, int]]:
    """How many there are of each verdict that there is, the worst first."""
    verdicts = [one.verdict for one in found]
    return [(verdict, verdicts.count(verdict)) for verdict in WORST_FIRST if verdict in verdicts]


def shape(dimensions: tuple[int, ...]) -> str:
    return "x".join(map(str, dimensions)) if dimensions else "scalar"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def leaves(number: int) -> str:
    return "1 leaf" if number == 1 else f"{number:,} leaves"


def names(paths: Iterable[str], most: int = 8) -> str:
    """Paths in backquotes, the first few."""
    listed = [f"`{path}`" for path in paths]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def band(difference: float) -> str:
    """What the textbook says of this difference, or "" when it is unknown."""
    if math.isnan(difference):
        return ""
    for limit, words in _BANDS:
        if difference < limit:
            return words
    return "above 1e-3: a mistake"


def known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def silent(report: Report) -> bool:
    """Whether autodiff was no witness: what stands for its numbers is unknown, and no NaN of its own."""
    return any(witness.name == "autodiff" and witness.how == "absent" for witness in report.witnesses)


def troubled(report: Report) -> list[LeafResult]:
    """Leaves that did not pass, FAIL before INCONCLUSIVE, else in theta order."""
    leaves = [leaf for leaf in report.leaves if leaf.verdict is not Verdict.PASS]
    return sorted(leaves, key=lambda leaf: leaf.verdict is not Verdict.FAIL)
