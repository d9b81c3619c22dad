"""How often a line is named, and how often it is the right one: `python -m tests.where.rates [--verbose] [NET ...]`;
`--twice` for two mistakes in one pass, `--every 4` for each fourth case only.

Each case is checked as a caller would check it, and the line that the report names compared with the line of the
mistake. The nets that were held back while the search was tuned are counted apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc
from jaxcheck.check import where
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


def as_edited(case: Case, checked: jc.Report) -> bool | None:
    """Whether the backward pass is right with the line changed as the report says; None where it says none."""
    culprit = checked.culprits[0] if checked.culprits else None
    if culprit is None or not culprit.edit:
        return None
    lines = Path(culprit.file).read_text(encoding="utf-8").split("\n")
    old = lines[culprit.line - 1]
    lines[culprit.line - 1] = old[: len(old) - len(old.lstrip())] + culprit.edit
    found = build.module(case.net, "\n".join(lines))
    params, args = build.point(found, np.float32)
    if hasattr(found, "loss"):
        pairs = found.grad(params, *args), jax.grad(found.loss)(params, *args)
    else:
        out, pull = jax.vjp(found.f, *params)
        seed = jax.tree.map(jnp.cos, out)
        pairs = pull(seed), jax.vjp(jc.strip_rules(found.f), *params)[1](seed)
    flat = list(zip(*map(jax.tree.leaves, pairs), strict=True))
    # A gradient that is zero but for float32's rounding is measured by the largest one.
    least = 1e-6 * max(float(jnp.linalg.norm(y)) for _, y in flat)
    return all(float(jnp.linalg.norm(x - y)) <= max(1e-4 * float(jnp.linalg.norm(y)), least) for x, y in flat)


def pairs(nets: list[str]) -> Iterator[tuple[Case, Case]]:
    """Up to three pairs of mistakes on different lines of each net."""
    for net in dict.fromkeys(case.net for case in CASES):
        mine, count = [case for case in CASES if case.net == net and (not nets or net in nets)], 0
        for step in (1, 2, 3):
            for i in range(0, len(mine), 2):
                one, other = mine[i], mine[(i + step) % len(mine)]
                if one.right != other.right and count < 3:
                    count += 1
                    yield one, other


def twice(nets: list[str]) -> None:
    """What is said of two mistakes in one backward pass."""
    counted = Counter()
    for one, other in pairs(nets):
        found, lines = build.planted_both(one, other)
        params, args = build.point(found, np.float32)
        if hasattr(found, "loss"):
            checked = jc.check_grad(found.loss, params, found.grad, args=args)
        else:
            checked = jc.check_rule(found.f, *params, algebra=False, level="quick")
        named = {culprit.line for culprit in checked.culprits}
        counted[f"{len(named)} named, {'all right' if named <= lines else 'WRONG'}" if named else "silent"] += 1
        if not named <= lines:
            print(f"  {one.net}: {one.wrong!r} and {other.wrong!r} on {sorted(lines)}, named {sorted(named)}")
    print(f"two mistakes: {counted.total()} cases, {dict(counted.most_common())}")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.where.rates", description=__doc__)
    parser.add_argument("nets", nargs="*", help="the programs to look at (default: all)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one case in N only")
    parser.add_argument("--twice", action="store_true", help="two mistakes at once")
    parser.add_argument("--verbose", action="store_true", help="print every case and what is said of it")
    asked = parser.parse_args(arguments)
    where.STRICT = True
    if asked.twice:
        twice(asked.nets)
        return
    for held_back in (False, True):
        counted, seconds = Counter(), []
        for number, case in enumerate(CASES):
            if case.held_back != held_back or (asked.nets and case.net not in asked.nets) or number % asked.every:
                continue
            start = time.perf_counter()
            checked, line = report(case)
            seconds.append(time.perf_counter() - start)
            counted[said := outcome(checked, line)] += 1
            try:
                edited = as_edited(case, checked)
            except Exception as error:
                edited = False
                print(f"  {type(error).__name__}: {str(error)[:100]}")
            if edited is not None:
                counted["edit right" if edited else "edit WRONG"] += 1
            if asked.verbose or "WRONG" in said or edited is False:
                print(f"  {number} {case.net}:{line} {case.wrong!r} for {case.right!r}: {said}")
                for culprit in checked.culprits:
                    print(f"      {culprit.line}: {culprit.source}  ->  {culprit.edit or culprit.what}")
        total = len(seconds)
        if total:
            title = "held back" if held_back else "tuned on"
            print(f"{title}: {total} cases, {np.median(seconds):.1f} s a check (median)")
            for said, count in counted.most_common():
                print(f"  {said:15} {count:4}  {count / total:.0%}")


if __name__ == "__main__":
    main(sys.argv[1:])
