"""How fast a check is, as ratios to peers measured in the same run.

    python -m tests.benchmarks.run [--out DIR] [--quick] [--only a,b] [--chunks 1,8,32]

Prints tables and writes DIR/benchmark.json with the machine, the versions and every single timing. A figure
is the median of at least three repeats; compilation is separated from running by timing the first call
and the later ones. Nothing here asserts a time: machines differ, ratios within one run say more.

    a  every component of a 128-128-128-10 tanh MLP (P = 34,314, batch 128, float64), beside torch's
       gradcheck (when torch is there) and a Python loop of 2P jitted forwards
    b  first verdict and later checks of a small function, beside jax.test_util.check_grads
    c  the default check_grad on MLPs of growing size
    d  check_batch beside a loop of check_grad
    e  what `import jaxcheck` costs

Needs jax, numpy and rich; torch is optional. It runs the same on CPU and GPU.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
# As a plain script, from a tree that was never installed.
sys.path.insert(0, str(ROOT))

import jaxcheck as jc  # noqa: E402
from jaxcheck.program.run.cache import clear  # noqa: E402

CONSOLE = Console(width=118, highlight=False)
SECTIONS = "abcde"
LOOP, TORCH = "Python loop of 2P jitted forwards", "torch.autograd.gradcheck, slow mode"


def tell(text: str) -> None:
    CONSOLE.print(text, markup=False)


def show(title: str, header: list[str], rows: list[list[Any]]) -> None:
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(seconds(x) if isinstance(x, float) else str(x) for x in row))
    CONSOLE.print(table)


def seconds(x: float) -> str:
    return "-" if x != x else f"{x:.3g} s" if x >= 1 else f"{1e3 * x:.3g} ms"


def ratio(a: float, b: float) -> str:
    """How many times `a` is of `b`."""
    return f"{a / b:.2f}x"


def repeated(f: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Every timing of f(), and their median. `cpu` counts the CPU seconds of all threads: on a machine that
    others use too, it tells a slow program from a busy machine."""
    return interleaved({"": f}, repeats)[""]


def interleaved(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, Any]]:
    """`repeated` for several functions in turns, so that they meet the same machine, quiet or busy."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, f in functions.items():
            start, cpu = time.perf_counter(), time.process_time()
            f()
            taken[name].append((time.perf_counter() - start, time.process_time() - cpu))
    out = {}
    for name, pairs in taken.items():
        every, cpu = map(list, zip(*pairs, strict=True))
        out[name] = {"median": statistics.median(every), "every": every, "cpu": cpu}
    return out


def cold_and_warm(f: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """The first call with nothing compiled, and the later ones; the difference is compilation."""
    clear()
    first = repeated(f, 1)["every"][0]
    warm = repeated(f, repeats)
    return {"first": first, "compile": max(0.0, first - warm["median"]), "run": warm}


def mlp(sizes: tuple[int, ...], batch: int, seed: int = 0):
    """(params, X, Y) of a tanh MLP with mean squared error, as float64 numpy."""
    rng = np.random.default_rng(seed)
    params = tuple(
        {"W": rng.normal(size=(a, b)) / np.sqrt(a), "b": rng.normal(size=b) / 10} for a, b in pairwise(sizes)
    )
    return params, rng.normal(size=(batch, sizes[0])), rng.normal(size=(batch, sizes[-1]))


def loss(params, X, Y):
    for layer in params[:-1]:
        X = jnp.tanh(X @ layer["W"] + layer["b"])
    return jnp.mean((X @ params[-1]["W"] + params[-1]["b"] - Y) ** 2)


def backprop(params, X, Y):
    activations = [X]
    for layer in params[:-1]:
        activations.append(jnp.tanh(activations[-1] @ layer["W"] + layer["b"]))
    d = activations[-1] @ params[-1]["W"] + params[-1]["b"] - Y
    d = 2 * d / d.size
    grads = []
    for layer, A in zip(reversed(params), reversed(activations), strict=True):
        grads.append({"W": A.T @ d, "b": d.sum(axis=0)})
        if A is not X:
            d = (d @ layer["W"].T) * (1 - A**2)
    return tuple(grads[::-1])


def count(params) -> int:
    return sum(np.size(leaf) for leaf in jax.tree.leaves(params))


def exhaustive(options: argparse.Namespace) -> dict[str, Any]:
    sizes, batch = ((32, 32, 32, 10), 32) if options.quick else ((128, 128, 128, 10), 128)
    params, X, Y = mlp(sizes, batch)
    total = count(params)
    result: dict[str, Any] = {"sizes": sizes, "batch": batch, "parameters": total, "ways": {}}
    ways = result["ways"]

    def check(mode):
        report = jc.check_grad(loss, params, grad=backprop, args=(X, Y), mode=mode)
        if not report.ok:
            tell(f"unexpected: {mode} says {report.verdict.value} {report.reason.name} on a right gradient")
        return report

    modes = {
        "jaxcheck Exhaustive(): two steps, error bars": jc.Exhaustive(),
        "jaxcheck Exhaustive(step=1e-6): the textbook's loop": jc.Exhaustive(step=1e-6),
    }
    turns: dict[str, Callable[[], Any]] = {}
    for name, mode in modes.items():
        clear()
        ways[name] = {"first": repeated(lambda mode=mode: check(mode), 1)["median"]}
        turns[name] = lambda mode=mode: check(mode)
    loop, share = python_loop(params, X, Y, total)
    turns[LOOP] = loop
    if importlib.util.find_spec("torch"):
        turns[TORCH], threads = torch_slow(params, X, Y)
        ways[TORCH] = {"note": f"on the CPU, {threads} threads"}
    else:
        tell("torch is not installed: gradcheck, the peer of part a, is skipped")
    # The first mode's programs were forgotten when the second's compile time was taken.
    check(jc.Exhaustive())
    for name, run in interleaved(turns, 3).items():
        ways.setdefault(name, {})["run"] = run
    run = ways[LOOP]["run"]
    scaled = {"median": run["median"] / share} | {key: [t / share for t in run[key]] for key in ("every", "cpu")}
    ways[LOOP] = {"run": scaled, "note": f"measured on {round(share * total)} components and scaled to {total:,}"}
    for name in modes:
        ways[name]["compile"] = max(0.0, ways[name]["first"] - ways[name]["run"]["median"])
    peers, own = [name for name in turns if name not in modes], list(modes)
    result["ratios"] = {a: {b: ways[b]["run"]["median"] / ways[a]["run"]["median"] for b in peers} for a in own}
    result["ratios, compilation included"] = {
        a: {b: ways[b]["run"]["median"] / ways[a]["first"] for b in peers} for a in own
    }
    rows = []
    for name in turns:
        way = ways[name]
        run = way["run"]["median"]
        gains = [ratio(ways[peer]["run"]["median"], run) for peer in peers]
        rows.append([name, run, statistics.median(way["run"]["cpu"]), way.get("compile", float("nan")), *gains])
    short = ["times faster than " + ("torch" if "torch" in peer else "the loop") for peer in peers]
    title = f"a. every component of a tanh MLP {'-'.join(map(str, sizes))}, batch {batch}, float64, P = {total:,}"
    show(title, ["way", "run", "CPU time", "compile", *short], rows)
    for name in peers:
        tell(f"{name}: {ways[name]['note']}")
    if options.chunks:
        result["chunks"] = chunks(check, options.chunks)
    return result


def python_loop(params, X, Y, total: int, sample: int = 300) -> tuple[Callable[[], None], float]:
    """Formula (1) as one would write it, theta on the host and one jitted call per perturbed theta: the loop
    over a sample of the components, and the sample's share of them."""
    leaves, treedef = jax.tree.flatten(params)
    shapes = [leaf.shape for leaf in leaves]
    ends = np.cumsum([leaf.size for leaf in leaves])
    theta = np.concatenate([leaf.ravel() for leaf in leaves])
    chosen = np.random.default_rng(0).choice(total, min(sample, total), replace=False)

    @jax.jit
    def J(theta, X, Y):
        parts = [part.reshape(shape) for part, shape in zip(jnp.split(theta, ends[:-1]), shapes, strict=True)]
        return loss(jax.tree.unflatten(treedef, parts), X, Y)

    with jax.enable_x64(True):
        X, Y = jnp.asarray(X), jnp.asarray(Y)

    def loop():
        with jax.enable_x64(True):
            for i in chosen:
                moved = theta.copy()
                moved[i] += 1e-6
                above = float(J(moved, X, Y))
                moved[i] -= 2e-6
                _ = (above - float(J(moved, X, Y))) / 2e-6

    loop()
    return loop, len(chosen) / total


def torch_slow(params, X, Y) -> tuple[Callable[[], None], int]:
    """gradcheck on the same network, and the number of threads that suits it best (more can be slower)."""
    import torch

    X, Y = torch.tensor(X), torch.tensor(Y)
    leaves = [torch.tensor(layer[name], requires_grad=True) for layer in params for name in ("W", "b")]

    def J(*leaves):
        A = X
        for W, b in zip(leaves[:-2:2], leaves[1:-2:2], strict=True):
            A = torch.tanh(A @ W + b)
        return ((A @ leaves[-2] + leaves[-1] - Y) ** 2).mean()

    def forwards():
        for _ in range(500):
            J(*leaves)

    default, taken = torch.get_num_threads(), {}
    for threads in {1, default}:
        torch.set_num_threads(threads)
        forwards()
        taken[threads] = repeated(forwards, 3)["median"]
    best = min(taken, key=lambda threads: taken[threads])
    torch.set_num_threads(best)
    return (lambda: torch.autograd.gradcheck(J, leaves, fast_mode=False)), best


def chunks(check: Callable, sizes: list[int]) -> dict[str, Any]:
    """The run time for each number of rows per batch, for both schemes."""
    result = {}
    for size in sizes:
        result[size] = {
            "two steps": cold_and_warm(lambda size=size: check(jc.Exhaustive(chunk=size)), 3),
            "textbook": cold_and_warm(lambda size=size: check(jc.Exhaustive(step=1e-6, chunk=size)), 3),
        }
    rows = [
        [
            size,
            *(
                x
                for way in ways.values()
                for x in (way["run"]["median"], statistics.median(way["run"]["cpu"]), way["compile"])
            ),
        ]
        for size, ways in result.items()
    ]
    header = ["rows per batch", "two steps", "CPU time", "compile", "textbook", "CPU time", "compile"]
    show("a. by chunk", header, rows)
    return result


# Runs in a process of its own, where nothing is compiled. Each function is made anew from its text, because a
# check that has seen this very program compiles nothing.
SMALL = """
import json, sys, time
import numpy as np
import jax, jax.numpy as jnp
from jax.test_util import check_grads
import jaxcheck as jc
import jaxcheck.check.calls

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(16, 6)).astype(np.float32), rng.normal(size=(16, 3)).astype(np.float32)
params = {"W": rng.normal(size=(6, 3)).astype(np.float32), "b": rng.normal(size=3).astype(np.float32)}

def fresh(constant):
    def loss(p):
        return jnp.mean((jnp.tanh(X @ p["W"] + p["b"]) * constant - Y) ** 2)
    return loss

def peer(f):
    check_grads(f, (params,), 1, modes=["rev"])

def own(f):
    report = jc.check_grad(f, params)
    assert report.ok, report

check = {"peer": peer, "own": own}[sys.argv[1]]
jnp.zeros(3).block_until_ready()

def timed(f):
    start = time.perf_counter()
    check(f)
    return time.perf_counter() - start

f = fresh(1.25)
first, again = timed(f), [timed(f) for _ in range(5)]
new = [timed(fresh(1.5 + i)) for i in range(3)]
print(json.dumps({"first": first, "again": again, "new": new}))
"""


def child(code: str, *args: str) -> Any:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode:
        raise RuntimeError(f"a child process failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def small(options: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {}
    rows = []
    names = {"own": "jaxcheck check_grad", "peer": "jax.test_util.check_grads, order 1, rev"}
    for who, name in names.items():
        runs = [child(SMALL, who) for _ in range(3)]
        timings = {
            "first in a process": [run["first"] for run in runs],
            "a new function": [t for run in runs for t in run["new"]],
            "the same again": [t for run in runs for t in run["again"]],
        }
        result[name] = {k: {"median": statistics.median(v), "every": v} for k, v in timings.items()}
        rows.append([name, *(result[name][k]["median"] for k in timings)])
    own, peer = rows
    rows.append(["ratio", *(ratio(a, b) for a, b in zip(own[1:], peer[1:], strict=True))])
    title = "b. a small function (tanh layer 6x3, batch 16); both have their verdict then"
    show(title, ["check", "first in a process", "a new function", "the same again"], rows)
    return result


def growing(options: argparse.Namespace) -> dict[str, Any]:
    shapes = [(24, 24, 12, 10), (256, 256, 128, 10)] + ([] if options.quick else [(768, 768, 512, 10)])
    result, rows = {}, []
    for sizes in shapes:
        params, X, Y = mlp(sizes, 32)
        total = count(params)
        gradient = jax.jit(backprop)
        with jax.enable_x64(True):
            jax.block_until_ready(gradient(params, X, Y))
            one = repeated(lambda: jax.block_until_ready(gradient(params, X, Y)), 5)  # noqa: B023
        reports = []
        way = cold_and_warm(lambda: reports.append(jc.check_grad(loss, params, grad=backprop, args=(X, Y))), 3)  # noqa: B023
        report = reports[-1]
        way |= {
            "parameters": total,
            "mode": report.mode,
            "evaluations": report.evaluations,
            "verdict": report.verdict.value,
            "one gradient": one,
        }
        result["-".join(map(str, sizes))] = way
        rows.append(
            [
                f"{total:,}",
                report.mode,
                f"{report.evaluations:,}",
                report.verdict.value,
                way["first"],
                way["run"]["median"],
                one["median"],
                ratio(way["run"]["median"], one["median"]),
            ]
        )
    header = ["P", "mode", "evaluations", "verdict", "first", "again", "one gradient", "again / gradient"]
    show("c. check_grad by default on tanh MLPs, batch 32", header, rows)
    return result


def batch(options: argparse.Namespace) -> dict[str, Any]:
    def skipped(why: str) -> dict[str, Any]:
        tell(f"d. check_batch beside a loop of check_grad: skipped: {why}")
        return {"skipped": why}

    try:
        from jaxcheck import check_batch
    except (ImportError, AttributeError):
        return skipped("not built")
    points = [100] if options.quick or jax.default_backend() == "cpu" else [100, 10_000]
    result, rows = {}, []
    _, X, Y = mlp((4, 5, 3, 1), 7)

    def of_dict(params, X, Y):
        return loss(params["layers"], X, Y)

    def backprop_of_dict(params, X, Y):
        return {"layers": backprop(params["layers"], X, Y)}

    for n in points:
        # A dict at the top: stacked layers in a list look like a list of points.
        each = [{"layers": mlp((4, 5, 3, 1), 7, seed=seed)[0]} for seed in range(n)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
        reports = []

        def together(stacked=stacked, reports=reports):
            reports.append(check_batch(of_dict, stacked, grad=backprop_of_dict, args=(X, Y)))

        def one_by_one(each=each):
            for params in each:
                jc.check_grad(of_dict, params, grad=backprop_of_dict, args=(X, Y))

        try:
            own = cold_and_warm(together, 3)
        except NotImplementedError:
            return skipped("not built")
        entry: dict[str, Any] = {"check_batch": own, "verdict": reports[-1].verdict.value}
        if n <= 100:
            loop = entry["loop"] = cold_and_warm(one_by_one, 3)
            where = [loop["first"], loop["run"]["median"]]
        else:  # the loop's cost per point does not depend on how many there are
            scale = n / 100
            where = [result[100]["loop"]["first"] * scale, result[100]["loop"]["run"]["median"] * scale]
            entry["loop"] = {"note": "scaled from 100 points", "first": where[0], "run": {"median": where[1]}}
        result[n] = entry
        rows.append(
            [
                f"{n:,}",
                own["first"],
                own["run"]["median"],
                *where,
                ratio(where[0], own["first"]),
                ratio(where[1], own["run"]["median"]),
            ]
        )
    header = ["points", "check_batch first", "again", "loop first", "again", "ratio first", "ratio again"]
    show("d. check_batch beside a loop of check_grad, network 4-5-3-1, batch 7", header, rows)
    return result


IMPORT = """
import json, sys, time
start = time.perf_counter()
import jaxcheck
print(json.dumps({"seconds": time.perf_counter() - start, "jax imported": "jax" in sys.modules}))
"""


def importing(options: argparse.Namespace) -> dict[str, Any]:
    runs = [child(IMPORT) for _ in range(5)]
    every = [run["seconds"] for run in runs]
    result = {"median": statistics.median(every), "every": every, "jax imported": any(r["jax imported"] for r in runs)}
    imported = "jax is imported by it" if result["jax imported"] else "jax is not imported by it"
    tell(f"e. import jaxcheck: {seconds(result['median'])} (median of 5 processes); {imported}")
    return result


def machine() -> dict[str, Any]:
    versions = {}
    for name in ("jax", "jaxlib", "numpy", "torch", "jaxcheck"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": cpus,
        "cpu": cpu_model(),
        "backend": jax.default_backend(),
        "devices": [d.device_kind for d in jax.devices()],
        "load average at the start": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"), help="folder for benchmark.json")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run, not how fast")
    parser.add_argument("--only", default=SECTIONS, help="parts to run, e.g. a,b or ab")
    parser.add_argument(
        "--chunks",
        type=lambda s: [int(x) for x in s.split(",")],
        default=[],
        help="in part a, also time these rows per batch",
    )
    options = parser.parse_args(arguments)
    wanted = options.only.replace(",", "")
    if not wanted or set(wanted) - set(SECTIONS):
        parser.error(f"--only {options.only}: parts are {', '.join(SECTIONS)}")
    result: dict[str, Any] = {"machine": machine(), "quick": options.quick}
    about = result["machine"]
    tell(
        f"{about['cpu']}, {about['cpus']} cores, {about['backend']}: {', '.join(about['devices'])}; "
        + ", ".join(f"{name} {version or '(none)'}" for name, version in about["versions"].items())
    )
    parts = dict(zip(SECTIONS, (exhaustive, small, growing, batch, importing), strict=True))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "benchmark.json"
    for letter in SECTIONS:
        if letter in wanted:
            result[letter] = parts[letter](options)
            # After every part, so that a run that is cut off leaves what it has.
            path.write_text(json.dumps(result, indent=1) + "\n")
    tell(f"every timing: {path}")
    return result


if __name__ == "__main__":
    main()
