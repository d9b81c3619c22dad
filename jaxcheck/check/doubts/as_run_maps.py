"""A map that was right in float64: is what is run in the caller's own dtypes that formula too?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxcheck import bars
from jaxcheck.check.doubts import again
from jaxcheck.check.drop_in import inconclusive
from jaxcheck.check.settings import Settings
from jaxcheck.evidence import as_run_maps, maps
from jaxcheck.evidence.finite import is_finite
from jaxcheck.judgement.maps import Finding, judge
from jaxcheck.options import Tolerance
from jaxcheck.problem.map import Map
from jaxcheck.program.ask import Refused, ask
from jaxcheck.result import Reason, Report, Verdict

NO_NUMBER = (
    "right in float64; but as run, in the caller's own dtypes, the value or a derivative is not finite here (an "
    "overflow, or a zero divided by zero)"
)

NARROWER = (
    "its derivative computes in {dtype}, which f does not, and what it loses to that was not judged (check_rule does)"
)


def beside(
    one: Map,
    run: Callable[[], Map],
    findings: list[tuple[str, Finding]],
    settings: Settings,
    unit: float,
    head: dict[str, Any],
    err_msg: str,
) -> list[tuple[str, Finding]]:
    """The findings with what the run in the caller's own dtypes, of rounding unit `unit`, adds to the first order."""
    first = [finding for name, finding in findings if not name]
    if not is_number(run, first):
        said = {**head, "verdict": Verdict.INCONCLUSIVE, "reason": Reason.NONFINITE, "notes": (NO_NUMBER,)}
        inconclusive(Report(**said), err_msg)
    first = of_map(one, run, first, settings, unit)
    return [*(("", finding) for finding in first), *(pair for pair in findings if pair[0])]


def narrower(native: Callable[[], Map]) -> tuple[str, ...]:
    """What a PASS in float64 does not say of a derivative that computes in a narrower dtype than its function."""
    try:
        found = as_run_maps.narrower_map(ask(native))
    except Refused:
        return ()
    return (NARROWER.format(dtype=found),) if found else ()


def of_map(
    one: Map, native: Callable[[], Map], findings: list[Finding], settings: Settings, spacing: float
) -> list[Finding]:
    """Findings on a map, and where all of them passed in float64, what its native programs add.

    They are looked at without rounding: what a constant that was rounded may change is granted.

    Args:
        native: makes the same map of the native programs. spacing: of the caller's coarsest dtype.
    """
    if any(f.verdict is not Verdict.PASS for f in findings):
        return findings
    try:
        other = ask(native)
    except Refused:
        return findings
    if as_run_maps.same_maps(one, other):
        return findings
    lifted = as_run_maps.map_without_rounding(other)
    if lifted is None:
        return findings
    (evidence,), _ = maps.measure([lifted], settings.seed)
    granted = bars.CONSTANTS * spacing
    found = judge(evidence, settings.tolerance, settings.must_catch, granted)
    if any(map(_is_wrong, found)):
        granted = max(granted, 2 * as_run_maps.constants_of_map(lifted, evidence, spacing / 2))
        found = judge(evidence, settings.tolerance, settings.must_catch, granted)
    if any(map(_is_wrong, found)):
        loose = dataclasses.replace(
            settings, tolerance=Tolerance(max(settings.tolerance.bound, granted), settings.tolerance.atol)
        )
        found = again.settled(lifted, evidence, found, loose)
    return [_of_path(a, b) for a, b in zip(findings, found, strict=True)] if len(found) == len(findings) else findings


def is_number(native: Callable[[], Map], findings: list[Finding]) -> bool:
    """Whether a map of which all was right in float64 is a number as run, too."""
    if any(f.verdict is not Verdict.PASS or f.left_out for f in findings):
        return True
    try:
        return is_finite(ask(native))
    except Refused:  # it cannot be run so; what is right of it was told in float64
        return True


def _is_wrong(said: Finding) -> bool:
    wrong = Reason.MANUAL_WRONG, Reason.NUMERIC_SUSPECT, Reason.NONFINITE
    return said.verdict is Verdict.FAIL and said.reason in wrong


def _of_path(wide: Finding, run: Finding) -> Finding:
    if not _is_wrong(run):
        return wide
    note = (
        "right in float64, but in the caller's own dtypes another formula is run; the numbers are its, before any "
        "rounding"
    )
    return dataclasses.replace(run, reason=Reason.PRECISION_WRONG, note=note)
