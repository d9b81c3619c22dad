"""A derivative of the drop-in that is wrong, looked at leaf by leaf and component by component."""

from __future__ import annotations

import time
from collections.abc import Sequence

from jaxcheck.budget import running
from jaxcheck.check.engine import examine
from jaxcheck.check.settings import Settings
from jaxcheck.evidence import map_problem, maps
from jaxcheck.judgement.maps import Finding
from jaxcheck.problem.map import Map
from jaxcheck.problem.preface import Preface
from jaxcheck.program.ask import Refused, ask
from jaxcheck.result import Report, Verdict, Witness

# Seconds in which it is looked for where a derivative is wrong that is known to be: as the line is. A choice.
SECONDS = 10.0


def by_leaf(
    one: Map, ev: maps.MapEvidence, names: Sequence[str], finding: Finding, settings: Settings
) -> Report | None:
    """What is wrong, leaf by leaf and component by component; None where it is nowhere to be seen in that light."""
    theta = map_problem.theta_of(one, names)
    try:
        problem = ask(map_problem.problem_of, one, ev, theta, finding.what == "VJP")
        if problem is None:
            return None
        silent = Witness(
            "autodiff",
            "absent",
            "no custom rule of yours to remove" if one.own and not one.name else "there is none beside this derivative",
        )
        witnesses = (
            Witness("manual", one.primal.how),
            Witness("numeric", one.primal.how, one.primal.note),
            Witness("autodiff", one.primal.how) if problem.autodiff else silent,
        )
        with running(SECONDS):
            report = ask(
                examine, problem, Preface("", witnesses, ()), settings, kind="", name="", start=time.perf_counter()
            )
    except Refused:  # a derivative that cannot be run this way, too
        return None
    return report if report.verdict is Verdict.FAIL and report.leaves else None
