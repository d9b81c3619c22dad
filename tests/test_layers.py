"""The house of the design, held by the source itself: who may import whom, and what nobody may write.

The rules read the syntax tree, not what happens to be imported at run time, so that imports inside
functions and under TYPE_CHECKING count as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxcheck"

# Low to high. A module may import its own layer and those below; cycles are excluded separately.
LAYERS = (
    (
        "bars",
        "foreign",
        "formula",
        "reasons",
        "records",
        "result",
        "theta",
        "options",
        "case",
        "progress",
        "notebook",
        "documented",
        "session",
        "tracebacks",
        "friends",
        "budget",
        "there",
        "threads",
        "records_drawn",
        "store",
        "store_file",
    ),
    ("program",),
    ("problem",),
    ("evidence",),
    ("judgement",),
    ("check",),
    ("test_util", "faces", "cli", "demo", "pytest_plugin", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
TOP = len(LAYERS) - 1
# A report renders itself through `report`, and the package loads its names when they are used.
MAY_IMPORT_BY_NAME = {"records", "__init__"}

LONGEST = 300
# What passes sentence, and who may not.
SENTENCES = {"Verdict", "Reason", "Status", "Row"}
MEASURES = ("program", "problem", "evidence")


def modules() -> dict[str, str]:
    """Dotted names below `jaxcheck` with their sources; a package goes by its own name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(parts)] = file.read_text(encoding="utf-8")
    return found


def imports(name: str, source: str, known: set[str]) -> Iterator[str]:
    """Full names of what a module imports; `from jaxcheck.report import text` is `jaxcheck.report.text`."""
    is_package = name == "__init__" or any(other.startswith(f"{name}.") for other in known)
    here = ["jaxcheck", *name.split(".")]
    package = ["jaxcheck"] if name == "__init__" else here if is_package else here[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                belongs = module == "jaxcheck" or inner.removeprefix("jaxcheck.") in known
                yield inner if belongs or not module.startswith("jaxcheck") else module
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jax":
            yield f"jax.{node.attr}"


def is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def violations(sources: dict[str, str]) -> list[str]:
    """Every broken rule, one sentence each."""
    known = set(sources)
    return [said for name, source in sources.items() for said in _violations_of(name, source, known)]


def _violations_of(name: str, source: str, known: set[str]) -> Iterator[str]:
    room, rooms = name.split(".")[0], {module.split(".")[0] for module in known}
    if room not in RANK and room not in ("report", "__init__"):
        yield f"{name} has no layer; give it one in LAYERS"
        return
    for target in imports(name, source, known):
        if is_under(target, "jax._src") and room != "program":
            yield f"{name} uses the private {target}"
        if is_under(target, "jax.extend") and room != "program":
            yield f"{name} uses {target}, which belongs in program"
        if not is_under(target, "jaxcheck") or room == "__init__":
            continue
        other = target.removeprefix("jaxcheck").removeprefix(".").split(".")[0]
        if other not in RANK and other not in rooms:
            yield f"{name} imports {target} from the package's front; import it from where it lives"
        elif room == "report":
            if other not in ("report", "result"):
                yield f"{name} imports {target}; report sees result only"
        elif other == "report":
            if RANK[room] < TOP:
                yield f"{name} imports {target}; only the top layer shows reports"
        elif other in RANK and RANK[other] > RANK[room]:
            yield f"{name} imports {target}, a layer above it"
    for node in ast.walk(ast.parse(source)):
        taken = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
        if room in MEASURES and taken & SENTENCES:
            yield f"{name}:{node.lineno} knows verdicts; what measures passes no sentence"
        if isinstance(node, ast.Assert):
            yield f"{name}:{node.lineno} has an assert; python -O removes it, raise instead"
        called = node.func if isinstance(node, ast.Call) else None
        spelled = getattr(called, "attr", getattr(called, "id", ""))
        if spelled in ("import_module", "__import__") and name not in MAY_IMPORT_BY_NAME:
            yield f"{name}:{node.lineno} imports by name, which hides it from these rules"


def cycle(sources: dict[str, str]) -> list[str]:
    """A chain of modules that import each other, or []. The package's front, which loads late, is left out."""
    known = set(sources) - {"__init__"}
    graph = {
        name: {t.removeprefix("jaxcheck.") for t in imports(name, sources[name], set(sources))} & known
        for name in known
    }
    done: set[str] = set()

    def visit(name: str, chain: list[str]) -> list[str]:
        if name in chain:
            return [*chain[chain.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name] - {name}):
            if found := visit(other, [*chain, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(known) if (found := visit(name, []))), [])


def test_imports_point_down():
    assert violations(modules()) == []


def test_no_module_imports_itself_through_others():
    assert cycle(modules()) == []


@pytest.mark.parametrize("name", modules())
def test_files_are_short(name):
    lines = modules()[name].count("\n")
    assert lines <= LONGEST, f"{name} has {lines} lines; split it"


ROOMS = "__init__ result theta options case check cli program program.strip evidence evidence.rows judgement"
HOUSE = dict.fromkeys([*ROOMS.split(), "judgement.vote", "report", "report.text"], "")


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("theta", "import jaxcheck.program.strip", "theta imports jaxcheck.program.strip, a layer above"),
        ("theta", "from jaxcheck.program import strip", "theta imports jaxcheck.program.strip, a layer above"),
        ("theta", "from .check import check_grad", "theta imports jaxcheck.check, a layer above"),
        ("theta", "from . import check", "theta imports jaxcheck.check, a layer above"),
        ("evidence.rows", "from ..judgement.vote import vote", "imports jaxcheck.judgement.vote, a layer above"),
        ("evidence.rows", "from jaxcheck.result import Verdict", "what measures passes no sentence"),
        ("evidence.rows", "def f():\n    from jaxcheck import check", "imports jaxcheck.check, a layer above"),
        ("evidence.rows", "if TYPE_CHECKING:\n    from jaxcheck.check import x", "a layer above"),
        ("program", "from .. import evidence", "program imports jaxcheck.evidence, a layer above"),
        ("report.text", "from jaxcheck.theta import Leaf", "report sees result only"),
        ("check", "from jaxcheck.report import text", "only the top layer shows reports"),
        ("result", "import jaxcheck.report.text", "only the top layer shows reports"),
        ("check", "from jaxcheck import Report", "from the package's front"),
        ("check", "import jaxcheck", "from the package's front"),
        ("check", "from jax._src import core", "uses the private jax._src"),
        ("check", "import jax\njax._src.core", "uses the private jax._src"),
        ("check", "from jax.extend.core import Jaxpr", "belongs in program"),
        ("check", "from jax import extend", "belongs in program"),
        ("check", "import importlib\nimportlib.import_module('jaxcheck.cli')", "check:2 imports by name"),
        ("check", "x = 1\nassert x", "check:2 has an assert"),
        ("drawer", "", "drawer has no layer"),
    ],
)
def test_a_planted_violation_is_caught(name, source, said):
    found = violations(HOUSE | {name: source})
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("cli", "from jaxcheck.report import save\nfrom jaxcheck import check"),
        ("check", "from jaxcheck.evidence.rows import rows\nfrom .judgement import vote\nimport jax.numpy"),
        ("program.strip", "import jax.extend.core\nfrom . import strip\nfrom ..theta import Leaf"),
        ("report.text", "from jaxcheck.report import text\nfrom jaxcheck.result import Report"),
        ("__init__", "from jaxcheck.case import case\nimport_module('jaxcheck.check')"),
        ("records", "importlib.import_module('jaxcheck.report.text')"),
    ],
)
def test_what_is_allowed_is_not_caught(name, source):
    assert violations(HOUSE | {name: source}) == []


def test_a_planted_cycle_is_caught():
    planted = HOUSE | {"theta": "from jaxcheck import options", "options": "def f(): from jaxcheck.theta import g"}
    assert cycle(HOUSE) == []
    assert cycle(planted) == ["options", "theta", "options"]
