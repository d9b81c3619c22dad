"""The data itself: formula (2), what a report says of itself, and its way through pickle and JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import sys
import types

import numpy as np
import pytest
from handmade import failing, inconclusive, leaf, passing, strange, whole

from jaxcheck.formula import formula2, norms
from jaxcheck.report import save
from jaxcheck.result import (
    NAN,
    GradientInconclusive,
    GradientMismatch,
    LeafResult,
    Reason,
    Report,
    Row,
    Verdict,
)

MADE = {"passing": passing, "failing": failing, "inconclusive": inconclusive, "strange": strange}


@pytest.fixture(params=MADE, name="report")
def _report(request) -> Report:
    return MADE[request.param]()


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([0.0], [0.0], 0.0),
        ([], [], 0.0),
        ([1.0], [-1.0], 1.0),
        ([2.0], [1.0], 1 / 3),
        ([2e-200], [1e-200], 1 / 3),
        ([2e200, 0], [1e200, 0], 1 / 3),
        ([[2j]], [[1j]], 1 / 3),
        ([np.nan], [1.0], np.nan),
        ([np.inf], [np.inf], np.nan),
    ],
)
def test_formula2(a, b, expected):
    assert formula2(np.array(a), np.array(b)) == pytest.approx(expected, rel=1e-15, nan_ok=True)


def test_only_pass_is_ok():
    assert passing().ok
    assert passing().assert_ok().ok
    assert not failing().ok
    assert not inconclusive().ok


@pytest.mark.parametrize("make", [passing, failing, inconclusive])
def test_a_report_is_true_where_it_passed(make):
    report = make()
    assert bool(report) is report.ok is (report.verdict == "PASS")
    if report.verdict == "PASS":
        assert report
    else:
        with pytest.raises(AssertionError):
            assert report


@pytest.mark.parametrize("member", [*Verdict, *Reason], ids=str)
def test_verdicts_and_reasons_are_their_names(member):
    assert member == member.name == member.value == str(member) == f"{member}"
    assert type(member)(member.name) is member
    assert member != member.name.lower()
    assert {member.name: 1}[member] == 1
    assert json.dumps([member]) == f'["{member.name}"]'
    for again in (pickle.loads(pickle.dumps(member)), copy.deepcopy(member)):
        assert again is member


CAUSES = {
    GradientMismatch: "`layers[1].W` ratio 2.000 +- 1e-9 on all 15 entries (loss)",
    GradientInconclusive: "NONDETERMINISTIC: `W1` (loss)",
}


@pytest.mark.parametrize(
    ("report", "error"), [(failing(), GradientMismatch), (inconclusive(), GradientInconclusive)], ids=["fail", "inc"]
)
def test_assert_ok_raises_with_the_report(report, error):
    with pytest.raises(error) as caught:
        report.assert_ok()
    assert caught.value.report is report
    assert isinstance(caught.value, AssertionError)
    said = str(caught.value)
    assert said.startswith(CAUSES[error] + "\n\n")
    assert said.endswith(str(report)) and said.count(report.reason.advice[:40]) == 1
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is error
    assert str(again) == said


def test_a_leaf_by_its_path():
    assert failing().leaf("layers[1].W").verdict is Verdict.FAIL
    with pytest.raises(KeyError, match=r"no leaf 'W9'; this report has \['layers\[0\].W', 'layers\[1\].W'\]"):
        failing().leaf("W9")


def test_theta_size_counts_scalars_as_one():
    assert strange().theta_size == 1
    assert failing().theta_size == 35


def test_the_reasons_are_advice():
    for reason in Reason:
        assert reason.advice.endswith("."), reason
        assert len(reason.advice) > 30, reason


def test_public_classes_call_themselves_jaxcheck(report):
    assert type(report).__module__ == "jaxcheck"
    assert GradientMismatch.__module__ == "jaxcheck"


def test_pickle_and_copy(report):
    for again in (pickle.loads(pickle.dumps(report)), copy.deepcopy(report)):
        assert whole(again) == whole(report) and again == report
        assert str(again) == str(report)


def test_json_round_trip_is_exact(report):
    text = json.dumps(report.to_json(), allow_nan=False)
    again = Report.from_json(json.loads(text))
    assert whole(again) == whole(report) and again == report


def test_json_of_numpy_numbers_is_json_of_python_numbers():
    report = passing(difference=np.float32(0.5), seed=np.int64(7), evaluations=np.uint8(3), value=np.array(2.5))
    again = Report.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False)))
    assert (again.difference, again.seed, again.evaluations, again.value) == (0.5, 7, 3, 2.5)


def test_json_of_a_small_complex_number():
    component = dataclasses.replace(failing().leaves[1].worst[0], manual=np.complex64(1 - 2j))
    report = passing(leaves=(leaf(worst=(component,)),))
    assert Report.from_json(report.to_json()).leaves[0].worst[0].manual == 1 - 2j


def _without(data, *names):
    return {key: value for key, value in data.items() if key not in names}


def _in_leaf(data, **changed):
    return {**data, "leaves": [{**data["leaves"][0], **changed}]}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: [d], "a report is a JSON object, not list"),
        (lambda d: None, "a report is a JSON object, not null"),
        (lambda d: _without(d, "jaxcheck_report"), "not a jaxcheck report: the field 'jaxcheck_report' is missing"),
        (lambda d: {**d, "jaxcheck_report": 99}, "format version 99; this jaxcheck reads version 1"),
        (lambda d: _without(d, "kind", "verdict"), "report: missing field 'kind', 'verdict'"),
        (lambda d: {**d, "colour": 1}, "report: unknown field 'colour'"),
        (lambda d: {**d, "verdict": "MAYBE"}, "report.verdict: unknown Verdict 'MAYBE'"),
        (lambda d: {**d, "verdict": []}, r"report.verdict: unknown Verdict \[\]"),
        (lambda d: {**d, "seed": 0.5}, "report.seed: expected int, found float"),
        (lambda d: {**d, "seed": True}, "report.seed: expected int, found bool"),
        (lambda d: {**d, "name": None}, "report.name: expected str, found null"),
        (lambda d: {**d, "difference": "small"}, "report.difference: expected a number, found 'small'"),
        (lambda d: {**d, "difference": "1+2j"}, "report.difference: expected a number"),
        (lambda d: {**d, "notes": "one"}, "report.notes: expected a list, found str"),
        (lambda d: {**d, "carried": [["a"]]}, r"report.carried\[0\]: expected 2 entries, found 1"),
        (lambda d: {**d, "leaves": [3]}, r"report.leaves\[0\]: expected an object for LeafResult, found int"),
        (lambda d: _in_leaf(d, shape=[2, "3"]), r"report.leaves\[0\].shape\[1\]: expected int, found str"),
        (lambda d: _in_leaf(d, worst=[{}]), r"report.leaves\[0\].worst\[0\]: missing field 'path', 'index'"),
    ],
)
def test_json_that_is_no_report_is_a_clear_error(spoil, message):
    with pytest.raises(ValueError, match=message):
        Report.from_json(spoil(passing().to_json()))


def test_a_file_with_names_is_read():
    """Files have always held names; a reason is looked up by it, never by its words."""
    data = failing().to_json()
    assert (data["verdict"], data["reason"]) == ("FAIL", "MANUAL_WRONG")
    again = Report.from_json(data)
    assert (again.verdict, again.reason) == (Verdict.FAIL, Reason.MANUAL_WRONG)
    assert type(again.verdict) is Verdict and type(again.reason) is Reason


def test_fields_with_defaults_may_be_missing():
    data = _without(passing().to_json(), "points", "compiled")
    assert Report.from_json(data).points == ()


def test_what_is_not_plain_data_is_not_written():
    with pytest.raises(ValueError, match="difference holds 'low', not a number"):
        passing(difference="low").to_json()


def test_what_is_read_back_equals_what_was_written():
    leaf = LeafResult("w", (2,), "float32", Verdict.PASS, Reason.AGREE, norm_manual=1.5)
    report = Report("check_grad", "f", Verdict.PASS, Reason.AGREE, leaves=(leaf,))
    for other in (pickle.loads(pickle.dumps(report)), Report.from_json(report.to_json())):
        assert other == report and hash(other) == hash(report)
    assert report != dataclasses.replace(report, leaves=(dataclasses.replace(leaf, norm_manual=NAN),))
    assert report != dataclasses.replace(report, seed=1)


def test_what_it_took_does_not_make_a_report_another():
    assert passing(seconds=0.1, compiled=3) == passing(seconds=NAN, compiled=0)
    assert hash(passing(seconds=0.1)) == hash(passing(seconds=9.0))
    assert passing(evaluations=1) != passing(evaluations=2)
    assert passing(difference=NAN) == passing(difference=NAN) != passing(difference=0.0)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (passing(), "<PASS check_grad(loss): 2 leaves, 25 parameters, difference 3.2e-11, floor 1.0e-08>"),
        (failing(), "<FAIL check_grad(loss): `layers[1].W` ratio 2.000 +- 1e-9 on all 15 entries>"),
        (inconclusive(), "<INCONCLUSIVE check_grad(loss): NONDETERMINISTIC: `W1`>"),
        (passing(leaves=(), difference=NAN), "<PASS check_grad(loss): nothing was found wrong>"),
        (
            failing(
                leaves=(
                    leaf("W", Verdict.FAIL, Reason.MANUAL_WRONG),
                    leaf("b", Verdict.FAIL, Reason.NONFINITE),
                    leaf("c", Verdict.FAIL, Reason.NONFINITE),
                ),
                reason=Reason.NONFINITE,
            ),
            "<FAIL check_grad(loss): NONFINITE: `b` difference 3.2e-11 to N and 2 more leaves>",
        ),
        (
            failing(leaves=(), reason=Reason.STRUCTURE, notes=("no leaf `b`\nand more",)),
            "<FAIL check_grad(loss): STRUCTURE: no leaf `b`>",
        ),
        (failing(leaves=(), reason=Reason.NONFINITE), f"<FAIL check_grad(loss): NONFINITE: {Reason.NONFINITE.advice}>"),
    ],
)
def test_repr_is_one_line(report, said):
    assert repr(report) == said
    assert repr(failing().leaves) == (
        "(<`layers[0].W` 4x5 float32: PASS, difference 3.2e-11>, "
        "<`layers[1].W` 5x3 float32: FAIL MANUAL_WRONG, ratio 2.000 +- 1e-9 on all 15 entries>)"
    )


def test_ipython_and_rich_show_the_whole(report):
    said = []
    for depth in 1, 2:  # what a cell shows, and one of a list: IPython's printer counts the groups it stands in
        report._repr_pretty_(types.SimpleNamespace(text=said.append, stack=[None] * depth), False)
    assert said == [str(report), repr(report)]
    assert report.__rich__().report is report


def test_the_leaves_in_hand():
    report = failing(leaves=(leaf("layers[0].W"), leaf("layers[1].W", Verdict.FAIL), leaf("b", Verdict.INCONCLUSIVE)))
    assert [one.path for one in report] == ["layers[0].W", "layers[1].W", "b"] and len(report) == 3
    assert [one.path for one in report.failed] == ["layers[1].W"]
    assert [one.path for one in report.inconclusive] == ["b"]
    assert report["layers[1].W"] is report[1] is report.leaf("layers[1].W") and not report[1].ok
    assert "b" in report and report[0] in report and "c" not in report
    with pytest.raises(KeyError, match="no leaf 'W'"):
        report["W"]
    with pytest.raises(IndexError):
        report[3]
    assert bool(passing(leaves=())) is True  # however many leaves it has


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [0, 1, 2]),
        ({"path": "layers[*].W"}, [0, 1]),
        ({"path": "layers[?].W", "verdict": "FAIL"}, [1]),
        ({"verdict": Verdict.PASS}, [0]),
        ({"path": "layers"}, []),
        ({"path": "*b"}, [2]),
        ({"path": "layers[01].W"}, []),
    ],
)
def test_filter(asked, found):
    report = failing(leaves=(leaf("layers[0].W"), leaf("layers[1].W", Verdict.FAIL), leaf("b", Verdict.INCONCLUSIVE)))
    assert report.filter(**asked) == tuple(report[i] for i in found)
    with pytest.raises(ValueError, match="MAYBE"):
        report.filter(verdict="MAYBE")


def test_flat_rows_for_a_table(monkeypatch):
    rows = strange(leaves=(*strange().leaves, *failing().leaves)).to_records()
    assert [row["path"] for row in rows] == ["z<b>[red]", "layers[0].W", "layers[1].W"]
    assert rows[2]["shape"] == "5x3" and rows[2]["size"] == 15 and rows[2]["verdict"] == "FAIL"
    assert (rows[2]["worst_component"], rows[2]["worst_manual"]) == ("layers[1].W[0,1]", 2.0)
    assert all(type(value) in (str, int, float, complex, bool) for row in rows for value in row.values())
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    assert repr(failing().to_dataframe()) == repr(("frame", failing().to_records()))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        failing().to_dataframe()


@pytest.mark.parametrize("suffix", ["json", "html"])
def test_what_was_saved_is_loaded(report, suffix, tmp_path):
    report.save(tmp_path / f"r.{suffix}")
    assert whole(Report.load(tmp_path / f"r.{suffix}")) == whole(report)


def test_a_file_that_is_no_json_is_said_to_be_none(tmp_path):
    (tmp_path / "r.json").write_text("hello")
    with pytest.raises(ValueError, match=r"r\.json holds no report of jaxcheck: it is no JSON"):
        Report.load(tmp_path / "r.json")


def test_what_cannot_be_written_is_named_as_it_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing/r\.json'$"):
        passing().save(tmp_path / "missing" / "r.json")
    assert not list(tmp_path.iterdir())


def test_what_is_no_single_report_is_not_loaded(tmp_path):
    (tmp_path / "r.html").write_text("<html></html>")
    with pytest.raises(ValueError, match="holds no report"):
        Report.load(tmp_path / "r.html")
    save.save_all([passing(), failing()], tmp_path / "several.html")
    assert [one.verdict for one in save.load(tmp_path / "several.html")] == ["FAIL", "PASS"]
    with pytest.raises(ValueError, match="holds 2 reports"):
        Report.load(tmp_path / "several.html")


def changed(**now) -> Report:
    return passing(leaves=(leaf("W1", **now), leaf("b1", shape=(5,), floor=1e-8)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (passing(), passing(seconds=9.0, evaluations=7), []),
        (changed(), changed(difference_autodiff=2.3e-12), ["leaf `W1` lost 3 digits: 2.3e-12, was 1.1e-16"]),
        (changed(difference_autodiff=2.3e-12), changed(), ["leaf `W1` gained 3 digits: 1.1e-16, was 2.3e-12"]),
        (changed(), changed(floor=3e-7), ["leaf `W1` lost 2 digits of floor: 3.0e-07, was 3.0e-09"]),
        (
            changed(difference_autodiff=NAN),
            changed(difference_autodiff=NAN, difference=4e-9),
            ["leaf `W1` lost 2 digits: 4.0e-09, was 3.2e-11"],
        ),
        (changed(), passing(leaves=(leaf("W1"), leaf("c1"))), ["leaf `c1` is new: PASS", "leaf `b1` is gone"]),
        (changed(), changed(dtype="bfloat16"), ["leaf `W1`: 4x5 bfloat16, was 4x5 float32"]),
        (changed(), changed(floor=NAN), ["leaf `W1`: floor -, was 3.0e-09"]),
        (
            passing(leaves=(), rows=(Row("laws", "zero", "OK"),)),
            failing(leaves=(), rows=(Row("laws", "zero", "WRONG"),)),
            ["FAIL MANUAL_WRONG, was PASS", "laws: zero is WRONG, was OK"],
        ),
        (
            changed(),
            changed(verdict=Verdict.FAIL, reason=Reason.MANUAL_WRONG, hint="ratio 2", difference_autodiff=1 / 3),
            ["leaf `W1`: FAIL MANUAL_WRONG (ratio 2), was PASS", "leaf `W1` lost 15 digits: 0.333, was 1.1e-16"],
        ),
    ],
)
def test_diff(old, new, said):
    assert list(new.diff(old)) == said
    with pytest.raises(TypeError, match="not str"):
        new.diff("old")


def test_the_measure_of_long_float32_arrays():
    """Beyond the length at which nothing is scaled first; what bounds their squares overflows float32."""
    x = np.random.default_rng(0).normal(size=70_000).astype(np.float32)
    assert formula2(x, 1.01 * x) == pytest.approx(0.01 / 2.01, rel=1e-4)
    assert norms(np.stack([x, 2 * x])) == pytest.approx(np.linalg.norm(x.astype(float)) * np.array([1, 2]), rel=1e-5)
