"""What a default check of a large network takes, counted: evaluations of each kind, bytes and seconds per parameter.

    python -m tests.benchmarks.counts [--widths 256 512 1024] [--layers 8] [--batch 32]

Each check is in a process of its own, of the network of `tests.benchmarks.large`, right and with one wrong component.
The last lines say what that makes for a model of 1 and of 100 billion parameters, by the counts: that is not run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import jaxcheck as jc
from jaxcheck.budget import Budget
from tests.benchmarks.large import network, peak

# Evaluations of a call by what the program is called: losses and gradients in float64, both in the caller's own dtypes.
PER_CALL = {"native": (0, 0, 1), "gradients": (1, 8, 0), "outputs at": (1, 0, 0), "gradient at": (0, 1, 0)}
# A gradient takes about as long as so many losses.
GRADIENT = 3


def one(width: int, layers: int, batch: int, wrong: bool) -> dict:
    """The check of one network, with nothing run before."""
    calls, ran = [], Budget.ran

    def noted(self, program, *args):
        calls.append(program[0][0])
        return ran(self, program, *args)

    Budget.ran = noted
    loss, params, backprop = network(width, layers, batch, wrong)
    before, start = peak(), time.perf_counter()
    report = jc.check_grad(loss, params, backprop, budget=None, where=False)
    seconds, size = time.perf_counter() - start, report.theta_size
    losses, gradients, native = (sum(PER_CALL.get(name, (0, 0, 0))[k] for name in calls) for k in range(3))
    return {
        "P": size,
        "verdict": str(report.verdict),
        "losses": losses + report.evaluations - gradients,
        "gradients": gradients,
        "native": native,
        "seconds": seconds,
        "running": report.cost.running,
        "bytes": (peak() - before) * 2**30 / size,
    }


def in_words(found: dict) -> str:
    counts = f"{found['losses']:>7,} {found['gradients']:>10} {found['native']:>7}"
    seconds = f"{found['seconds']:>8.1f} s {found['running']:>8.1f} s {1e6 * found['seconds'] / found['P']:>7.2f} us"
    return f"{found['P']:>12,}  {found['verdict']:<5} {counts} {seconds} {found['bytes']:>6.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--one", nargs=2, type=int, metavar=("WIDTH", "WRONG"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one[0], asked.layers, asked.batch, bool(asked.one[1]))))
        return
    print(
        f"{'P':>12}  {'':<5} {'losses':>7} {'gradients':>10} {'native':>7} {'in all':>10} {'running':>10}"
        f" {'per P':>10} {'bytes':>6}"
    )
    last: dict = {}
    for wrong in (0, 1):
        for width in asked.widths:
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "tests.benchmarks.counts",
                    "--one",
                    str(width),
                    str(wrong),
                    "--layers",
                    str(asked.layers),
                    "--batch",
                    str(asked.batch),
                ],
                check=True,
                capture_output=True,
                text=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            print(in_words(found), flush=True)
            last = found if not wrong else last
    work = last["losses"] + GRADIENT * last["gradients"]
    for size in (1e9, 1e11):
        memory, hours = last["bytes"] * size / 2**40, last["seconds"] / last["P"] * size / 3600
        print(
            f"{size:.0e} parameters, a PASS: the work of {work} losses in float64, {memory:.2g} TiB of memory, "
            f"{hours:.2g} h at the rate of the largest one above"
        )


if __name__ == "__main__":
    main()
