"""What is known of one leaf before a verdict: yes or no, each found in one place. Pure: no program is run here."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import BARS, BESIDE_LEAF, COMPONENT
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.evidence.sketch import typical
from jaxcheck.formula import formula2, norms
from jaxcheck.judgement import looks as seeing
from jaxcheck.judgement.looks import Look, round_off
from jaxcheck.judgement.measures import influences, unbounded
from jaxcheck.options import Tolerance
from jaxcheck.there import there

Numbers = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Facts:
    """The facts that the table of verdicts (`judgement/table.py`) asks for.

    Attributes:
        finite: M is finite. `contrast`: it is not, and some set of differences is finite throughout, of which none
            grows without end as the steps shrink, so that it could have been.
        surrogate: the caller has declared the gradient to be another one on purpose.
        empty: the leaf has no component.
        usable: some difference may judge M.
        kinked: something lies on a kink. `jumps`: some difference is across a jump.
        seen: some difference is a number, usable or not.
        granted: formula (2) of the leaf lies within what the caller grants.
        autodiff: A is there and finite. `broken`: it is there, and NaN or infinite.
        own: M is JAX's autodiff itself, with no rule of the caller's.
        m_off: a difference contradicts M. `a_off`: one contradicts A.
        noise: the function's noise explains all that contradicts M. `noise_a`: and all that contradicts A.
        noisy: the function's values scatter.
        quantised: larger steps confirm M where the smallest contradict it.
        apart: M and A differ by more than the tolerance and their bars.
        conditioned: they do, but no more than inputs that differ by rounding alone explain.
        measured: the round-off of M and A is measured, and no estimate.
        gross: a difference contradicts M by far more than its bar may be off by.
        kinks_alone: whatever contradicts M lies on a kink whose range is not known.
        filled: a component has one slope on both sides of the point, and M is what autodiff makes of the formula that
            is taken at the point alone (relu(x) - relu(-x); a `where` that fills in a removable singularity).
        small: what M is off by is no more than `must_catch`.
    """

    finite: bool = True
    contrast: bool = False
    surrogate: bool = False
    empty: bool = False
    usable: bool = True
    kinked: bool = False
    jumps: bool = False
    seen: bool = True
    granted: bool = False
    autodiff: bool = True
    broken: bool = False
    own: bool = False
    m_off: bool = False
    a_off: bool = False
    noise: bool = False
    noise_a: bool = False
    noisy: bool = False
    quantised: bool = False
    apart: bool = False
    conditioned: bool = False
    measured: bool = False
    gross: bool = False
    kinks_alone: bool = False
    filled: bool = False
    small: bool = False

    @property
    def outweighed(self) -> bool:
        """The differences say nothing, for noise explains them; but the round-off of M and A is known."""
        return self.autodiff and self.measured and self.m_off and self.noise

    @property
    def against_m(self) -> bool:
        """A difference has a say, and contradicts M."""
        return self.m_off and not self.outweighed

    @property
    def against_a(self) -> bool:
        """A difference has a say, and contradicts A."""
        return self.a_off and not (self.outweighed and self.noise_a)

    @property
    def scattered(self) -> bool:
        """The values scatter, and round-off that is measured is not there to say more."""
        return self.noisy and not self.measured


@dataclasses.dataclass(frozen=True)
class Found:
    """The facts, with what goes into an opinion beside them: `residual` (G, n), how many lie on a kink."""

    facts: Facts
    residual: np.ndarray
    kinks: int = 0


def find(
    ev: LeafEvidence, tolerance: Tolerance, m: np.ndarray, numbers: Numbers, must_catch: float, surrogate: bool
) -> Found:
    """The facts of a leaf whose gradient under test is `m` (G, n); `numbers` as `measures.relative_numbers` gives."""
    broken = ev.a is not None and not bool(np.isfinite(ev.a).all())
    a = None if broken else ev.a
    residual = np.full(m.shape, np.nan) if a is None else m - a
    finite = bool(np.isfinite(m).all())
    known = Facts(
        finite=finite,
        contrast=not finite and any((np.isfinite(p.slopes.value) & ~unbounded(p.slopes)).all() for p in ev.probes),
        surrogate=surrogate,
        empty=m.size == 0,
        autodiff=a is not None,
        broken=broken,
        own=ev.is_autodiff,
        measured=ev.measured,
        granted=_granted(tolerance, numbers),
        jumps=any(bool(p.slopes.jump.any()) for p in ev.probes),
        seen=any(bool(np.isfinite(p.slopes.value).any()) for p in ev.probes),
    )
    if not known.finite or surrogate or known.empty:
        return Found(known, residual)
    looks, explained = seeing.on_kinks(ev, [seeing.look(ev, p, m, a, tolerance) for p in ev.probes], m, a, tolerance)
    kinks = seeing.count(ev, looks)
    relative = numbers[0] if a is None else max(numbers[1], formula2(influences(ev, m), influences(ev, a)))
    told = _of_looks(looks) | dict(kinked=kinks > 0, small=relative <= must_catch)
    told["kinks_alone"] &= not explained.any()
    if a is not None:
        told["apart"] = _far(m, a, ev, tolerance, explained)
        told["conditioned"] = told["apart"] and not _far(m, a, ev, tolerance, explained, full=True)
    facts = dataclasses.replace(known, **told)
    # What A says is no measure of M where the differences contradict both.
    none_known = facts.against_m and facts.against_a
    return Found(facts, np.where(explained, 0.0, np.nan if none_known else residual), kinks)


def _of_looks(looks: list[Look]) -> dict[str, bool]:
    m_off, noisy = any(x.contradicts_m.any() for x in looks), any(x.noisy.any() for x in looks)
    return dict(
        usable=any(x.usable.any() for x in looks),
        m_off=m_off,
        a_off=any(x.contradicts_a.any() for x in looks),
        noisy=noisy,
        noise=noisy and all((x.excused | ~x.contradicts_m).all() for x in looks),
        noise_a=all((x.excused_a | ~x.contradicts_a).all() for x in looks),
        quantised=m_off and all((x.coarse | ~x.contradicts_m).all() for x in looks),
        gross=any(x.gross.any() for x in looks),
        filled=any(x.filled.any() for x in looks),
        kinks_alone=not any((x.contradicts_m & ~x.kink).any() for x in looks),
    )


def _granted(tolerance: Tolerance, numbers: Numbers) -> bool:
    """Whether formula (2) of the leaf lies within a bound that the caller gave: to N, and to A where it speaks. It
    means the whole leaf then, whatever single components are off by."""
    to_n, to_a = numbers[0], numbers[1]
    known = np.isfinite(to_n) or np.isfinite(to_a)
    rtol = tolerance.rtol
    return bool(known and rtol is not None and not to_n > rtol and not to_a > rtol)


def _far(
    m: np.ndarray, a: np.ndarray, ev: LeafEvidence, tolerance: Tolerance, explained: np.ndarray, full: bool = False
) -> bool:
    """Whether M and A differ by more than the tolerance and their round-off.

    By formula (2) per column, of the gradients and of what each component does to the output when it moves by
    its own size; and by single components that are off by far more than round-off although too small a
    part of the leaf to move its norm.
    """
    if explained.any():
        m, a = np.where(explained, 0.0, m), np.where(explained, 0.0, a)
    r = np.abs(m - a)
    if not r.any():
        return False
    bars = round_off(ev, ev.m_error, full) + round_off(ev, there(ev.a_error), full)
    bars += ev.m_given
    bars *= BARS
    if explained.any():
        bars = np.where(explained, 0.0, bars)
    np.maximum(bars, typical(bars, ev.units), out=bars)
    rtol = tolerance.between_programs(ev.sharp)
    for size_of in (norms, lambda g: norms(influences(ev, g))):
        if (size_of(r) > rtol * (size_of(m) + size_of(a)) + size_of(bars) + tolerance.atol).any():
            return True
    largest = np.maximum(np.abs(m), np.abs(a))
    floor = np.maximum(2 * bars, BESIDE_LEAF * (tolerance.rtol or 0.0) * typical(largest, ev.units))
    return bool((r > COMPONENT * rtol * largest + floor + tolerance.atol).any())
