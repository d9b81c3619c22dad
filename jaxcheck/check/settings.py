"""A check's options, validated once, and a check under way."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxcheck import threads
from jaxcheck.bars import GRANTED, MUST_CATCH
from jaxcheck.budget import current
from jaxcheck.evidence import as_run, bisect, roundoff, staircase
from jaxcheck.evidence.differences import Ladder
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.evidence.roundoff import RoundOff
from jaxcheck.judgement import power
from jaxcheck.judgement.measures import believed
from jaxcheck.judgement.vote import Opinion, judge
from jaxcheck.options import Exhaustive, Sketch, Tolerance
from jaxcheck.problem.preface import Preface
from jaxcheck.problem.problem import Problem
from jaxcheck.there import there
from jaxcheck.tracebacks import note


def _mode(given: Any) -> Exhaustive | Sketch | None:
    if isinstance(given, str):
        known = {"exhaustive": Exhaustive(), "sketch": Sketch()}
        if given not in known:
            raise ValueError(f'mode={given!r}: use "exhaustive", "sketch", Exhaustive(...) or Sketch(...)')
        return known[given]
    if given is not None and not isinstance(given, (Exhaustive, Sketch)):
        raise TypeError(f"mode must be Exhaustive(...) or Sketch(...), not {type(given).__name__}")
    return given


@dataclasses.dataclass(frozen=True)
class Settings:
    """Validated options of a check."""

    mode: Exhaustive | Sketch | None
    tolerance: Tolerance
    must_catch: float
    surrogate: Any
    seed: int
    precision: str

    @staticmethod
    def make(mode, tolerance, must_catch, surrogate, seed, precision) -> Settings:
        """Raises TypeError or ValueError naming the option."""
        mode = _mode(mode)
        if tolerance is None:
            tolerance = Tolerance()
        if isinstance(tolerance, numbers.Real) and not isinstance(tolerance, bool):
            if not 0 <= float(tolerance) < math.inf:
                raise ValueError(f"tolerance={tolerance!r}: a relative bound, finite and not negative")
            tolerance = Tolerance(rtol=float(tolerance))
        if not isinstance(tolerance, Tolerance):
            raise TypeError(
                f"tolerance must be a Tolerance(rtol=..., atol=...) or a number, not {type(tolerance).__name__}"
            )
        if must_catch is None:
            must_catch = min(1.0, max(MUST_CATCH, GRANTED * (tolerance.rtol or 0.0)))
        if isinstance(must_catch, bool) or not (
            isinstance(must_catch, (int, float, np.floating)) and 0 < must_catch <= 1
        ):
            raise ValueError(f"must_catch={must_catch!r}: a relative error above 0 and at most 1")
        if precision not in ("float64", "native"):
            raise ValueError(f'precision={precision!r}: use "float64" or "native"')
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed={seed!r}: a whole number, not negative")
        if not (isinstance(surrogate, bool) or callable(surrogate)):
            raise TypeError("surrogate must be True, False or a function of the leaf path")
        return Settings(mode, tolerance, float(must_catch), surrogate, int(seed), precision)

    def asked_of(self, paths: Iterable[str]) -> Settings:
        """With `surrogate` known of all leaves: what a function of the caller's raises comes out here, where nobody
        takes it for a refusal of what is checked."""
        if not callable(self.surrogate):
            return self
        said = {path: self.is_surrogate(path) for path in paths}
        return dataclasses.replace(self, surrogate=any(said.values()) and said.__getitem__)

    def is_surrogate(self, path: str) -> bool:
        if not callable(self.surrogate):
            return self.surrogate
        with note(f"raised by surrogate({path!r}): a function of the path of a leaf is asked of each"):
            said = self.surrogate(path)
        if not isinstance(said, (bool, np.bool_)):
            raise TypeError(f"surrogate({path!r}) returned {said!r}; it has to say True or False of each leaf")
        return bool(said)


@dataclasses.dataclass(eq=False)
class Case:
    """A check under way."""

    problem: Problem
    preface: Preface
    settings: Settings
    point: np.ndarray
    ladder: Ladder
    evaluations: int = 0
    compiled: int = 0
    _round_off: RoundOff | None = None
    _of_gradients: RoundOff | None = None
    _takes_compiler: bool = False
    _floors: dict[int, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    _bisected: dict[int, np.ndarray | None] = dataclasses.field(default_factory=dict)
    _coarse: np.ndarray | None = None
    _seen: dict[int, tuple[LeafEvidence, LeafEvidence, Opinion]] = dataclasses.field(default_factory=dict)
    sampler: bool | None = None  # whether some leaf may be the parameter of a sampler, see `implicit`, where known
    rounded_data: bool = (
        False  # the loss sees data rounded that M, which is Python's, does not, and that may explain it
    )

    def round_off(self) -> RoundOff:
        """The measured round-off of M, A and the outputs at the point; measured when it is first asked for."""
        if self._round_off is None:
            self._round_off, new = roundoff.measure(self.problem, self.point, self._of_gradients)
            self.compiled += new
        return self._round_off

    def round_off_of_gradients(self) -> RoundOff | None:
        """The same of M and A alone, where it takes no compiler; None where it does, or there is nothing to measure."""
        problem = self.problem
        if self._round_off is not None:
            return self._round_off
        if self._of_gradients is None and not self._takes_compiler and (problem.manual or problem.autodiff) is not None:
            try:
                (m, a), _ = roundoff.gradients(problem, self.point, compiling=False)
                self._of_gradients = RoundOff(m, a, None)
            except roundoff.Unmeasured:
                self._takes_compiler = True
        return self._of_gradients

    def coarseness(self) -> np.ndarray:
        """(G, P) how far M is off by the data that it closes over, see `as_run`; and computed by Python by what is
        rounded inside, see `staircase`; and where the loss is Python's, too, its unit is from here on what is
        rounded inside of that. Looked for once."""
        if self._coarse is None:
            problem, seed = self.problem, self.settings.seed
            if problem.primal is None:
                unit = staircase.unit(there(problem.host_primal), self.point, seed)
                self.problem = dataclasses.replace(problem, host_unit=max(unit, problem.host_unit))
            self._coarse = as_run.of_data_apart(problem, self.point)
            if problem.host_manual is not None:
                self._coarse = self._coarse + staircase.coarseness(problem.host_manual, self.point, seed)
                of_data = as_run.of_data(problem, self.point)
                self.rounded_data = bool((of_data > self._coarse).any())  # otherwise it explains little
                self._coarse = self._coarse + of_data
        return self._coarse

    def wrong_components(self, number: int, ev: LeafEvidence) -> np.ndarray | None:
        """The components of a leaf that signed blocks of it show to be wrong; some of them, where it is the leaf; None
        where they show nothing. Looked for once."""
        if number not in self._bisected:
            found = bisect.wrong_components(self.problem, self.point, number, ev, self.settings.seed)
            self.evaluations += found.evaluations
            self.compiled += found.compiled
            self._bisected[number] = found.indices if found.indices.size else None
        return self._bisected[number]

    def look_at(self, leaves: Sequence[LeafEvidence]) -> None:
        """Judge all leaves at first sight, side by side where that is quicker; `at_first_sight` then knows.

        Raises:
            budget.Stopped: the time is spent; nothing is known then.
        """

        def first(ev: LeafEvidence) -> tuple[LeafEvidence, Opinion]:
            current().ask()
            return self._first(ev)

        found = threads.each(first, leaves, [ev.m.size for ev in leaves])
        self._seen = {id(ev): (ev, *said) for ev, said in zip(leaves, found, strict=True)}

    def at_first_sight(self, ev: LeafEvidence) -> tuple[LeafEvidence, Opinion]:
        """A leaf's evidence without the probes that others contradict, and what is found by the rest."""
        known = self._seen.pop(id(ev), None)  # which keeps the evidence, so that its id is its own
        return self._first(ev) if known is None else known[1:]

    def _first(self, ev: LeafEvidence) -> tuple[LeafEvidence, Opinion]:
        ev = dataclasses.replace(ev, probes=believed(ev.probes))
        return ev, self.judge(ev)

    def floors(self, ev: LeafEvidence, influence: np.ndarray) -> tuple[float, float]:
        """What a PASS of a leaf would have caught, see `power.floors`; found once."""
        known = self._floors.get(id(ev))  # which keeps both, so that their ids are their own
        if known is None or not np.array_equal(known[1], influence):
            found = power.floors(ev, self.settings.tolerance, self.settings.must_catch, influence)
            known = self._floors[id(ev)] = (ev, influence, found)
        return known[2]

    def judge(self, ev: LeafEvidence) -> Opinion:
        s = self.settings
        return judge(ev, s.tolerance, must_catch=s.must_catch, surrogate=s.is_surrogate(ev.leaf.path))
