"""After the verdicts in float64: is the path that is run, in the caller's own dtypes, that formula too?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxcheck import bars, threads
from jaxcheck.check.settings import Case
from jaxcheck.evidence import as_run, gather
from jaxcheck.evidence.problem import LeafEvidence, Problem
from jaxcheck.formula import norm2
from jaxcheck.judgement import as_run as judgement
from jaxcheck.judgement import locate
from jaxcheck.judgement.vote import Opinion
from jaxcheck.result import Component, Reason, Verdict
from jaxcheck.there import there

ANOTHER_PATH = "right in float64; in {dtype} loss and gradient take another path, and there it is right as well"
NOTHING_LEFT = "right in float64; of the gradient as run in {dtype} rounding leaves nothing"
NOT_LOOKED_AT = "right in float64; what is run in {dtype} was not looked at"
NARROWER = "; it computes in {dtype}, which the loss does not: where that is meant, grant it (`tolerance=`)"
UNKNOWN = "right in float64; in {dtype} another path is run, and there it could not be judged"


@dataclasses.dataclass(frozen=True)
class Second:
    """What is said of a leaf that passed in float64."""

    verdict: Verdict
    reason: Reason
    note: str
    worst: tuple[Component, ...] = ()


def second_opinions(
    case: Case, leaves: Sequence[LeafEvidence], opinions: Sequence[Opinion], directions: Mapping
) -> dict[int, Second]:
    """Leaf number -> what its native run adds. Empty where there is nothing to add."""
    native, run = case.preface.native, case.preface.run
    if native is not None and case.preface.native_scatter is not None:
        return _on_host(case, leaves, opinions)
    asked = {
        k
        for k, opinion in enumerate(opinions)
        if opinion.verdict is Verdict.PASS and leaves[k].leaf.size and opinion.reason is not Reason.SURROGATE
    }
    if native is None or run is None or not asked or case.problem.is_autodiff:
        return {}
    wide = np.concatenate([ev.m for ev in leaves], axis=1)
    if native.shape != wide.shape:
        return {}
    asked -= {k for k in asked if _stopped_early(case, leaves[k], opinions[k], native)}
    if not asked:
        return {}
    walk = _Walk(case, run, leaves, native, wide)
    found = walk.formula(asked, directions)
    asked -= {k for k, second in found.items() if second.verdict is not Verdict.PASS}
    if case.preface.native_finite and not run.stops:
        found |= walk.rounding(asked)
    return found


def unknown(leaves: Sequence[LeafEvidence], opinions: Sequence[Opinion]) -> dict[int, Second]:
    """What is added to leaves that passed where the look at the native run was stopped."""
    return {
        k: Second(Verdict.INCONCLUSIVE, Reason.INTERRUPTED, NOT_LOOKED_AT.format(dtype=ev.leaf.native))
        for k, (ev, opinion) in enumerate(zip(leaves, opinions, strict=True))
        if opinion.verdict is Verdict.PASS and opinion.reason is not Reason.SURROGATE and ev.leaf.size
    }


def _stopped_early(case: Case, ev: LeafEvidence, opinion: Opinion, native: np.ndarray) -> bool:
    """Whether a leaf is right at its loops' limit, and as run as near to that as must be caught: where a loop stops
    depends on the dtype, so that another formula is run, which says no more than that."""
    off = native[:, ev.leaf.start : ev.leaf.stop] - ev.m
    return opinion.reason is Reason.CONVERGED and bool(norm2(off) <= case.settings.must_catch * norm2(ev.m))


def _on_host(case: Case, leaves: Sequence[LeafEvidence], opinions: Sequence[Opinion]) -> dict[int, Second]:
    """The gradient as the caller's own NumPy code computes it, beside what its scatter between neighbours explains."""
    native, spread, found = there(case.preface.native), there(case.preface.native_scatter), {}
    farther = case.preface.native_otherwise
    if native.shape[1] != sum(ev.m.shape[1] for ev in leaves):
        return {}
    for k, (ev, opinion) in enumerate(zip(leaves, opinions, strict=True)):
        where = slice(ev.leaf.start, ev.leaf.stop)
        if opinion.verdict is not Verdict.PASS or not ev.leaf.size or not np.isfinite(native[:, where]).all():
            continue
        run = judgement.LeafRun(
            ev.leaf,
            ev.values,
            native[:, where],
            ev.m,
            ev.m,
            bars.underflow(*as_run.range_of(ev.leaf)),
            spread[:, where],
        )
        off = judgement.lost(run, case.settings.must_catch, as_run.spacing_of(ev.leaf))
        if off.any() and farther is not None:
            spread, farther = np.fmax(spread, farther()), None
            run = dataclasses.replace(run, bar=spread[:, where])
            off = judgement.lost(run, case.settings.must_catch, as_run.spacing_of(ev.leaf))
        if off.any():
            numbers = judgement.components(run, off, lambda c, i, ev=ev: locate.numeric_component(ev, c, i))
            found[k] = Second(Verdict.FAIL, Reason.PRECISION_WRONG, judgement.said(run, off), numbers)
        elif judgement.gone(run, ev.m_error):
            found[k] = Second(Verdict.INCONCLUSIVE, Reason.PRECISION, NOTHING_LEFT.format(dtype=ev.leaf.native))
    return found


def is_wrong(said: Opinion) -> bool:
    return said.verdict is Verdict.FAIL and said.reason in (Reason.MANUAL_WRONG, Reason.NONFINITE)


class _Walk:
    def __init__(self, case: Case, run: as_run.Run, leaves: Sequence[LeafEvidence], native, wide):
        self.case, self.run, self.leaves = case, run, leaves
        self.native, self.wide = native, wide
        self.formula_m = wide
        parts = [ev.a for ev in leaves if ev.a is not None]
        self.formula_a = np.concatenate(parts, axis=1) if len(parts) == len(leaves) else None
        self.measured: as_run.Native | None = None
        self.constants: np.ndarray | None = None

    def leaf(self, k: int) -> judgement.LeafRun:
        ev = self.leaves[k]
        where = slice(ev.leaf.start, ev.leaf.stop)

        def part(x: np.ndarray | None) -> Any:
            return None if x is None else x[:, where]

        seen = self.measured or as_run.Native(None, None, None, None)
        a, a_bar, a_formula = part(seen.autodiff), part(seen.autodiff_bar), part(self.formula_a)
        if a is None or a_formula is None:
            a = a_bar = a_formula = None
        least = bars.underflow(*as_run.range_of(ev.leaf))
        return judgement.LeafRun(
            ev.leaf,
            ev.values,
            part(self.native),
            part(self.formula_m),
            ev.m,
            least,
            part(seen.manual_bar) if a_bar is None or not self.run.narrower else a_bar,
            part(self.constants),
            a,
            a_bar,
            a_formula,
        )

    def measure(self) -> None:
        if self.measured is None:
            self.measured = as_run.measured(self.case.problem, self.run, self.case.point, self.run.manual is not None)
            self.case.compiled += self.measured.compiled

    def formula(self, asked: set[int], directions: Mapping) -> dict[int, Second]:
        """Leaves of which the native programs are another formula, judged as a problem of their own."""
        case, run = self.case, self.run
        if as_run.one_formula(case.problem, run):
            return {}
        problem = as_run.without_rounding(case.problem, run)
        if problem is None:
            return {}
        m, a, compiled = as_run.at_point(problem, case.point, case.ladder, case.settings.seed)
        case.compiled += compiled
        self.formula_m, before = m, self.formula_a
        self.formula_a = a
        spacing = run.unit

        def moved(k: int) -> bool:
            """Whether M or what it is held to is another one than in float64."""
            where = slice(self.leaves[k].leaf.start, self.leaves[k].leaf.stop)
            if judgement.another_formula(self.leaf(k), None, spacing).any() or a is None or before is None:
                return True
            return bool(
                judgement.far(a[:, where], before[:, where], self.leaves[k].values, bars.CONSTANTS * spacing).any()
            )

        doubtful = [k for k in sorted(asked) if moved(k)]
        if not doubtful:
            return {}
        evidence = gather.gather(
            problem, case.point, {k: directions.get(k) for k in doubtful}, case.ladder, case.settings.seed
        )
        case.evaluations += evidence.evaluations
        case.compiled += evidence.compiled
        return {
            k: second for k in doubtful if (second := self._judged(k, evidence.leaves[k], problem, spacing)) is not None
        }

    def _judged(self, k: int, ev: LeafEvidence, problem: Problem, spacing: float) -> Second | None:
        opinion = self.case.judge(ev)
        dtype = ev.leaf.native
        if is_wrong(opinion):
            if self.constants is None:
                self.constants, compiled = as_run.of_constants(problem, self.case.point, spacing / 2)
                self.case.compiled += compiled
            reference = ev.a if ev.a is not None else _numeric(ev)
            off = judgement.another_formula(self.leaf(k), reference, spacing)
            return self._wrong(k, off, reference) if off.any() else None
        other = judgement.another_formula(self.leaf(k), None, spacing).any()
        if not other:
            return None
        if opinion.verdict is Verdict.INCONCLUSIVE:
            return Second(Verdict.INCONCLUSIVE, opinion.reason, UNKNOWN.format(dtype=dtype))
        return Second(Verdict.PASS, self.case.judge(self.leaves[k]).reason, ANOTHER_PATH.format(dtype=dtype))

    def _wrong(self, k: int, where: np.ndarray, reference: np.ndarray | None = None) -> Second:
        self.measure()
        run = self.leaf(k)
        inside = NARROWER.format(dtype=self.run.narrower) if self.run.narrower and reference is None else ""
        return Second(
            Verdict.FAIL,
            Reason.PRECISION_WRONG,
            judgement.said(run, where, reference) + inside,
            judgement.components(run, where, lambda c, i: locate.numeric_component(self.leaves[k], c, i)),
        )

    def rounding(self, asked: set[int]) -> dict[int, Second]:
        """Leaves whose native run is off from its own formula by more than rounding explains."""
        must_catch, spacing = self.case.settings.must_catch, self.run.unit
        sound = [k for k in sorted(asked) if np.isfinite(self.leaf(k).native).all()]
        lost = threads.each(
            lambda k: bool(judgement.lost(self.leaf(k), must_catch, spacing).any()),
            sound,
            [self.leaves[k].m.size for k in sound],
        )
        suspect = [k for k, off in zip(sound, lost, strict=True) if off]
        if not suspect:
            return {}
        self.measure()
        seen = there(self.measured)
        if seen.manual_bar is None and seen.autodiff_bar is None:
            return {}
        found = {}
        for k in suspect:
            run = self.leaf(k)
            if run.bar is None and run.autodiff_bar is None:  # nobody knows what rounding explains
                continue
            off = judgement.lost(run, must_catch, spacing)
            if off.any():
                found[k] = self._wrong(k, off)
        return found


def _numeric(ev: LeafEvidence) -> np.ndarray:
    """(G, n) N where it was taken component by component, else what M is."""
    out = ev.m.copy()
    for p in ev.probes:
        if p.directions is None:
            out[:, p.indices] = p.slopes.value.T
    return out
