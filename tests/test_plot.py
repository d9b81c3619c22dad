"""Pictures by matplotlib: what is drawn is what was measured, and nothing of it is cut off."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from handmade import NAN, batch, drawn, extreme, failing, leaf, passing, rule, strange

from jaxcheck.report.plot import KINDS, _middle
from jaxcheck.result import Reason, Verdict

pytest.importorskip("matplotlib", reason="no matplotlib: pip install 'jaxcheck[plot]'").use("Agg")

LONG = "encoder.blocks[11].attention.heads[3].projections.with_a_long_name.kernel"


@pytest.fixture(autouse=True)
def closed():
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def uncut(axes) -> None:
    """Everything that is drawn lies within the figure."""
    figure = axes.figure
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, box


@pytest.mark.parametrize("report", [passing(), strange(), rule()], ids=["passing", "strange", "rule"])
def test_leaves_are_drawn_by_default(report, tmp_path):
    axes = report.plot(path=tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert [label.get_text() for label in axes.get_yticklabels()] == [one.path for one in report.leaves]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_whole(kind, tmp_path):
    long = drawn(LONG) if kind != "points" else dataclasses.replace(batch(), name=LONG)
    axes = long.plot(kind, path=tmp_path / "r.png")
    uncut(axes)
    said = [t.get_text() for t in (axes.title, *axes.get_yticklabels())]
    assert any("…" in t and "kernel" in t for t in said), said


def test_leaves_that_are_off_alike_are_told_apart_on_an_axis_that_can_be_read():
    paths = [LONG.replace("11", str(layer)) for layer in range(3)]
    alike = [
        leaf(path, Verdict.FAIL, Reason.MANUAL_WRONG, difference=1 / 3, error_bar=1e-12, floor=NAN) for path in paths
    ]
    axes = failing(leaves=tuple(dataclasses.replace(one, difference_autodiff=1 / 3) for one in alike)).plot()
    uncut(axes)
    assert axes.get_xlim()[0] <= 1e-6 and axes.get_xlim()[1] >= 0.9
    assert len({label.get_text() for label in axes.get_yticklabels()}) == 3
    assert axes.get_title().endswith("\nleaves of encoder.blocks")


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_what_is_drawn_is_what_was_measured():
    curve = drawn().plot("v-curve")
    assert set(lines(curve)) >= {"from M", "from A"}
    h, error = lines(curve)["from A"][0]
    assert error == pytest.approx(h**2 / 12, rel=1e-2)
    assert any(patch.get_label() == "looks smooth" for patch in curve.patches)
    taylor = lines(drawn().plot("taylor"))
    assert {"d by M, order 1.00", "d by A, order 2.00"} <= {label[:18] for label in taylor}
    components = lines(drawn().plot("components"))["15 components"]
    np.testing.assert_allclose(components[:, 1], 2 * components[:, 0], atol=1e-12)
    heat = drawn().plot("heat").images[0].get_array()
    assert heat.shape == (5, 3) and np.nanmax(heat) == pytest.approx(0.7)
    points = batch().plot("points")
    assert {line.get_label() for line in points.get_lines()} == {"7 FAIL", "1 INCONCLUSIVE"}


def test_it_draws_on_given_axes_and_of_a_given_leaf():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert drawn().plot("v-curve", ax=axes, leaf="layers[1].W") is axes and axes.get_lines()


@pytest.mark.parametrize(
    ("report", "given", "said"),
    [
        (passing(), dict(kind="v-curve"), r"plot\(kind='v-curve'\): this report holds nothing for it: no differences"),
        (passing(), dict(kind="heat", leaf="W1"), "holds nothing of `W1` for it: it has no leaf with two axes"),
        (
            drawn(),
            dict(kind="heat", leaf="layers[0].W"),
            r"nothing of `layers\[0\].W` for it; it does of `layers\[1\].W`",
        ),
        (passing(), dict(kind="points"), "only check_batch looks at several points"),
        (passing(), dict(kind="vcurve"), "kind='vcurve': use 'leaves', 'components', 'v-curve'"),
        (passing(), dict(kind="r.png"), "to write a picture: path='r.png'"),
        (drawn(), dict(kind="heat", leaf="W9"), r"leaf='W9': this report has `layers\[0\].W`"),
        (passing(), dict(leaf="W1"), "a plot of leaves shows all of them"),
    ],
)
def test_what_is_not_there_is_said(report, given, said):
    with pytest.raises(ValueError, match=said):
        report.plot(**given)


def test_numbers_that_cannot_be_drawn_are_left_out():
    odd = failing(leaves=(leaf("a", Verdict.FAIL, difference=NAN, floor=float("inf")), leaf("b", difference=0.0)))
    assert len(odd.plot().get_lines()) > 0
    uncut(odd.plot())


@pytest.mark.parametrize("k", [4, 45])
def test_whatever_the_numbers_are_they_are_drawn(k):
    for kind in ("components", "v-curve", "taylor", "heat"):
        uncut(extreme(k).plot(kind))


def test_names_are_shortened_in_the_middle():
    assert _middle("short", 10) == "short"
    assert _middle("a" * 20 + "b" * 20, 10) == "aaa…bbbbbb"
