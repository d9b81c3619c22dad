"""Writes the pages and the picture that are made from the package and from measurements:

    python docs/made.py

reasons.md from the texts of `jaxcheck explain`, figures.md from tests/benchmarks/results/, failing_report.svg from the
run of the tutorial's page. The tests say when one of the pages is not what this would write.
"""

from __future__ import annotations

import io
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import pages  # noqa: E402

from jaxcheck.report.terms import SETTING, TERMS, Term  # noqa: E402
from jaxcheck.result import Reason  # noqa: E402

RESULTS = DOCS.parent / "tests" / "benchmarks" / "results"
REASONS = f"""\
# Every reason and every word

Made by `python docs/made.py` from what `jaxcheck explain` says and the page of a report shows as hints.
`jaxcheck explain KINK` prints one of these in a terminal; `jaxcheck explain report.json` those that a saved report
needs. Every example runs as it stands after these lines, and leaves a `report`:

```python
{SETTING}```

## Reasons
"""
FIGURES = """\
# Figures

Made by `python docs/made.py` from the files in `tests/benchmarks/results/`. Each table says which command measured it.
Times are of one machine and of little use elsewhere; ratios within one run say more.
"""


def reasons() -> str:
    parts = [REASONS, *(_term(TERMS[one.name.casefold()]) for one in Reason), "## Words\n"]
    parts += [_term(term) for term in TERMS.values() if term.name not in Reason.__members__]
    return "\n".join(parts)


def _term(term: Term) -> str:
    text = f"### {term.name}\n\n{_escaped(term.meaning)}\n"
    if term.example:
        text += f"\n```python\n{term.example}\n```\n"
    if term.todo:
        text += f"\n**What to do.** {_escaped(term.todo)}\n"
    return text


def _escaped(text: str) -> str:
    """As Markdown that shows these characters: names with two underscores, `||M||`, angle brackets."""
    spans = re.split(r"(`[^`]*`)", text)
    return "".join(span if span.startswith("`") else re.sub(r"([_*<|])", r"\\\1", span) for span in spans)


def figures() -> str:
    speed = json.loads((RESULTS / "cpu-2-cores.json").read_text(encoding="utf-8"))
    layers = json.loads((RESULTS / "cpu-2-cores-layers.json").read_text(encoding="utf-8"))
    caught = json.loads((RESULTS / "caught.json").read_text(encoding="utf-8"))
    gpu = json.loads((RESULTS / "nvidia-h100.json").read_text(encoding="utf-8"))
    return "\n".join(
        [
            FIGURES,
            *_caught(caught),
            *_every_component(speed),
            *_small(speed["b"]),
            *_points(speed["d"]),
            *_on_gpu(gpu),
            *_layers(layers),
        ]
    )


def _caught(found: dict[str, Any]) -> list[str]:
    rows, inputs, outputs = found["shape"]
    head = (
        "## The smallest error that is caught\n\nIn the gradient of a tanh layer, "
        f"{inputs} to {outputs}, batch {rows}: a "
        "factor 1 + s on the whole gradient of its weights, or one entry off by s of its norm. The smallest s, in "
        f"half-decades, that each of {found['draws']} draws of directions catches with all larger ones, by "
        f"the defaults of each; JAX {found['jax']}.\n\n    python -m tests.benchmarks.caught\n"
    )
    lines = ["| check | factor | one entry |", "|---|---:|---:|"]
    for name, way in found["ways"].items():
        cells = ["none" if way[kind] is None else f"{way[kind]:.1e}" for kind in ("factor", "one entry")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [head, "\n".join(lines) + "\n"]


def _machine(found: dict[str, Any]) -> str:
    versions = found["versions"]
    return (
        f"{found['cpus']} cores of an {found['cpu']}, Python {found['python']}, JAX {versions['jax']}, "
        f"NumPy {versions['numpy']}, PyTorch {versions['torch']}"
    )


def _every_component(speed: dict[str, Any]) -> list[str]:
    found = speed["a"]
    sizes = "-".join(map(str, found["sizes"]))
    head = (
        f"## Every component of a {sizes} network\n\n{found['parameters']:,} parameters, batch {found['batch']}, "
        f"float64; median of {len(next(iter(found['ways'].values()))['run']['every'])} runs, warm. "
        f"{_machine(speed['machine'])}.\n\n    python -m tests.benchmarks.run --only a\n"
    )
    rows = ["| way | seconds | first call, compilation included |", "|---|---:|---:|"]
    for name, way in found["ways"].items():
        note = f" ({way['note']})" if "note" in way else ""
        rows.append(f"| {name}{note} | {way['run']['median']:.2f} | {_seconds(way.get('first'))} |")
    return [head, "\n".join(rows) + "\n"]


def _seconds(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def _small(found: dict[str, Any]) -> list[str]:
    head = "## A small function\n\nThe first verdict in a process, and later ones, in seconds.\n"
    rows = ["| way | first in a process | a new function | the same again |", "|---|---:|---:|---:|"]
    rows += [
        "| "
        + " | ".join(
            [name, *(f"{way[key]['median']:.3f}" for key in ("first in a process", "a new function", "the same again"))]
        )
        + " |"
        for name, way in found.items()
    ]
    return [head, "    python -m tests.benchmarks.run --only b\n", "\n".join(rows) + "\n"]


def _points(found: dict[str, Any]) -> list[str]:
    lines = [
        f"- {count} points: `check_batch` {way['check_batch']['first']:.2f} s the first time and "
        f"{way['check_batch']['run']['median']:.2f} s again; a loop of `check_grad` {way['loop']['first']:.2f} s "
        f"and {way['loop']['run']['median']:.2f} s."
        for count, way in found.items()
    ]
    return ["## Many points\n\n    python -m tests.benchmarks.run --only d\n", "\n".join(lines) + "\n"]


GPU = {
    "exhaustive": "every component of a tanh MLP of 1,000,000 parameters, batch 128, float64",
    "points": "10,000 points of a network of 3 layers",
    "sketch": "random directions of a transformer of 124 million parameters",
}


def _on_gpu(found: dict[str, Any]) -> list[str]:
    head = f"## On a GPU\n\nSeconds; {found['device']}, JAX {found['jax']}.\n\n    python -m tests.benchmarks.gpu\n"
    rows = ["| check | first | again |", "|---|---:|---:|"]
    for name, what in GPU.items():
        one = found[name]
        cells = [_seconds(one.get(key)) for key in ("first", "second")]
        rows.append(f"| {what} | {' | '.join(cells)} |" if "first" in one else f"| {what} | {one['said']} | |")
    return [head, "\n".join(rows) + "\n"]


def _layers(found: dict[str, Any]) -> list[str]:
    timed, doors = found["layers"], ("drop-in", "check_grad", "check_rule")
    ratios = {
        door: statistics.median(way[door]["seconds"] / way["peer"]["seconds"] for way in timed.values())
        for door in doors
    }
    said = "; ".join(f"`{door}` {ratio:.2f}" for door, ratio in ratios.items())
    head = (
        f"## {len(timed)} layers and functions, cold\n\nSeconds of a first check, compilation included, caches "
        f"cleared before each; JAX {found['jax']}. The peer is `jax.test_util.check_grads`, the drop-in "
        f"`jaxcheck.test_util.check_grads`. The median ratio to the peer: {said}. What was raised "
        "stands beside its time.\n\n    python -m tests.benchmarks.layers\n"
    )
    rows = ["| function | JAX's check_grads | drop-in | check_grad | check_rule |", "|---|---:|---:|---:|---:|"]
    for name, way in timed.items():
        rows.append(f"| {name} | " + " | ".join(_timed(way[key]) for key in ("peer", *doors)) + " |")
    return [head, "\n".join(rows) + "\n"]


def _timed(one: dict[str, Any]) -> str:
    raised = re.match(r"(\w+Error)\b", one["said"])
    return f"{one['seconds']:.2f}" + (f" ({raised[1]})" if raised else "")


def picture() -> str:
    """The failing report of the tutorial, as rich draws a terminal; no font is fetched from elsewhere."""
    from rich._export_format import CONSOLE_SVG_FORMAT
    from rich.console import Console

    with tempfile.TemporaryDirectory() as folder:
        report = pages.run(DOCS / "start.md", Path(folder), shell=False)["wrong"]
    console = Console(record=True, width=108, file=io.StringIO(), force_terminal=True)
    console.print(report)
    form = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="print(report)", code_format=form.replace("Fira Code, ", ""), unique_id="report")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main() -> None:
    for name, make in (("reasons.md", reasons), ("figures.md", figures), ("failing_report.svg", picture)):
        (DOCS / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
