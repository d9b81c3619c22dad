"""The page on long runs: its code runs, and its counts are those of the package."""

from __future__ import annotations

import re
from pathlib import Path

from jaxcheck.evidence import flat

PAGE = (Path(__file__).parent.parent / "docs" / "long_runs.md").read_text(encoding="utf-8")


def test_its_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "long_runs.md", "exec"), {})
    assert [x.name for x in tmp_path.iterdir()] == ["block.sqlite"]


def test_its_counts_are_what_a_check_takes():
    points = len(flat.LADDER.offsets)
    assert flat.DIRECTIONS == 2 and "two random directions" in PAGE and f"each at {points} points" in PAGE
    assert f"| PASS | {flat.DIRECTIONS * points + 1} | 8 | 2 |" in PAGE
