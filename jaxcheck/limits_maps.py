"""Second opinions on maps where loops stop at a tolerance: see `limits`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxcheck import implicit
from jaxcheck.bars import MUST_CATCH, RESTS, SAME
from jaxcheck.evidence.maps import Map, MapEvidence
from jaxcheck.judgement.maps import Finding
from jaxcheck.limits import UNMEASURED
from jaxcheck.program.converge import LONG, SHORT, Patience, further, iterates
from jaxcheck.result import Reason, Verdict, formula2
from jaxcheck.there import there

Measure = Callable[[Sequence[Map]], list[MapEvidence]]
Judge = Callable[..., list[Finding]]
PROGRAMS = ("primal", "tangent", "cotangent", "reference", "reference_pull")


def second_opinions(maps: Sequence[Map], evidence: Sequence[MapEvidence], findings: Sequence[list[Finding]],
                    measure: Measure, judge: Judge, rtol: float) -> list[list[Finding]]:
    """The findings on each map after a look at the loops' limit.

    Args:
        measure: the evidence of maps like these, along the same directions.
        judge: the findings from an evidence, to a relative tolerance.
    """
    found = [[implicit.unjudged(f) for f in those] if implicit.of_map(one.primal) else those
             for one, those in zip(maps, findings, strict=True)]
    doubted = [k for k, one in enumerate(maps) if stops(one) and any(
        f.verdict is not Verdict.PASS and f.reason is not Reason.IMPLICIT for f in found[k])]
    if not doubted:
        return found
    limit = measure(at_limit(maps, LONG))
    second = {k: judge(limit[k], rtol) for k in doubted}
    short = None
    if any(f.verdict is Verdict.FAIL for k in doubted for f in second[k]):
        short = measure(at_limit(maps, SHORT))
    for k in doubted:
        slow = None
        if short is not None:
            moves = _still_moves(evidence[k], short[k], limit[k])
            slow = judge(limit[k], max(rtol, moves)) if moves > rtol else None
        found[k] = [_second(evidence[k], limit[k], f, s, None if slow is None else slow[i])
                    for i, (f, s) in enumerate(zip(findings[k], second[k], strict=True))]
        if maps[k].own:
            found[k] = [_unjudged(f) for f in found[k]]
    return found


def _unjudged(finding: Finding) -> Finding:
    """JAX's own derivative of a loop without a limit that it could be held to: an integrator's adjoint is right up to
    the integrator's own error, which nothing here measures, and that of a sampler is one of its distribution. The
    function itself may be as smooth as any."""
    if finding.verdict is not Verdict.FAIL:
        return finding
    return dataclasses.replace(finding, verdict=Verdict.INCONCLUSIVE, reason=Reason.NUMERIC_SUSPECT, note=UNMEASURED)


def stops(one: Map) -> bool:
    """Whether a loop that stops at a tolerance is in any program of a map."""
    programs = [t for t in (getattr(one, name) for name in PROGRAMS) if t is not None]
    return any(iterates(t.program.closed) for t in programs)


def at_limit(maps: Sequence[Map], patience: Patience = LONG) -> list[Map]:
    """The maps with every loop run on."""
    return [dataclasses.replace(one, **{name: further(getattr(one, name), patience) for name in PROGRAMS})
            for one in maps]


def _second(stopped: MapEvidence, limit: MapEvidence, first: Finding, second: Finding, slow: Finding | None) -> Finding:
    if first.verdict is Verdict.PASS:
        return first
    differs = f"as stopped it differs by {first.difference:.1g}"
    if second.verdict is Verdict.PASS:
        own, function = _changes(stopped, limit, first.what)
        if own > MUST_CATCH and own > SAME * function:
            return dataclasses.replace(first, verdict=Verdict.FAIL, note=(
                f"its own loop stops too early: run on, it is right, as stopped it is off by {own:.1g}"))
        reason = Reason.CONVERGED if second.reason is Reason.AGREE else second.reason
        return dataclasses.replace(second, reason=reason, note=(
            f"right at the loop's limit (to {second.difference:.1g}); {differs}"))
    if slow is not None and slow.verdict is Verdict.PASS:
        return dataclasses.replace(first, verdict=Verdict.INCONCLUSIVE, reason=Reason.NOISE,
                                   note=f"the loop does not come to rest when it is run on; {differs}")
    return first


def _claim(ev: MapEvidence, what: str) -> np.ndarray | None:
    return ev.tangent if what == "JVP" else ev.pulled


def _changes(a: MapEvidence, b: MapEvidence, what: str) -> tuple[float, float]:
    """How far the claim and the function's differences lie apart in two evidences, relative to their size."""
    x, y = a.numeric.value, b.numeric.value
    known = np.isfinite(x) & np.isfinite(y)
    own = formula2(there(_claim(a, what)), there(_claim(b, what)))
    return own, formula2(x[known], y[known]) if known.any() else np.inf


def _still_moves(stopped: MapEvidence, short: MapEvidence, long: MapEvidence) -> float:
    """How far going on still moved the function or a claim, relative; 0 where no limit is approached."""
    moved = [0.0]
    for what in ("JVP", "VJP"):
        if _claim(long, what) is not None:
            before, after = _changes(stopped, short, what), _changes(short, long, what)
            if any(x > 0.5 * y for x, y in zip(after, before, strict=True) if x > RESTS):
                return 0.0
            moved += after
    return float(max(moved))
