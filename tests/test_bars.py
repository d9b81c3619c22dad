"""Every threshold stands once, in `jaxcheck/bars.py`, with a sentence above it; and those that are moved decide."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict, bars
from jaxcheck.check.doubts import rounding
from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.measured import Probes
from jaxcheck.judgement import as_run, kinds, measures
from jaxcheck.judgement.vote import beyond_rounding
from jaxcheck.options import Tolerance
from jaxcheck.theta import Leaf

PACKAGE = Path(bars.__file__).parent
PLAIN = {0.0, 1.0, 2.0, 0.5}
JUDGES = [
    *sorted((PACKAGE / "judgement").glob("*.py")),
    PACKAGE / "options.py",
    *(PACKAGE / "check" / f"{name}.py" for name in ("engine", "writing", "plan", "stopping")),
    *(PACKAGE / "check" / "doubts" / f"{name}.py" for name in ("again", "limits", "limits_maps", "kinks", "rounding")),
]
MEASURES = [file for folder in ("check", "evidence") for file in sorted((PACKAGE / folder).rglob("*.py"))]
BOUNDING = {"max", "min", "maximum", "minimum", "fmax", "fmin", "clip", "allclose", "isclose"}


def bare(source: str) -> list[str]:
    """Float constants that may decide something: in comparisons and all that is compared, in the arguments of maxima
    and minima, in products and sums, and as defaults."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        places: list[ast.AST | None] = []
        if isinstance(node, (ast.Compare, ast.BinOp)):
            places = [node]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in BOUNDING:
            places = [*node.args, *(k.value for k in node.keywords)]
        elif isinstance(node, ast.arguments):
            places = [*node.defaults, *node.kw_defaults]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, (ast.Constant, ast.Tuple)):
            places = [node.value]
        for place in filter(None, places):
            inner = [place] if isinstance(node, ast.arguments) else _outside_random_draws(place)
            found |= {
                (x.lineno, x.value)
                for x in inner
                if isinstance(x, ast.Constant) and isinstance(x.value, float) and x.value not in PLAIN
            }
    return [f"line {line}: {value:g}" for line, value in sorted(found)]


def _outside_random_draws(node: ast.AST):
    """The nodes below one, but for how far a point is moved at random."""
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("uniform", "choice"):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _outside_random_draws(child)


@pytest.mark.parametrize("file", JUDGES, ids=lambda file: file.stem)
def test_no_threshold_outside(file):
    assert bare(file.read_text(encoding="utf-8")) == []


def named(source: str) -> set[int]:
    """The lines of constants with a name, and a sentence above it: a sentence may stand above several; and of fields
    with a default, which the docstring of their class is about."""
    found, told = set(), False
    for number, line in enumerate(source.splitlines(), 1):
        is_one = re.match(r"_?[A-Z][A-Z_0-9]*(, [A-Z_0-9]+)*(: .*)? = ", line) is not None
        told = line.startswith("#") or (told and (is_one or line.startswith((" ", ")", "]", "}"))))
        if (is_one and told) or re.match(r"    [a-z_]+: float = [\d.e-]+$", line):
            found.add(number)
    return found


@pytest.mark.parametrize("file", MEASURES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_number_is_without_a_name_and_a_sentence(file):
    """What measures has settings of its own, such as steps: they stand at the top of a file, and say what they are."""
    source = file.read_text(encoding="utf-8")
    assert [one for one in bare(source) if int(one.split()[1][:-1]) not in named(source)] == []


def test_and_one_that_has_none_is_seen():
    assert named("# Why.\nSTEP = 1e-3\nOTHER = 1e-4\n\nLONE = 1e-5\n\ndef f(x):\n    return x > 1e-3") == {2, 3}
    assert named("class A:\n    first: float = 0.1\n    x = 0.1") == {2}


@pytest.mark.parametrize(
    "source",
    [
        "x > 1e-3",
        "x > 3.0 * y",
        "max(x, 1e-6)",
        "np.minimum(x, 0.1 * y)",
        "def f(x=1e-7): pass",
        "def f(*, x=1e-7): pass",
        "slack = 1e-9 * scale",
        "bar = 1e-15",
        "LOW, HIGH = 1e-3, 1e3",
        "np.allclose(x, y, rtol=1e-6)",
    ],
)
def test_a_planted_threshold_is_found(source):
    assert bare(source)


@pytest.mark.parametrize(
    "source", ["x > 0.5 * y + 2.0", "max(x, 0.0)", "x > BARS * y", "p + NUDGE * rng.uniform(0.5, 1.5)"]
)
def test_what_is_no_threshold_is_not_found(source):
    assert bare(source) == []


def test_every_threshold_has_a_sentence_and_a_reader():
    lines = Path(bars.__file__).read_text(encoding="utf-8").splitlines()
    names = []
    for number, line in enumerate(lines):
        if line[:1].isupper() and " = " in line:
            assert lines[number - 1].startswith("#"), f"{line}: no sentence above it"
            names += [name.strip() for name in line.split(" = ")[0].split(",")]
    words = set()
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        words |= {
            getattr(x, "attr", getattr(x, "id", ""))
            for x in ast.walk(tree)
            if isinstance(x, (ast.Name, ast.Attribute)) and isinstance(x.ctx, ast.Load)
        }
    assert [name for name in names if name not in words] == []
    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", [*JUDGES, *(PACKAGE / "evidence").glob("sides.py")], ids=lambda file: file.stem)
def test_a_threshold_is_defined_nowhere_else(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    defined = {
        t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
    }
    assert not defined & {name for name in vars(bars) if name.isupper()}


@pytest.fixture
def move(monkeypatch):
    """Another value for a threshold, wherever it was imported."""

    def moved(name: str, value) -> None:
        old = getattr(bars, name)
        for module in [m for key, m in sys.modules.items() if key.startswith("jaxcheck")]:
            if vars(module).get(name) is old:
                monkeypatch.setattr(module, name, value)

    return moved


def differences(value: float, error: float, **changed) -> Slopes:
    """Those of one component and one output."""
    one = np.full((1, 1), value)
    no = np.zeros((1, 1), bool)
    names = Slopes.__dataclass_fields__
    given = (
        dict.fromkeys(names, one)
        | {name: np.full((1, 1), error) for name in names if name.endswith("error")}
        | {name: no for name in ("kink", "jump", "one_sided", "noisy", "wakes") if name in names}
        | {"quotients": np.full((1, 1, 6), value)}
    )
    return Slopes(**(given | changed))


def test_bars(move):
    coarse = Probes(differences(1.0, 0.1), indices=np.array([0]))
    fine = Probes(differences(1.8, 0.1), indices=np.array([0]))
    assert len(measures.believed((coarse, fine))) == 2
    move("BARS", 3.0)
    assert len(measures.believed((coarse, fine))) == 1


@pytest.mark.parametrize(("name", "value"), [("CONFIRMED", 1e-7), ("CLOSER", 1e-9)])
def test_quantised(move, name, value):
    slopes = differences(1.001, 1e-9, quotients=np.full((1, 1, 6), 1 + 1e-5))
    claim = np.ones((1, 1))
    assert measures.coarse(slopes, claim, claim).all()
    move(name, value)
    assert not measures.coarse(slopes, claim, claim).any()


def test_only_rounding(move):
    a, b = np.array([[1.0], [1e-14]]), np.array([[1.0], [-1e-14]])
    assert measures.by_column(a, b) == 0
    move("ONLY_ROUNDING", 1e-15)
    assert measures.by_column(a, b) == 1


def test_noisier(move):
    one = np.ones((1, 1))
    ev = SimpleNamespace(m=one, m_error=1e-15 * one, a_error=1e-15 * one, sharp=True)
    seen = SimpleNamespace(error_bar=2e-9)
    assert rounding.bars_matter(ev, Tolerance(), seen)
    move("NOISIER", 30.0)
    assert not rounding.bars_matter(ev, Tolerance(), seen)


@pytest.mark.parametrize(("name", "rtol", "sharp"), [("SHARP", None, True), ("TEXTBOOK", None, False)])
def test_between_programs(move, name, rtol, sharp):
    before = Tolerance(rtol).between_programs(sharp)
    move(name, 7 * before)
    assert Tolerance(rtol).between_programs(sharp) == 7 * before


@pytest.mark.parametrize(("name", "value", "number"), [("FITS", 1e-6, 1.0005), ("ENTRY", 1e-9, 3 + 1e-8)])
def test_numbers_in_hints(move, name, value, number):
    before = kinds.number(number)
    move(name, value)
    assert kinds.number(number) != before


def run(native: float, bar: float | None = None, formula: float = 1.0) -> as_run.LeafRun:
    one = np.ones((1, 1))
    leaf = Leaf("w", (1,), "float32", "float32", False, 0, 0, 1)
    return as_run.LeafRun(leaf, np.ones(1), native * one, formula * one, one, 0.0, None if bar is None else bar * one)


def test_rounded(move):
    lost = run(1.02, bar=0.003)
    assert not as_run.lost(lost, 1e-3, 1e-7).any()
    move("ROUNDED", 1.0)
    assert as_run.lost(lost, 1e-3, 1e-7).any()


def test_nothing_left(move):
    assert not as_run.gone(run(0.6), np.zeros((1, 1)))
    move("NOTHING_LEFT", 0.3)
    assert as_run.gone(run(0.6), np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("SPACINGS", lambda: as_run.lost(run(1.1), 1e-3, 1e-2).any()),
        ("CONSTANTS", lambda: as_run.another_formula(run(1.0, formula=1.005), None, 1e-2).any()),
    ],
)
def test_spacings(move, name, found):
    assert not found()
    move(name, 0.1)
    assert found()


@pytest.mark.parametrize(("name", "apart", "scatter"), [("GROSS", 1e-2, 1e-9), ("OBVIOUS", 1e-2, 1e-6)])
def test_beyond_rounding(move, name, apart, scatter):
    one = np.ones((1, 1))
    ev = SimpleNamespace(m=one, a=(1 + apart) * one, m_error=scatter * one, a_error=scatter * one, m_given=0 * one)
    opinion = SimpleNamespace(reason=Reason.MANUAL_WRONG, doubtful=False, kinks=0)
    assert beyond_rounding(ev, opinion)
    move(name, 1e5)
    assert not beyond_rounding(ev, opinion)


@pytest.mark.parametrize(("name", "exact", "factor"), [("SHARP", True, 1 + 1e-8), ("TEXTBOOK", False, 1 + 1e-6)])
def test_a_check(move, name, exact, factor):
    """What is off by more than its programs' own bound fails, until that bound is wider."""
    x = np.linspace(0.5, 1.5, 3, dtype=np.float64 if exact else np.float32)

    def verdict():
        return jc.check_grad(lambda x: jnp.sum(x**2), x, lambda x: 2 * factor * x).verdict

    with jax.enable_x64(exact):
        assert verdict() is Verdict.FAIL
        move(name, 1e-4)
        assert verdict() is Verdict.PASS
