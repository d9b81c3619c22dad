"""What a reader sees, word for word, and what a file holds."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import textwrap
from html.parser import HTMLParser

import pytest
from handmade import NAN, batch, failing, inconclusive, leaf, passing, rule, strange, whole
from rich.console import Console

from jaxcheck.report import html, numbers, save, text, words
from jaxcheck.result import Component, Point, Reason, Report, Verdict, Witness

PASSING = """
PASS check_grad(loss)  difference 3.2e-11 to N, 1.1e-16 to A

                                                              floor:      floor:
leaf   shape   dtype      |M|               to N      to A      leaf   component   verdict
------------------------------------------------------------------------------------------
W1     4x5     float32   1.25   3.2e-11 ±1.0e-11   1.1e-16   3.0e-09     2.0e-06   PASS
b1     5       float32   1.25   3.2e-11 ±1.0e-11   1.1e-16   1.0e-08     2.0e-06   PASS

carried along, not differentiable: `step` (int32 array)
floor: would have caught any leaf error above 1.0e-08, any single component above 2.0e-06 (relative to the
leaf's norm)
precision: leaf `W1`: right, native float32 loses 1.1e-07 of the gradient
textbook: difference 3.2e-11 is below 1e-7: great, most likely right
witnesses: M (manual) float64; N (numeric) float64; A (autodiff) float64
mode: exhaustive (25 parameters are few)
25 parameters; seed 0; 102 evaluations; 0.5 s
PASS: 2 leaves, 25 parameters, difference 3.2e-11, floor 1.0e-08
"""

FAILING = """
FAIL check_grad(loss)  difference 0.285 to N, 0.285 to A
blamed: M, the gradient under test, at `layers[1].W` (N and A agree with each other)
MANUAL_WRONG: The derivative under test is contradicted, beyond error bars, by the centred differences or by
autodiff. What is off is named below.

                                                                     floor:      floor:
leaf          shape   dtype      |M|               to N      to A      leaf   component   verdict
-----------------------------------------------------------------------------------------------------------
layers[1].W   5x3     float32   1.25     0.333 ±1.0e-11     0.333   3.0e-09     2.0e-06   FAIL MANUAL_WRONG
layers[0].W   4x5     float32   1.25   3.2e-11 ±1.0e-11   1.1e-16   3.0e-09     2.0e-06   PASS

layers[1].W: ratio 2.000 +- 1e-9 on all 15 entries
  component          parameter      M                N       A   note
  -------------------------------------------------------------------
  layers[1].W[0,1]        0.25      2       1 ±1.0e-11       1
  layers[1].W[2,0]        -0.5   -0.5   -0.25 ±1.0e-11   -0.25   kink

precision: leaf `layers[0].W`: right, native float32 loses 1.1e-07 of the gradient
textbook: difference 0.285 is above 1e-3: a mistake
witnesses: M (manual) float64; N (numeric) float64; A (autodiff) float64
mode: exhaustive (25 parameters are few)
35 parameters; seed 0; 102 evaluations; 0.5 s
again: jaxcheck.check_grad(loss, ..., seed=0)
FAIL: `layers[1].W` ratio 2.000 +- 1e-9 on all 15 entries
"""

INCONCLUSIVE = """
INCONCLUSIVE check_grad(loss)
blamed: the function, or the gradient under test: one of them is random, at `W1`
NONDETERMINISTIC: Two evaluations at the same point differ. Fix the PRNG key, close over one dropout mask, or
turn dropout off for the check.

                                              floor:      floor:
leaf   shape   dtype      |M|   to N   to A     leaf   component   verdict
------------------------------------------------------------------------------------------------
W1     4x5     float32   1.25      -      -        -     2.0e-06   INCONCLUSIVE NONDETERMINISTIC

precision: leaf `W1`: native float32 loses 1.1e-07 of the gradient
witnesses: M (manual) float64; N (numeric) float64; A (autodiff) float64
mode: exhaustive (25 parameters are few)
20 parameters; seed 0; 102 evaluations; 0.5 s
again: jaxcheck.check_grad(loss, ..., seed=0)
INCONCLUSIVE: NONDETERMINISTIC: `W1`
"""

RULE = """
FAIL check_rule(clip)
blamed: the rule
LAW_BROKEN: The rule breaks a law that every rule obeys (linearity in the cotangent, adjointness, zero to
zero, repeatability, primal equality). The table names which.

laws                      status   difference   detail
-------------------------------------------------------------
linear in the cotangent   WRONG           0.3   at scale -1e3
zero to zero              OK                0

transformations   status        difference   detail
-------------------------------------------------------------------------------
vmap              UNSUPPORTED            -   no batching rule for pure_callback

seed 7; 1 evaluation; 1.23 s
FAIL: LAW_BROKEN: laws: linear in the cotangent, 0.3; at scale -1e3
"""

BATCH = """
FAIL check_batch(loss)  difference 0.2 to N, 0.2 to A at seed 13
blamed: M, the gradient under test
MANUAL_WRONG: The derivative under test is contradicted, beyond error bars, by the centred differences or by
autodiff. What is off is named below.
points: 100 checked: 92 PASS, 7 FAIL, 1 INCONCLUSIVE (8 % did not pass)
  FAIL seed 13, difference 0.2 at `W2`
    check_grad(loss, points[13])
  FAIL seed 14, difference 0.2 at `W2`
    check_grad(loss, points[14])
  FAIL seed 15, difference 0.2 at `W2`
    check_grad(loss, points[15])
  FAIL seed 16, difference 0.2 at `W2`
    check_grad(loss, points[16])
  FAIL seed 17, difference 0.2 at `W2`
    check_grad(loss, points[17])
  and 3 more that did not pass
textbook: difference 0.2 is above 1e-3: a mistake
seed 0; 10,000 evaluations; 2 s
FAIL: 8 of 100 points did not pass, worst seed 13 at `W2`
"""


@pytest.mark.parametrize(
    ("report", "golden"),
    [(passing(), PASSING), (failing(), FAILING), (inconclusive(), INCONCLUSIVE), (rule(), RULE), (batch(), BATCH)],
    ids=["passing", "failing", "inconclusive", "rule", "batch"],
)
def test_golden_text(report, golden):
    assert str(report) == golden.strip()


def test_a_path_is_not_markup_and_nothing_is_lost():
    said = str(strange())
    for piece in ("z<b>[red]", "[/]", "[not markup]", "θ[bold]", "line one\nline two", "nan-infj", "-0+1e-300j"):
        assert piece in said


def test_long_reports_show_the_failing_leaves_first():
    leaves = [leaf(f"layers[{i}].W") for i in range(60)]
    leaves[55] = leaf("layers[55].W", Verdict.FAIL, Reason.MANUAL_WRONG, difference=0.5)
    leaves[50] = leaf("layers[50].W", Verdict.INCONCLUSIVE, Reason.KINK)
    said = str(passing(leaves=tuple(leaves)))
    lines = [line for line in said.splitlines() if line.startswith("layers[")]
    assert len(lines) == 10
    assert [line.split()[0] for line in lines[:3]] == ["layers[55].W", "layers[50].W", "layers[0].W"]
    assert "and 50 more leaves: 50 PASS; difference at most 3.2e-11; leaf floor at most 3.0e-09" in said


def test_many_components_are_cut_and_said_to_be():
    worst = tuple(Component("W", (i,), 0.0, 1.0, 2.0, 0.0, 2.0) for i in range(9))
    said = str(failing(leaves=(leaf("W", Verdict.FAIL, Reason.MANUAL_WRONG, worst=worst),)))
    assert "W, worst components:" in said
    assert "  3 more components in report['W'].worst" in said


def test_what_autodiff_did_not_say_is_no_nan_of_its():
    silent = (Witness("manual", "float64"), Witness("numeric", "float64"), Witness("autodiff", "absent", "none"))
    bad = failing()["layers[1].W"]
    bad = dataclasses.replace(bad, worst=tuple(dataclasses.replace(one, autodiff=NAN) for one in bad.worst))
    report = failing(leaves=(bad,), witnesses=silent)
    for width in (60, 110):
        assert "nan" not in text.render(report, width)
    assert ">nan<" not in html.page(report)
    assert "nan" in text.render(failing(leaves=(bad,)), 110)  # a derivative that is none


def test_a_component_in_a_line():
    said = repr(failing()["layers[1].W"].worst[0])
    assert re.fullmatch(r"<`layers\[1\]\.W\[\d+,\d+\]`: M \S+, N \S+ ±\S+, A \S+>", said), said


def test_a_remark_on_a_passing_leaf_is_said():
    said = str(passing(leaves=(leaf("W", reason=Reason.KINK, note="2 components sit on a kink", kinks=2),)))
    assert "W: 2 components sit on a kink" in said
    assert "blamed: the point, which is on a kink; not the gradient, at `W`" in said


def test_who_is_blamed_where_only_the_path_that_is_run_is_wrong():
    wrong = leaf("W", Verdict.FAIL, Reason.PRECISION_WRONG, precision=0.01, note="right in float64, but in float32 ...")
    report = failing(reason=Reason.PRECISION_WRONG, leaves=(wrong,), difference=1e-11, difference_autodiff=1e-16)
    assert words.blame(report) == [
        "blamed: M, the gradient under test, as it is run in the caller's own dtypes, at `W`"
    ]
    # No sentence of N and A, which were not asked here, and none of the textbook's scale.
    assert words.textbook(report) == ""
    assert words.precision(report) == ["precision: leaf `W`: native float32 loses 0.01 of the gradient"]


def test_precision_is_named_where_the_native_dtype_loses_much():
    leaves = (leaf("W", precision=2e-7), leaf("scale", dtype="bfloat16", precision=0.003), leaf("b", precision=NAN))
    said = words.precision(passing(leaves=leaves))
    assert said == ["precision: leaf `scale`: right, native bfloat16 loses 3.0e-03 of the gradient"]


def test_an_unknown_floor_is_not_hidden_behind_the_others():
    report = passing(leaves=(leaf("W", floor=1e-9, floor_component=NAN), leaf("b", floor=NAN, floor_component=NAN)))
    assert words.caught(report) == (
        "floor: would have caught any leaf error above 1.0e-09 (relative to the leaf's norm); not known for `b`"
    )
    assert words.caught(passing(leaves=(leaf(floor=NAN, floor_component=NAN),))) == ""


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (0.0, "below 1e-7: great, most likely right"),
        (1e-7, "between 1e-7 and 1e-5: fine, but look at the components"),
        (1e-5, "between 1e-5 and 1e-3: look closely at the components"),
        (1e-3, "above 1e-3: a mistake"),
        (NAN, ""),
    ],
)
def test_the_bands_of_the_textbook(difference, said):
    assert numbers.band(difference) == said


@pytest.mark.parametrize("width", [40, 60, 80, 95, 96, 110, 200])
def test_no_number_is_cut_off_at_any_width(width):
    said = text.render(failing(), width=width)
    assert "…" not in said
    squeezed = re.sub(r"\s", "", said)
    assert "ratio2.000+-1e-9onall15entries" in squeezed
    if width >= 80:
        assert "3.2e-11" in said
        assert "layers[1].W[2,0]" in said


def test_colours_follow_the_verdict():
    console = Console(width=110, force_terminal=True, color_system="standard", no_color=False)
    for report, code in ((passing(), "32"), (failing(), "31"), (inconclusive(), "33")):
        with console.capture() as captured:
            console.print(report)
        assert captured.get().startswith(f"\x1b[1;{code}m{report.verdict.value}")
    assert "\x1b" not in str(failing())


class _Tags(HTMLParser):
    void = ("meta", "input")

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.scripts: list[tuple[str, dict]] = []
        self.said = ""

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.scripts += [(tag, dict(attrs))] if tag == "script" else []
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said += data


@pytest.mark.parametrize("report", [passing(), failing(), inconclusive(), strange(), rule(), batch()])
def test_a_page_is_whole_escaped_and_alone(report):
    page = html.page(report)
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert [attrs for tag, attrs in tags.scripts if tag == "script"] == [
        {"type": "application/json", "id": "jaxcheck-reports"},
        {},
    ]  # data, and the page's own
    assert "b" not in tags.seen
    assert not re.search(r"""\bsrc=|\bhref="[^#]|url\(|@import""", page)
    assert words.headline(report) in tags.said
    for one in report.leaves:
        assert one.path in tags.said


@pytest.mark.parametrize("report", [passing(), failing(), inconclusive(), strange(), rule(), batch()])
def test_a_notebooks_cell_is_whole_escaped_and_runs_nothing(report):
    tags = _Tags()
    tags.feed(report._repr_html_())
    assert tags.open == [] and tags.scripts == [] and "b" not in tags.seen
    assert report.name in tags.said
    for one in report.leaves:
        assert one.path in tags.said


def test_without_jinja2_a_notebook_gets_the_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    fragment = strange()._repr_html_()
    assert fragment.startswith("<pre>")
    assert "<script>" not in fragment
    assert "&lt;script&gt;" in fragment


def test_without_jinja2_a_file_is_a_plain_page(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    strange().save(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(page)
    assert tags.open == [] and "b" not in tags.seen and len(tags.scripts) == 1
    assert "<script>alert(1)</script>" in tags.said and "pip install 'jaxcheck[html]'" in tags.said
    assert whole(Report.load(tmp_path / "r.html")) == whole(strange())
    save.save_all([passing(), failing()], tmp_path / "two.html", [("case <b>", "it raised <i>")])
    assert "&lt;b&gt;" in (tmp_path / "two.html").read_text(encoding="utf-8")


def test_without_matplotlib_a_plot_says_what_to_install(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxcheck\[plot\]'"):
        passing().plot(path=tmp_path / "r.png")
    assert list(tmp_path.iterdir()) == []


def test_save_by_suffix(tmp_path):
    report = failing()
    report.save(tmp_path / "r.json")
    assert whole(Report.from_json(json.loads((tmp_path / "r.json").read_text(encoding="utf-8")))) == whole(report)
    report.save(str(tmp_path / "r.HTML"))
    assert (tmp_path / "r.HTML").read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(ValueError, match=r"cannot save a report as '\.txt': use \.json or \.html"):
        report.save(tmp_path / "r.txt")
    with pytest.raises(ValueError, match="'a file without suffix'"):
        report.save(tmp_path / "r")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.HTML", "r.json"]


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    target = tmp_path / "r.json"
    target.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        passing().save(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    passing().save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert "PASS" in (tmp_path / "real.json").read_text()


def test_a_device_is_written_to_not_replaced(tmp_path):
    save.write("/dev/null", "text")
    with open("/dev/null") as null:
        assert null.read() == ""


def test_every_reason_renders():
    for reason in Reason:
        said = str(failing(reason=reason, leaves=(leaf("W", Verdict.FAIL, reason),)))
        shown = textwrap.fill(f"{reason.name}: {reason.advice}", 110)
        assert (said.replace("\n", " ").find(shown.replace("\n", " ")) >= 0) == (reason is not Reason.AGREE)


def component(manual=2.0, numeric=1.0, bar=1e-11, autodiff=1.0) -> Component:
    return Component("W1", (0,), 0.5, manual, numeric, bar, autodiff)


@pytest.mark.parametrize(
    ("worst", "said"),
    [
        ((component(),), True),
        ((component(numeric=1.001, bar=1e-3),), True),  # within N's own bar
        ((), False),  # nothing was compared
        ((component(autodiff=NAN),), False),
        ((component(numeric=NAN, bar=NAN),), False),
        ((component(numeric=1.01),), False),  # N and A differ, whatever M does
        ((component(), component(numeric=3.0)), False),
        ((component(numeric=1.5, bar=1.0),), False),  # so wide that N sides with nobody
    ],
)
def test_n_and_a_are_said_to_agree_where_they_were_seen_to(worst, said):
    bad = leaf("W1", Verdict.FAIL, Reason.MANUAL_WRONG, worst=worst, difference=0.3, difference_autodiff=0.3)
    assert ("N and A agree" in " ".join(words.blame(failing(leaves=(bad,))))) is said


@pytest.mark.parametrize("difference", [NAN, 0.0, 1e-9, 1e-6, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("verdict", Verdict)
def test_the_textbooks_words_do_not_contradict_the_verdict(verdict, difference):
    reason = Reason.MANUAL_WRONG if verdict is Verdict.FAIL else Reason.AGREE
    said = words.textbook(passing(verdict=verdict, reason=reason, difference=difference))
    if verdict is Verdict.FAIL:
        assert "right" not in said and "fine" not in said
        assert ("does not see" in said) is (difference < 1e-3)
    if verdict is Verdict.PASS and "mistake" in said:
        assert "it passes for what is said above" in said


@pytest.mark.parametrize(
    ("text_", "bar", "said"),
    [("0.3", 1e-3, "0.3 ±1.0e-03"), ("0.3", NAN, "0.3 ±?"), ("-", 1e-3, "-"), ("nan", NAN, "nan"), ("1", 0.0, "1 ±0")],
)
def test_a_number_whose_bar_is_unknown_is_not_shown_as_exact(text_, bar, said):
    assert numbers.with_bar(text_, bar) == said


def test_a_floor_that_is_none_is_not_said_to_be_one():
    inf = float("inf")
    said = words.caught(passing(leaves=(leaf("W", floor=1e-9, floor_component=1e-8), leaf("b", floor=inf))))
    assert said == (
        "floor: would have caught any leaf error above 1.0e-09, any single component above 1.0e-08 "
        "(relative to the leaf's norm); nothing in `b`"
    )
    assert "component" not in words.caught(passing(leaves=(leaf(floor_component=inf), leaf("b"))))
    assert words.caught(passing(leaves=(leaf(floor=inf, floor_component=inf),))) == ""
    assert "for `W1`, with next to no gradient" in words.caught(passing(leaves=(leaf(faint=True),)))


@pytest.mark.parametrize("how", ["absent", "float64"])
def test_no_advice_speaks_of_a_witness_that_may_be_absent(how):
    """Advice goes with a reason alone, and a reason does not know who spoke: the line of witnesses does."""
    said = str(passing(witnesses=(Witness("manual", "float64"), Witness("autodiff", how, "a while loop"))))
    assert "ll witnesses" not in said and f"A (autodiff) {how}" in said
    assert "every witness that spoke" in Reason.AGREE.advice


def test_nothing_is_said_of_evaluations_that_were_not_counted():
    assert "evaluation" not in words.footer(passing(evaluations=0))[-1]
    assert "1 evaluation;" in words.footer(passing(evaluations=1))[-1]


@pytest.mark.parametrize("points_", [(), tuple(Point(i, "", Verdict.FAIL, 0.2, "W", "") for i in range(6))])
@pytest.mark.parametrize("counts", [(14, 6, 0), (20, 0, 0), (0, 6, 14), (0, 0, 0)])
def test_shares_are_of_all_points_not_of_those_that_are_listed(points_, counts):
    passed, failed, unsure = counts
    report = passing(points=points_, points_passed=passed, points_failed=failed, points_inconclusive=unsure)
    said = str(report)
    assert ("checked" in said) is bool(sum(counts))  # an old file holds no counts
    assert ("% did not pass" in said) is bool(failed + unsure)
    if failed + unsure:
        assert f"({100 * (failed + unsure) / 20:.3g} % did not pass)" in said
