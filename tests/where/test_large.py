"""Where arrays are too large to be searched, the same programs are searched at small ones, and said of the large."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program.where import problem, smaller
from tests.where import build

pytestmark = pytest.mark.where


def check(right: str, wrong: str):
    source = (build.NETS / "wide.py").read_text(encoding="utf-8")
    assert source.count(right) == 1
    found = build.module("wide", source.replace(right, wrong))
    params, args = build.point(found, np.float32)
    return jc.check_grad(found.loss, params, found.grad, args=args)


@pytest.mark.parametrize(
    ("right", "wrong", "edit"),
    [
        ("dx = dh * (1 - h**2)", "dx = dh * (1 - h)", "dx = dh * (1 - h**2)"),
        ("dq = (q - y) / n", "dq = q - y", "dq = (q - y) / 600"),
        ('dh = dz @ p["B"].T', 'dh = dz @ p["B"]', 'dh = dz @ p["B"].T'),
    ],
    ids=["another value", "a constant is the large one's", "square stays square"],
)
def test_the_line_is_named(monkeypatch, right, wrong, edit):
    most = []
    whole = problem.record

    def recorded(closed, values):
        most.append(max(np.size(x) for x in values))
        return whole(closed, values)

    monkeypatch.setattr(problem, "record", recorded)
    report = check(right, wrong)
    assert [(c.kind, c.source, c.edit) for c in report.culprits] == [("line", wrong, edit)]
    assert max(most) < 500


def test_a_number_written_for_the_axis_is_not_cut_away():
    programs = [jax.make_jaxpr(lambda x: jnp.sum(x) / 600)(np.ones(n)) for n in (600, 7)]
    assert not smaller.same_program(*programs, {600: 7})
    assert smaller.same_program(*[jax.make_jaxpr(lambda x: jnp.mean(x))(np.ones(n)) for n in (600, 7)], {600: 7})


@pytest.mark.parametrize(
    ("c", "large"),
    [(1 / 7, 1 / 600), (2 / (7 * 11), 2 / (600 * 48)), (11**0.5, 48**0.5), (-0.5, -0.5), (0.1, 0.1), (7.0, 600.0)],
)
def test_constants_are_those_of_the_large_program(c, large):
    assert smaller.as_written(c, {600: 7, 48: 11}) == pytest.approx(large, rel=1e-12)


def test_axes_are_cut_alike_and_indices_stay_inside():
    tree = {"E": np.zeros((50, 40)), "at": np.array([0, 49, 13]), "W": np.zeros((40, 40)), "few": np.zeros(4)}
    sizes = next(smaller.cuts((tree, ()), ()))
    assert sizes == {40: 7, 50: 11}
    small = smaller.cut(tree, sizes)
    assert {name: x.shape for name, x in small.items()} == {"E": (11, 7), "at": (3,), "W": (7, 7), "few": (4,)}
    assert small["at"].max() < 11
