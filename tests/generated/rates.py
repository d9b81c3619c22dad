"""Run generated programs and print the rates: `python -m tests.generated.rates [--count N] [--seed S] [--door D]`.

A program is a number: `--seed 12 --count 1 --door rule` runs program 12 alone, the same each time.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import math
import sys
import time
import traceback
import warnings

import jax
import numpy as np

from jaxcheck.result import Report, Verdict
from tests.generated.doors import DOORS, errors
from tests.generated.plant import plant
from tests.generated.programs import ALIKE, program

# A drop-in prints no floor: what is above this must not pass it.
DROP_IN = 1e-4
SHOWN = 1e-13


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one program: `right` and `wrong` are words of the table, `lines` what is not as it should be."""

    number: int
    door: str
    right: str
    wrong: str
    blamed: str
    size: float
    lines: tuple[str, ...]


# How often each door is taken where none is asked for: those of a rule take several times as long.
OFTEN = {"grad": 0.3, "hidden": 0.2, "rule": 0.1, "rule-jvp": 0.1, "drop-in": 0.15, "drop-in-jvp": 0.15}


def door_of(number: int) -> str:
    return str(np.random.default_rng([number // ALIKE, 3]).choice(list(OFTEN), p=list(OFTEN.values())))


def run(number: int, door: str | None = None, only: str = "") -> Outcome:
    """Check one program with its right gradient and with the wrong one, or with `only` one of them."""
    door, lines = door or door_of(number), []
    one = program(number)
    with jax.enable_x64(one.dtype == "float64"):
        planted = plant(one, one.outputs)
        said = f"{number} {door} {one.dtype} [{one.name}]"
        repeat = f"python -m tests.generated.rates --count 1 --seed {number} --door {door}"
        off = {k: e for k, e in errors(one, planted, door).items() if e[0] > SHOWN}
        reports: list[Report | None] = []
        for word, wrong in (("right", None), ("wrong", planted)):
            if only not in ("", word):
                reports.append(None)
                continue
            try:
                reports.append(DOORS[door](one, wrong))
            except Exception:
                reports.append(None)
                lines.append(
                    f"CRASH {word} {said}: {traceback.format_exc().strip().splitlines()[-1][:300]}\n    {repeat}"
                )
    right, wrong = (_verdict(r, only not in ("", word)) for word, r in zip(("right", "wrong"), reports, strict=True))
    if right in ("FAIL", "INCONCLUSIVE"):
        lines.append(f"RIGHT {right} {said}: {_why(reports[0])}\n    {repeat}")
    size = max((e[0] for e in off.values()), default=0.0)
    place = f"{planted.kind} in {planted.where}, off by {size:.1e}"
    blamed = ""
    if not off and wrong != "crash":
        wrong = "nothing planted"
    elif wrong == "PASS":
        wrong = "passed below its floor"
        above = [k for k, e in off.items() if _above(reports[1], k, e)]
        if above:
            wrong = "passed above its floor"
            lines.append(f"WRONG passed {said}: {place}; {_why(reports[1], above)}\n    {repeat}")
    elif wrong == "FAIL":
        failing = {leaf.path for leaf in reports[1].leaves if leaf.verdict is Verdict.FAIL}
        names = {path.replace("p['", "") for path in failing}
        ours = {k for k in off if any(path.endswith(k) for path in names)}
        others = {path for path in failing if not any(path.endswith(k) for k in off)}
        blamed = "no leaf named" if not failing else "right leaf" if ours and not others else "another leaf"
        if blamed == "another leaf" or (not failing and door in ("grad", "hidden")):
            lines.append(f"BLAME {said}: {place}; blamed {sorted(failing)} {_why(reports[1])}\n    {repeat}")
    elif wrong == "INCONCLUSIVE" and size > 1e-3:
        lines.append(f"WRONG inconclusive {said}: {place}; {_why(reports[1])}\n    {repeat}")
    return Outcome(number, door, right, wrong, blamed, size, tuple(lines))


def _verdict(report: Report | None, left_out: bool) -> str:
    return "" if left_out else "crash" if report is None else report.verdict.value


def _above(report: Report, name: str, error: tuple[float, float]) -> bool:
    """Whether an error of (norm, largest component) in a leaf is above what the report says it would have caught."""
    if report.kind == "check_grads":
        return error[0] > DROP_IN
    for leaf in report.leaves:
        if leaf.path.endswith(name):
            whole, single = leaf.floor, leaf.floor_component
            # Of one component the second floor speaks, of all together the first; of others both.
            return error[0] > (single if math.isclose(*error) and math.prod(leaf.shape) > 1 else max(whole, single))
    return bool(report.leaves)


def _why(report: Report, leaves: list[str] | None = None) -> str:
    said = [f"{report.reason.name}"]
    for leaf in report.leaves:
        chosen = leaf.verdict is not Verdict.PASS if leaves is None else any(leaf.path.endswith(k) for k in leaves)
        if chosen:
            said.append(
                f"{leaf.path}: {leaf.reason.name} |M|={leaf.norm_manual:.2g} N {leaf.difference:.1e}+-"
                f"{leaf.error_bar:.1e} A {leaf.difference_autodiff:.1e} floors {leaf.floor:.0e} "
                f"{leaf.floor_component:.0e} {leaf.note}"
            )
    said += [f"row {r.group}/{r.name}: {r.detail}" for r in report.rows if r.status == "WRONG"]
    if not report.leaves:
        said += report.notes[:1]
    return "; ".join(said)


def table(outcomes: list[Outcome]) -> str:
    doors = [d for d in DOORS if any(o.door == d for o in outcomes)]
    lines = [f"{'':28}" + "".join(f"{d:>13}" for d in (*doors, "all"))]

    def row(name: str, chosen) -> None:
        counts = [sum(chosen(o) for o in outcomes if d in (o.door, None)) for d in doors]
        lines.append(f"{name:28}" + "".join(f"{n:13}" for n in (*counts, sum(counts))))

    row("programs", lambda o: True)
    for name, words in (
        ("right passed", "PASS"),
        ("right accused", "FAIL"),
        ("right inconclusive", "INCONCLUSIVE"),
        ("right crashed", "crash"),
    ):
        row(name, lambda o, w=words: o.right == w)
    for name, words in (
        ("wrong caught", "FAIL"),
        ("wrong passed above floor", "passed above its floor"),
        ("wrong passed below floor", "passed below its floor"),
        ("wrong inconclusive", "INCONCLUSIVE"),
        ("wrong crashed", "crash"),
        ("nothing planted", "nothing planted"),
    ):
        row(name, lambda o, w=words: o.wrong == w)
    for name in ("right leaf", "another leaf", "no leaf named"):
        row(f"blamed: {name}", lambda o, w=name: o.blamed == w)
    sizes = collections.Counter(
        (math.floor(math.log10(o.size)), o.wrong == "FAIL") for o in outcomes if o.size and o.wrong
    )
    lines.append(
        "caught by size: "
        + ", ".join(f"1e{k} {sizes[k, True]}/{sizes[k, True] + sizes[k, False]}" for k in sorted({k for k, _ in sizes}))
    )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.generated.rates")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", choices=list(DOORS))
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    start, outcomes = time.perf_counter(), []
    for number in range(given.seed, given.seed + given.count):
        outcomes.append(run(number, given.door))
        for line in outcomes[-1].lines:
            print(line, flush=True)
    print(table(outcomes))
    print(f"programs {given.seed} to {given.seed + given.count - 1}, {time.perf_counter() - start:.0f} s")
    return int(any(o.lines for o in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
