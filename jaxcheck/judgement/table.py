"""The verdicts as a table that can be read: the first row whose facts are so has the say.

A row names the facts that must hold, and after "not" those that must not; what it does not name may be either. "on a
kink" says what a PASS is called where something lies on a kink; "outvoted" that the differences stood alone against it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from jaxcheck.judgement.facts import Facts
from jaxcheck.result import Reason, Verdict

QUANTISED = "the function is quantised at the smallest steps; larger ones agree"
FILLED = (
    "on both sides of this point the function has one and the same slope, and the gradient another: that which its "
    "decisions (max, abs, where) give at the point alone. Move the point off them to test it on smooth ground"
)
PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: the facts asked for, the verdict and its reason, a note for the report, and why it is so."""

    facts: str
    verdict: Verdict
    reason: Reason
    why: str
    note: str = ""
    on_a_kink: Reason | None = None
    doubtful: bool = False
    outvoted: bool = False

    def holds(self, facts: Facts) -> bool:
        wanted, unwanted = self._named
        return all(getattr(facts, name) for name in wanted) and not any(getattr(facts, name) for name in unwanted)

    @functools.cached_property
    def _named(self) -> tuple[list[str], list[str]]:
        wanted, _, unwanted = self.facts.partition("not ")
        return wanted.split(), unwanted.split()

    def name(self, facts: Facts) -> Reason:
        return self.on_a_kink if self.on_a_kink is not None and facts.kinked else self.reason


KINK = Reason.KINK
TABLE: tuple[Row, ...] = (
    # What needs no difference.
    Row(
        "contrast not finite",
        FAIL,
        Reason.NONFINITE,
        "the function has slopes there, and M is none",
        "the gradient under test is not finite",
    ),
    Row(
        "not finite",
        OPEN,
        Reason.NONFINITE,
        "nor do the differences know a number",
        "the gradient under test is not finite",
    ),
    Row("surrogate", PASS, Reason.SURROGATE, "the caller says that it is another gradient on purpose"),
    Row("empty", PASS, Reason.AGREE, "of nothing, nothing is wrong", "empty leaf"),
    # No difference may judge, and no kink explains why.
    Row("jumps not usable kinked", OPEN, Reason.JUMP, "at a jump there is no slope"),
    Row("seen not usable kinked", OPEN, Reason.NOISE, "they look at another scale than the claim does"),
    Row("not usable kinked", OPEN, Reason.DOMAIN, "there is nothing on either side"),
    Row("granted", PASS, Reason.AGREE, "within what the caller grants", on_a_kink=KINK),
    # Noise explains what contradicts M, and nothing finer is known.
    Row(
        "m_off noise small not autodiff",
        PASS,
        Reason.NOISE,
        "noise explains the rest",
        "agrees as far as the function's own noise allows",
    ),
    Row("m_off noise not autodiff", OPEN, Reason.NOISE, "noise hides as much as must be caught"),
    # Without autodiff the differences alone judge M.
    Row("m_off quantised not autodiff", PASS, Reason.NOISE, "steps of the values deceive the smallest ones", QUANTISED),
    Row("m_off own not autodiff", FAIL, Reason.NUMERIC_SUSPECT, "JAX's own derivative against the differences"),
    Row("m_off not autodiff", FAIL, Reason.MANUAL_WRONG, "the differences contradict M, which nothing supports"),
    Row(
        "filled not autodiff",
        OPEN,
        Reason.NUMERIC_SUSPECT,
        "the function is smooth there, and its derivative is not M",
        FILLED,
    ),
    Row("jumps not autodiff", OPEN, Reason.JUMP, "some slope is unknown, and nobody else knows it"),
    Row(
        "broken not autodiff",
        PASS,
        Reason.AUTODIFF_DIFFERS,
        "N and M agree; A is no number",
        "autodiff gives NaN or inf here",
        on_a_kink=KINK,
    ),
    Row("not autodiff", PASS, Reason.AGREE, "N and M agree", on_a_kink=KINK),
    # M and A agree: a difference must be far off to outweigh the two.
    Row("m_off quantised not apart", PASS, Reason.NOISE, "steps of the values deceive the smallest ones", QUANTISED),
    Row(
        "m_off kinks_alone not apart",
        PASS,
        KINK,
        "of convex and concave kinks at once, the one-sided slopes of the sum do not bracket its parts",
        doubtful=True,
    ),
    Row(
        "m_off own not apart noise",
        FAIL,
        Reason.NUMERIC_SUSPECT,
        "JAX's own derivative, once more in the other mode, vouches for nothing",
    ),
    Row(
        "m_off gross not apart noise a_off",
        FAIL,
        Reason.MANUAL_WRONG,
        "M differs from A on kinks alone, or by no more than its rounding, but the differences speak against M alone",
    ),
    Row(
        "m_off gross not apart noise", FAIL, Reason.NUMERIC_SUSPECT, "N against both: a hidden derivative, or N is off"
    ),
    Row(
        "filled not apart",
        OPEN,
        Reason.NUMERIC_SUSPECT,
        "the function is smooth there, and its derivative is neither M nor A",
        FILLED,
    ),
    Row(
        "m_off not apart",
        PASS,
        Reason.AGREE,
        "two witnesses against a bar that may be off a little",
        "autodiff agrees; a difference is off by more than its bar, though not grossly",
        doubtful=True,
        outvoted=True,
    ),
    Row("jumps not apart", OPEN, Reason.JUMP, "at a jump the formula's derivative is not the function's"),
    Row("not apart", PASS, Reason.AGREE, "all witnesses agree", on_a_kink=KINK),
    # M and A differ: who is right?
    Row(
        "m_off noise small not measured",
        PASS,
        Reason.NOISE,
        "noise explains the rest",
        "agrees as far as the function's own noise allows",
    ),
    Row("m_off noise not measured", OPEN, Reason.NOISE, "noise hides as much as must be caught"),
    Row(
        "conditioned against_m against_a",
        OPEN,
        Reason.PRECISION,
        "all three differ by what rounding explains",
        "the gradient is ill-conditioned here",
    ),
    Row(
        "conditioned not against_m against_a",
        PASS,
        Reason.AGREE,
        "rounding explains what M and A differ by",
        "as far as round-off lets an ill-conditioned gradient agree",
        doubtful=True,
    ),
    Row(
        "against_m against_a",
        FAIL,
        Reason.MANUAL_WRONG,
        "nobody supports M",
        "autodiff differs from the differences as well",
        doubtful=True,
    ),
    Row("against_m", FAIL, Reason.MANUAL_WRONG, "N and A against M"),
    Row("against_a", PASS, Reason.AUTODIFF_DIFFERS, "N and M against A"),
    Row(
        "scattered small",
        PASS,
        Reason.NOISE,
        "noise may hide which of the two is right, and it is little",
        "agrees as far as the function's own noise allows",
    ),
    Row("scattered", OPEN, Reason.NOISE, "noise hides which of the two is right"),
    Row("jumps", OPEN, Reason.JUMP, "nor does a difference say which of the two is right"),
    Row(
        "",
        FAIL,
        Reason.MANUAL_WRONG,
        "their bars are known, and M lies outside both",
        "found by autodiff; too small for the differences to see",
        doubtful=True,
    ),
)


def first(facts: Facts, rows: tuple[Row, ...] = TABLE) -> Row:
    """The row that has the say; the last one always holds."""
    says: Callable[[Row], bool] = lambda row: row.holds(facts)  # noqa: E731
    return next(filter(says, rows))
