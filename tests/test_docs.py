"""The documents: what they tell to write runs, what they show is printed, and what is made is up to date."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxcheck
from jaxcheck.report.terms import TERMS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import made  # noqa: E402
import pages  # noqa: E402

PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
# Whole in the default run, commands aside; the others take longer together than all of this file may.
QUICK = {"README.md", "start.md", "recipes/physics.md"}


def name_of(page: Path) -> str:
    return page.name if page.parent == ROOT else page.relative_to(DOCS).as_posix()


@pytest.mark.where
@pytest.mark.parametrize("page", [p for p in PAGES if name_of(p) in QUICK], ids=name_of)
def test_a_page_runs(page, tmp_path):
    pages.run(page, tmp_path, shell=False)


@pytest.mark.slow
@pytest.mark.where
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_runs_with_its_commands(page, tmp_path):
    if "pallas" in page.name:
        pytest.importorskip("jax.experimental.pallas")
    for package in re.findall(r"^(?:import|from) (flax|equinox|optax)\b", page.read_text("utf-8"), re.MULTILINE):
        pytest.importorskip(package, reason=f"{name_of(page)} needs {package} (extra `examples`)")
    pages.run(page, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_names_exists(page):
    for block in pages.blocks(page):
        if block.language == "python" or block.title.endswith(".py"):
            for node in ast.walk(ast.parse(block.text, name_of(page))):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jc":
                    assert node.attr in jaxcheck.__all__, f"{name_of(page)}: jc.{node.attr}"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{name_of(page)}: {target}"


def test_made_pages_are_up_to_date():
    told = "run python docs/made.py"
    assert (DOCS / "reasons.md").read_text("utf-8") == made.reasons(), told
    assert (DOCS / "figures.md").read_text("utf-8") == made.figures(), told
    assert set(re.findall(r"^### (.+)$", made.reasons(), re.MULTILINE)) == {term.name for term in TERMS.values()}


def test_the_picture_is_of_a_failing_report_and_fetches_nothing():
    svg = (DOCS / "failing_report.svg").read_text("utf-8")
    text = " ".join(re.sub(r"<[^>]+>", " ", svg).replace("&#160;", " ").split())
    assert "FAIL" in text and "MANUAL_WRONG" in text and "model.py:" in text
    assert "url(http" not in svg and "@import" not in svg and "href=" not in svg


def test_every_page_is_in_the_menu_and_no_other():
    named = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert named == {name_of(page) for page in PAGES} - {"README.md"}


@pytest.mark.parametrize(("shown", "found"), [("PASS 12 leaves", True), ("FAIL", False), ("one\nnothing", False)])
def test_what_is_shown_and_not_printed_is_found(shown, found):
    printed = "one\nPASS   3 leaves, floor 1e-7\n"
    if found:
        return pages.missing(shown, printed, "here")
    with pytest.raises(AssertionError, match="shows what is not printed"):
        pages.missing(shown, printed, "here")


def test_a_page_with_a_mistake_is_found(tmp_path):
    page = tmp_path / "wrong.md"
    page.write_text("```python\nprint('here')\n```\n\n```text\nthere\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"wrong\.md:6 shows what is not printed there: 'there'"):
        pages.run(page, tmp_path)


@pytest.mark.slow
def test_what_the_figures_say_of_small_errors_is_so():
    from tests.benchmarks import caught

    found = json.loads((caught.ROOT / "caught.json").read_text("utf-8"))["ways"]
    assert set(found) == set(caught.WAYS)
    for name in (name for name in found if "directions" not in name):
        size = found[name]["one entry"]
        assert caught.WAYS[name](caught.spoilt(size, "one entry"), 0), name
        assert not caught.WAYS[name](caught.spoilt(size / 30, "one entry"), 0), name


@pytest.mark.slow
def test_the_site_builds_and_fetches_nothing(tmp_path):
    if importlib.util.find_spec("material") is None:
        pytest.skip("no mkdocs-material: pip install '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    html = (tmp_path / "site" / "index.html").read_text("utf-8")
    fetched = re.findall(r'(?:src|<link[^>]+stylesheet"[^>]+href)="(https?://[^"]+)', html)
    assert fetched == [] and "fonts.googleapis" not in html
    assert not list((tmp_path / "site").rglob("*.py"))
