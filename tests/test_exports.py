"""The public names are a list, and the list is what is there."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import jaxcheck


def test_the_list_is_the_directory():
    assert dir(jaxcheck) == sorted(jaxcheck.__all__)
    assert len(set(jaxcheck.__all__)) == len(jaxcheck.__all__)


@pytest.mark.parametrize("name", jaxcheck.__all__)
def test_every_public_name_is_there_and_explained(name):
    value = getattr(jaxcheck, name)
    if name != "__version__":
        assert inspect.getdoc(value)


def test_what_type_checkers_see_is_what_is_loaded():
    source = Path(jaxcheck.__file__).read_text(encoding="utf-8")
    blocks = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    seen = {
        (node.module, alias.name)
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {(module, name) for name, module in jaxcheck._MODULE_OF.items()}
    assert {name for _, name in seen} | {"case", "__version__"} == set(jaxcheck.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'jaxcheck' has no attribute 'check_gard'"):
        _ = jaxcheck.check_gard
    assert not hasattr(jaxcheck, "audit")


@pytest.mark.parametrize(
    "code",
    [
        "import jaxcheck.case, jaxcheck; assert callable(jaxcheck.case)",
        "import jaxcheck.cli, jaxcheck; assert callable(jaxcheck.case)",
        "from jaxcheck import case; assert callable(case)",
        "from jaxcheck.case import case; assert callable(case)",
    ],
)
def test_case_is_the_decorator_whatever_is_imported_first(code):
    subprocess.run([sys.executable, "-c", code], check=True)


RECORDS = ["Report", "LeafResult", "Component", "Culprit", "Witness", "Row", "Point"]


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_says_what_it_is_in_help_and_where_an_editor_looks(name):
    cls = getattr(jaxcheck, name)
    said = inspect.getdoc(cls) or ""
    assert said.startswith(ast.get_docstring(_source_of(name)) or "nothing")
    for field in dataclasses.fields(cls):
        assert re.search(rf"^    {field.name}: \S", said, re.M), field.name
    body = _source_of(name).body
    bare = [a.target.id for a, b in pairwise(body) if isinstance(a, ast.AnnAssign) and not isinstance(b, ast.Expr)]
    assert bare == []


def _source_of(name: str) -> ast.ClassDef:
    file = Path(jaxcheck.__file__).with_name("result.py" if name == "Report" else "records.py")
    classes = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    return next(node for node in classes if node.name == name)


def test_the_version_is_the_one_of_the_changelog():
    root = Path(__file__).parent.parent
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = next(line for line in changelog.splitlines() if line.startswith("## ["))
    declared = next(line for line in (root / "pyproject.toml").read_text().splitlines() if line.startswith("version"))
    assert newest.removeprefix("## [").split("]")[0] == declared.split('"')[1]
    assert jaxcheck.__version__ in (declared.split('"')[1], "0+unknown")
