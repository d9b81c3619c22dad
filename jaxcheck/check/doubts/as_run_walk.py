"""One check's second opinions on the path that is run: judged as its own formula, and for what rounding takes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcheck import bars, threads
from jaxcheck.check.doubts.rounding import decides
from jaxcheck.check.settings import Case
from jaxcheck.evidence import as_run, gather
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.judgement import as_run as judgement
from jaxcheck.judgement import locate
from jaxcheck.judgement.vote import Opinion
from jaxcheck.problem.problem import Problem
from jaxcheck.problem.run import Run
from jaxcheck.result import Component, Reason, Verdict
from jaxcheck.there import there

ANOTHER_PATH = "right in float64; in {dtype} loss and gradient take another path, and there it is right as well"
ONLY_AS_RUN = "right for the function as run in {dtype}, which in float64 is another one (by a constant, or a branch)"
DECIDED = (
    "right in float64; in {dtype} rounding decides otherwise, and there the gradient is off from autodiff: not judged "
    '(precision="native" judges what is run)'
)
NARROWER = "; it computes in {dtype}, which the loss does not: where that is meant, grant it (`tolerance=`)"
NOTHING_LEFT = "right in float64; of the gradient as run in {dtype} rounding leaves nothing"
UNKNOWN = "right in float64; in {dtype} another path is run, and there it could not be judged"


@dataclasses.dataclass(frozen=True)
class Second:
    """What is said of a leaf that passed in float64, or, `instead`, of one that failed there."""

    verdict: Verdict
    reason: Reason
    note: str
    worst: tuple[Component, ...] = ()
    instead: bool = False


def is_wrong(said: Opinion) -> bool:
    return said.verdict is Verdict.FAIL and said.reason in (Reason.MANUAL_WRONG, Reason.NONFINITE)


class Walk:
    """What is asked of the native run of one check; each thing is measured once, when it is first asked for."""

    def __init__(self, case: Case, run: Run, leaves: Sequence[LeafEvidence], native, wide):
        self.case, self.run, self.leaves = case, run, leaves
        self.native, self.wide = native, wide
        self.formula_m = wide
        parts = [ev.a for ev in leaves if ev.a is not None]
        self.formula_a = np.concatenate(parts, axis=1) if len(parts) == len(leaves) else None
        self.measured: as_run.Native | None = None
        self.autodiff: np.ndarray | None = None
        self.constants: np.ndarray | None = None

    def leaf(self, k: int) -> judgement.LeafRun:
        ev = self.leaves[k]
        where = slice(ev.leaf.start, ev.leaf.stop)

        def part(x: np.ndarray | None) -> Any:
            return None if x is None else x[:, where]

        seen = self.measured or as_run.Native(None, None, None, None)
        a = part(self.autodiff if seen.autodiff is None else seen.autodiff)
        a_bar, a_formula = part(seen.autodiff_bar), part(self.formula_a)
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

    def formula(self, asked: set[int], directions: Mapping, convicted: Iterable[int] = ()) -> dict[int, Second]:
        """Leaves of which the native programs are another formula, judged as a problem of their own; so are those
        that failed in float64."""
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

        doubtful = [k for k in sorted(asked.union(convicted)) if moved(k)]
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
        if is_wrong(self.case.judge(self.leaves[k])):
            right = opinion.verdict is Verdict.PASS
            note = ONLY_AS_RUN.format(dtype=dtype)
            return Second(opinion.verdict, opinion.reason, note, instead=True) if right else None
        if is_wrong(opinion):
            if self.constants is None:
                self.constants, compiled = as_run.of_constants(problem, self.case.point, spacing / 2)
                self.case.compiled += compiled
            reference = ev.a if ev.a is not None else _numeric(ev, self.leaf(k).wide)
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
        suspect = self._beside_autodiff([k for k, off in zip(sound, lost, strict=True) if off])
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
        found |= self._decided_otherwise([k for k in suspect if k not in found])
        for k in suspect:
            if k not in found and judgement.gone(self.leaf(k), self.leaves[k].m_error):
                said = NOTHING_LEFT.format(dtype=self.leaf(k).leaf.native)
                found[k] = Second(Verdict.INCONCLUSIVE, Reason.PRECISION, said)
        return found

    def _beside_autodiff(self, suspect: list[int]) -> list[int]:
        """Those of the leaves that are off from autodiff as well, as run: it is a program that rounds and decides as
        theirs does, so that nobody is to blame for what both are off by."""
        if not suspect or self.formula_a is None:  # what has no formula in float64 is held to nothing as run
            return suspect
        self.autodiff, compiled = as_run.autodiff_at(self.case.problem, self.run, self.case.point, self.native)
        self.case.compiled += compiled
        if self.autodiff is None:
            return suspect
        return [k for k in suspect if judgement.apart(self.leaf(k), self.case.settings.must_catch, self.run.unit).any()]

    def _decided_otherwise(self, suspect: list[int]) -> dict[int, Second]:
        """Leaves of which rounding explains nothing unless it may decide otherwise, and which are off from autodiff
        where it decides as it does."""
        problem, run = self.case.problem, self.run
        if not suspect or self.autodiff is None or not any(map(decides, (run.source, run.manual))):
            return {}
        self.measured = as_run.measured(problem, run, self.case.point, run.manual is not None, held=True)
        self.case.compiled += self.measured.compiled
        found = {}
        for k in suspect:
            one = self.leaf(k)
            if one.bar is not None and judgement.apart(one, self.case.settings.must_catch, run.unit).any():
                note = DECIDED.format(dtype=self.leaves[k].leaf.native)
                found[k] = Second(Verdict.INCONCLUSIVE, Reason.PRECISION, note)
        return found


def _numeric(ev: LeafEvidence, wide: np.ndarray) -> np.ndarray:
    """(G, n) N where it was taken component by component, else what M is in float64, where it was judged."""
    out = wide.copy()
    for p in ev.probes:
        if p.directions is None:
            out[:, p.indices] = p.slopes.value.T
    return out
