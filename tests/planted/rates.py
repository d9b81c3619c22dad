"""Run the corpus and print its rates: `python -m tests.planted.rates [ID-PART]`."""

from __future__ import annotations

import argparse
import sys
import time
import warnings

import jax

import jaxcheck
from tests.planted import CASES
from tests.planted.base import Case

# INCONCLUSIVE for a true reason: tanh(15) leaves neither witness more than three digits.
MAY_BE_UNSURE = {"saturated-15"}


def run(case: Case, dtype: str) -> jaxcheck.Report:
    """The report of one case in one dtype; 64-bit ones in the 64-bit mode, as a user would run them."""
    with jax.enable_x64(dtype in ("float64", "complex128")):
        problem = case.build(dtype)
        return jaxcheck.check_grad(
            problem.loss, problem.params, problem.grad, args=problem.args, where=False, **problem.options
        )


def expected(case: Case, report: jaxcheck.Report) -> str:
    """ "" when the report is as the case says, otherwise what differs."""
    verdict, reason = report.verdict.name, report.reason.name
    if case.id in MAY_BE_UNSURE and verdict == "INCONCLUSIVE":
        return ""
    if verdict != case.verdict:
        return f"verdict {verdict} ({reason}), expected {case.verdict}"
    allowed = {r or "AGREE" for r in case.reasons}
    if allowed and reason not in allowed:
        return f"reason {reason}, expected one of {sorted(allowed)}"
    failing = {leaf.path for leaf in report.leaves if leaf.verdict is jaxcheck.Verdict.FAIL}
    wanted = {path or "params" for path in case.leaves}
    if verdict == "FAIL" and wanted and failing != wanted:
        return f"blamed {sorted(failing)}, expected {sorted(wanted)}"
    return ""


def main(part: str = "") -> int:
    start, count, bad = time.perf_counter(), {}, 0
    for case in CASES:
        for dtype in case.dtypes if part in case.id else ():
            report = run(case, dtype)
            key = (case.verdict, report.verdict.name)
            count[key] = count.get(key, 0) + 1
            wrong = expected(case, report)
            if wrong:
                bad += 1
                print(f"{case.id} {dtype}: {wrong}")
    total = {v: sum(n for (want, _), n in count.items() if want == v) for v in ("FAIL", "PASS", "INCONCLUSIVE")}

    def rate(want: str, got: str) -> str:
        return f"{count.get((want, got), 0)} of {total[want]}"

    print(f"wrong gradients caught: {rate('FAIL', 'FAIL')}; inconclusive {rate('FAIL', 'INCONCLUSIVE')}")
    print(f"right gradients accused: {rate('PASS', 'FAIL')}; inconclusive {rate('PASS', 'INCONCLUSIVE')}")
    print(f"cannot be judged, and said so: {rate('INCONCLUSIVE', 'INCONCLUSIVE')}")
    print(f"{bad} not as the corpus says; {time.perf_counter() - start:.0f} s")
    return int(bad > 0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(prog="python -m tests.planted.rates", description=__doc__)
    parser.add_argument("part", nargs="?", default="", help="of the names of the cases to run (default: all)")
    sys.exit(main(parser.parse_args().part))
