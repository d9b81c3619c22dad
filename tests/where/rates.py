"""How often a line is named, and how often it is the right one: `python -m tests.where.rates [--verbose] [NET ...]`.

Each case is checked as a caller would check it, and the line that the report names compared with the line of the
mistake. The nets that were held back while the search was tuned are counted apart.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import numpy as np

import jaxcheck as jc
from tests.where import build
from tests.where.cases import CASES, Case


def report(case: Case, dtype=np.float32, **options) -> tuple[jc.Report, int]:
    """(what the check says, the line of the mistake)."""
    found, line = build.planted(case)
    params, args = build.point(found, dtype)
    if hasattr(found, "loss"):
        return jc.check_grad(found.loss, params, found.grad, args=args, **options), line
    return jc.check_rule(found.f, *params, algebra=False, level="quick", **options), line


def outcome(checked: jc.Report, line: int) -> str:
    """`line right`, `one of wrong`, `silent` ..., or the verdict where it is not FAIL."""
    if checked.verdict is not jc.Verdict.FAIL:
        return checked.verdict.value
    if not checked.culprits:
        return "silent"
    right = line in [culprit.line for culprit in checked.culprits]
    return f"{checked.culprits[0].kind} {'right' if right else 'WRONG'}"


def main(arguments: list[str]) -> None:
    nets = [a for a in arguments if not a.startswith("-")]
    for held_back in (False, True):
        counted, seconds = Counter(), []
        for number, case in enumerate(CASES):
            if case.held_back != held_back or (nets and case.net not in nets):
                continue
            start = time.perf_counter()
            checked, line = report(case)
            seconds.append(time.perf_counter() - start)
            counted[said := outcome(checked, line)] += 1
            if "--verbose" in arguments or "WRONG" in said:
                print(f"  {number} {case.net}:{line} {case.wrong!r} for {case.right!r}: {said}")
                for culprit in checked.culprits:
                    print(f"      {culprit.line}: {culprit.source}  ->  {culprit.edit or culprit.what}")
        total = sum(counted.values())
        if total:
            print(f"{'held back' if held_back else 'tuned on'}: {total} cases, {np.median(seconds):.1f} s a check (median)")
            for said, count in counted.most_common():
                print(f"  {said:15} {count:4}  {count / total:.0%}")


if __name__ == "__main__":
    main(sys.argv[1:])
