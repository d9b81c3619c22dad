"""The exhaustive check of 50,000 parameters on several devices and in several processes, beside one.

    python -m tests.benchmarks.devices [--repeats 5] [--only a,b,c,d] [--batch 512]

    a  two virtual CPU devices beside one, which is pinned to a core: the     target: at least 1.6x as fast
       flag that forbids threads inside an operation leaves it two (jaxlib 0.10)
    b  two processes, each pinned to a core, beside one pinned process        target: at least 1.6x as fast
    c  eight virtual devices beside one, as JAX sets them up                  target: at most 1.3x the time
    d  two processes on all cores beside one process on all cores             target: at most 1.2x the time

The two of a comparison stay alive, warm, and run in turns: a pair of runs sees the same machine. A figure is the median
over pairs of the ratio of wall times. On a machine that others use a run may not get the cores that it asks for: CPU
over wall says how many it had. So beside it stands the ratio of the longest paths: what a run would take if each of its
devices and processes had a core of its own, in CPU seconds: those of the main thread, and of the other threads an equal
part for each device (not where a device has threads inside an operation). Needs Linux (taskset, /proc).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


def serve(batch: int, index: int, count: int, port: int) -> None:
    """A check for every line on stdin; wall and CPU seconds of each on stdout."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxcheck as jc

    if count > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    sizes = 200, 150, 130, 1
    params = [{"W": rng.normal(size=(m, n)) / m**0.5, "b": 0.1 * rng.normal(size=n)} for m, n in pairwise(sizes)]
    x, y = rng.normal(size=(batch, sizes[0])), rng.normal(size=(batch, 1))

    def loss(params):
        h = x
        for layer in params[:-1]:
            h = jnp.tanh(h @ layer["W"] + layer["b"])
        return jnp.mean((h @ params[-1]["W"] + params[-1]["b"] - y) ** 2)

    grad = jax.grad(loss)
    for line in sys.stdin:
        if not line.strip():
            break
        wall, cpu, before = time.perf_counter(), time.process_time(), threads()
        report = jc.check_grad(loss, params, grad, mode="exhaustive", budget=None)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        main = threads()[os.getpid()] - before[os.getpid()]
        found = {
            "wall": wall,
            "cpu": cpu,
            "path": main + (cpu - main) / jax.local_device_count(),
            "verdict": str(report.verdict),
            "difference": report.difference,
            "parameters": sum(leaf.size for layer in params for leaf in layer.values()),
        }
        print(json.dumps(found), flush=True)
    os._exit(0)


def threads() -> dict[int, float]:
    """CPU seconds of each thread of this process."""
    tick, found = os.sysconf("SC_CLK_TCK"), {}
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        found[int(task.name)] = (int(fields[11]) + int(fields[12])) / tick
    return found


class Side:
    """One side of a comparison: a process, or several that make one check together."""

    def __init__(self, name: str, batch: int, devices: int = 1, flags: str = "", cores: tuple[str, ...] = ("",)):
        self.name = name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "XLA_FLAGS": flags,
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.running = []
        for index, core in enumerate(cores):
            pin = ["taskset", "-c", core] if core else []
            command = [
                *pin,
                sys.executable,
                "-m",
                "tests.benchmarks.devices",
                "--serve",
                *map(str, (batch, index, len(cores), port)),
            ]
            self.running.append(
                subprocess.Popen(
                    command,
                    env=env,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )

    def run(self) -> dict:
        for one in self.running:
            one.stdin.write("go\n")
            one.stdin.flush()
        found = [json.loads(next(line for line in one.stdout if line.startswith("{"))) for one in self.running]
        return {
            **found[0],
            "wall": max(x["wall"] for x in found),
            "cpu": sum(x["cpu"] for x in found),
            "path": max(x["path"] for x in found),
        }

    def close(self) -> None:
        for one in self.running:
            one.kill()
            one.wait()


def compare(one: Side, other: Side, repeats: int, paths: bool) -> None:
    """Prints both sides and their ratios; of `paths` where nothing runs in parallel inside a device."""
    try:
        for side in (one, other):  # compiles
            first = side.run()
            print(
                f"   {side.name}: first run {first['wall']:.1f} s, {first['verdict']}, difference "
                f"{first['difference']:.3e}, P = {first['parameters']:,}",
                flush=True,
            )
        pairs = [(one.run(), other.run()) for _ in range(repeats)]
    finally:
        one.close()
        other.close()
    for number, side in enumerate((one, other)):
        wall, cpu = (statistics.median(pair[number][key] for pair in pairs) for key in ("wall", "cpu"))
        print(f"   {side.name}: {wall:.2f} s, CPU {cpu:.2f} s, {cpu / wall:.2f} cores")
    ratios = sorted(pair[0]["wall"] / pair[1]["wall"] for pair in pairs)
    work, path = (statistics.median(pair[1][key] / pair[0][key] for pair in pairs) for key in ("cpu", "path"))
    print(
        f"   {other.name} is {statistics.median(ratios):.2f}x as fast ({ratios[0]:.2f} to {ratios[-1]:.2f} in "
        f"{len(ratios)} pairs); it takes {work:.2f}x the CPU"
        + (f"; by the longest path {1 / path:.2f}x as fast" if paths else ""),
        flush=True,
    )


LOOP = """
import time
start = time.perf_counter()
while time.process_time() < 1: pass
print(time.process_time() / (time.perf_counter() - start))
"""


def cores(count: int) -> float:
    """How many cores so many plain loops get side by side, here and now."""
    running = [subprocess.Popen([sys.executable, "-c", LOOP], stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return sum(float(one.communicate()[0]) for one in running)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="a,b,c,d")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--serve", nargs=4, type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(*asked.serve)
    size = asked.batch
    sides = {
        "a": lambda: (
            Side("one device of one core", size, 1, ONE_THREAD, ("0",)),
            Side("two devices", size, 2, ONE_THREAD),
        ),
        "b": lambda: (
            Side("one pinned process", size, cores=("0",)),
            Side("two pinned processes", size, cores=("0", "1")),
        ),
        "c": lambda: (Side("one device", size, 1), Side("eight devices", size, 8)),
        "d": lambda: (Side("one process", size), Side("two processes", size, cores=("", ""))),
    }
    for name in asked.only.split(","):
        print(
            f"{name}: load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, of which one plain loop gets "
            f"{cores(1):.2f}, and two side by side {cores(2):.2f}"
        )
        compare(*sides[name](), asked.repeats, name in "ab")


if __name__ == "__main__":
    main()
