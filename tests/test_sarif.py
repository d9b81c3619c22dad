"""SARIF: a finding stands at the line that is wrong, or at the function; what passed is no finding."""

from __future__ import annotations

import dataclasses
import json

import pytest
from handmade import NAN, batch, failing, inconclusive, leaf, passing, rule, strange

from jaxcheck.records_drawn import Line, Made
from jaxcheck.report import culprits, html, sarif, save
from jaxcheck.result import Culprit, Reason, Report, Row, Verdict

WRONG_LINE = "    dv = p.T @ dc  # é"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blamed(folder, **changed) -> Report:
    file = str(folder / "my model.py")
    culprit = Culprit(file, 47, WRONG_LINE.strip(), "dv = dc @ p", "`dc @ p` for `p.T @ dc`", "line", ("layers[1].W",))
    made = Made("2026-01-02T03:04:05Z", (("jaxcheck", "1.2.3"),), "cpu", file, 40, (Line(file, 47, WRONG_LINE),))
    return failing(**{**dict(culprits=(culprit,), made=made), **changed})


def results(*reports: Report) -> list[dict]:
    (run,) = sarif.render(reports)["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
    return run["results"]


def test_a_finding_stands_at_the_wrong_line_with_what_makes_it_right(here):
    (found,) = results(blamed(here))
    (place,) = found["locations"]
    assert place["physicalLocation"] == {
        "artifactLocation": {"uri": "my%20model.py", "uriBaseId": "SRCROOT"},
        "region": {"startLine": 47, "snippet": {"text": WRONG_LINE}},
    }
    assert found["level"] == "error" and "ratio 2.000" in found["message"]["text"]
    (change,) = found["fixes"][0]["artifactChanges"]
    (replaced,) = change["replacements"]
    region = replaced["deletedRegion"]
    mended = (
        WRONG_LINE[: region["startColumn"] - 1]
        + replaced["insertedContent"]["text"]
        + WRONG_LINE[region["endColumn"] - 1 :]
    )
    assert mended == "    dv = dc @ p"


def test_without_a_line_it_stands_at_the_function_or_nowhere(here):
    (found,) = results(blamed(here, culprits=()))
    assert found["locations"][0]["physicalLocation"]["region"] == {"startLine": 40} and "fixes" not in found
    elsewhere = dataclasses.replace(blamed(here).made, file="/opt/lib/m.py")
    (found,) = results(blamed(here, culprits=(), made=elsewhere))
    assert found["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "file:///opt/lib/m.py"}
    assert results(failing())[0]["locations"] == []


def test_one_of_several_lines(here):
    first = dataclasses.replace(blamed(here).culprits[0], kind="one of")
    (found,) = results(blamed(here, culprits=(first, dataclasses.replace(first, line=50))))
    assert [one["physicalLocation"]["region"]["startLine"] for one in found["relatedLocations"]] == [50]
    assert "fixes" not in found and "One of several lines" in found["message"]["text"]


def test_two_mistakes_have_a_place_and_a_change_each(here):
    first = blamed(here).culprits[0]
    both = (first, dataclasses.replace(first, line=first.line + 1, leaves=("layers[0].W",)))
    report = blamed(here, culprits=both)
    (found,) = results(report)
    text = found["message"]["text"]
    assert text.count("right.") == 2 and "`layers[0].W` is right" in text and "several" not in text
    assert len(found["locations"]) == len(found["relatedLocations"]) == 1
    assert [said for said, _ in culprits.mistakes(report)] == [x for x in culprits.lines(report) if "changed" in x]
    page = html.page(report)
    assert page.count("is right, here and at another point") >= 2


def test_a_line_that_is_no_longer_the_same_is_not_replaced(here):
    moved = dataclasses.replace(blamed(here).made, source=(Line(blamed(here).made.file, 47, "    something else"),))
    assert "fixes" not in results(blamed(here, made=moved))[0]


def test_what_is_a_finding():
    assert results(passing()) == []
    assert [(one["ruleId"], one["level"]) for one in results(inconclusive())] == [("NONDETERMINISTIC", "warning")]
    assert [one["ruleId"] for one in results(rule())] == ["LAW_BROKEN"]
    assert "8 of 100 points" in results(batch())[0]["message"]["text"] and len(results(batch())) == 1
    mixed = failing(
        leaves=(*failing().leaves, leaf("c", Verdict.INCONCLUSIVE, Reason.NOISE)),
        rows=(Row("law", "linear", "WRONG"), Row("law", "zero", "OK")),
    )
    assert [(one["ruleId"], one["level"]) for one in results(mixed)] == [
        ("MANUAL_WRONG", "error"),
        ("NOISE", "warning"),
        ("LAW_BROKEN", "error"),
    ]
    alone = failing(leaves=(), reason=Reason.STRUCTURE, notes=("the trees differ",), difference=NAN)
    assert [one["ruleId"] for one in results(alone)] == ["STRUCTURE"]


def test_a_finding_is_the_same_wherever_its_line_is(here):
    prints = [results(one)[0]["partialFingerprints"] for one in (blamed(here), blamed(here, culprits=()), failing())]
    assert prints[0] == prints[1] == prints[2]
    assert results(failing(name="another"))[0]["partialFingerprints"] != prints[0]


def test_the_file_says_what_it_is(here):
    save.save_all([blamed(here), strange()], "a.sarif", [("case", "raised")])
    data = json.loads((here / "a.sarif").read_text(encoding="utf-8"))
    assert data["version"] == "2.1.0" and data["$schema"].endswith("sarif-2.1.0.json")
    driver = data["runs"][0]["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("jaxcheck", "1.2.3")
    assert data["runs"][0]["invocations"][0]["executionSuccessful"] is False
    assert data["runs"][0]["originalUriBaseIds"]["SRCROOT"]["uri"].endswith("/")
