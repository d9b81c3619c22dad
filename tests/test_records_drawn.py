"""What a report keeps to be drawn: true to the function, of bounded size, and nothing that equality sees."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import failing, whole

import jaxcheck
from jaxcheck.check.made import made, place
from jaxcheck.evidence import flat
from jaxcheck.judgement import keep
from jaxcheck.records_drawn import Made, Numbers
from jaxcheck.report.json import decode, encode

PARAMS = {"W": np.linspace(-1.0, 1.5, 12).reshape(4, 3), "b": np.array([0.3, -0.2, 0.0])}


def loss(p):
    return jnp.sum(jnp.sin(p["W"]) @ jnp.exp(p["b"])) + jnp.sum(jnp.abs(p["b"]))


def doubled(p):
    return {**jax.grad(loss)(p), "W": 2 * jax.grad(loss)(p)["W"]}


@pytest.fixture(scope="module")
def report():
    return jaxcheck.check_grad(loss, PARAMS, doubled, where=False)


def test_a_curve_is_the_function_along_its_direction(report):
    curve = next(c for c in report.curves if c.path == "W")
    index = tuple(int(i) for i in curve.name[2:-1].split(","))

    def at(step):
        moved = PARAMS["W"].copy()
        moved[index] += step
        with jax.enable_x64(True):
            return float(loss({"W": jnp.asarray(moved), "b": jnp.asarray(PARAMS["b"])}))

    assert len(curve.steps) == len(curve.right) == len(curve.left) >= 8
    for step, right, left in list(zip(curve.steps, curve.right, curve.left, strict=True))[:4]:
        assert at(step) - at(0.0) == pytest.approx(right, rel=1e-5)
        assert at(-step) - at(0.0) == pytest.approx(left, rel=1e-5)
    assert curve.manual == pytest.approx(2 * curve.autodiff)
    assert abs(curve.numeric - curve.autodiff) <= 5 * curve.error


def agree(curves) -> None:
    """What is kept of a curve has the slope that is said of it."""
    for curve in curves:
        k = len(curve.steps) // 2
        centred = (curve.right[k] - curve.left[k]) / (2 * curve.steps[k])
        assert centred == pytest.approx(curve.numeric, rel=1e-4)
        assert curve.autodiff == pytest.approx(curve.numeric, rel=1e-6)


def test_curves_along_directions_are_those_of_their_leaf():
    smooth = {**PARAMS, "b": PARAMS["b"] + 0.5}
    found = jaxcheck.check_grad(loss, smooth, doubled, mode="sketch", where=False)
    assert any("W along direction" in c.name for c in found.curves)
    agree(found.curves)


def test_of_a_direction_through_all_leaves_what_the_others_do_is_taken_off(monkeypatch):
    monkeypatch.setattr(flat, "WORK", 0)
    wide = {"W": np.linspace(-1.0, 1.5, 1200).reshape(40, 30), "b": np.linspace(0.1, 0.4, 30)}
    found = jaxcheck.check_grad(loss, wide, lambda p: jax.tree.map(lambda g: g * 1.0, jax.grad(loss)(p)), where=False)
    assert found.evaluations <= 64 and "along direction" in found.curves[0].name
    agree(found.curves)


def test_a_smooth_interval_is_known_where_it_was_looked_at():
    near = 1e-3  # a kink that close: the steps below it are smooth, those above are not
    found = jaxcheck.check_grad(
        lambda x: jnp.sum(jnp.abs(x) ** 1.5 + jnp.abs(x - near)),
        np.array([near * 1.5, 0.7]),
        lambda x: 1.5 * jnp.sqrt(x) + jnp.sign(x - near) + 1e-4,
        where=False,
    )
    known = [c for c in found.curves if not math.isnan(c.smooth)]
    assert known
    for curve in known:
        inside = 0.5 * near if curve.name.endswith("[0]") else 0.7 - near
        assert 0 < curve.smooth <= inside
        assert max(s for s in curve.steps if s <= inside) == pytest.approx(curve.smooth)


def test_samples_and_grids_are_the_gradients(report):
    truth = np.asarray(jax.grad(loss)(PARAMS)["W"])
    sample = next(s for s in report.samples if s.path == "W")
    assert sample.components == tuple(range(12))
    np.testing.assert_allclose(sample.autodiff, truth.ravel(), rtol=1e-5)
    np.testing.assert_allclose(sample.manual, 2 * truth.ravel(), rtol=1e-5)
    np.testing.assert_allclose(sample.numeric, truth.ravel(), rtol=1e-5)
    (grid,) = report.grids
    assert (grid.path, grid.rows, grid.columns, grid.witness, grid.shape) == ("W", 4, 3, "A", (4, 3))
    np.testing.assert_allclose(np.reshape(grid.values, (4, 3)), np.abs(truth), rtol=6e-3)


def test_what_is_kept_is_bounded_and_holds_the_worst(monkeypatch):
    for name, value in dict(LEAF=64, ALL=96, QUIET=16, QUIET_ALL=32, LEAST=8, CELLS=8, CURVES=4).items():
        monkeypatch.setattr(keep, name, value)
    wide = {"wrong": np.linspace(0.5, 2.0, 300).reshape(20, 15), **{f"W{k}": np.ones((3, 20)) for k in range(6)}}

    def squares(p):
        return sum(jnp.sum(x**2) for x in p.values())

    def grad(p):
        return {**{k: 2 * x for k, x in p.items()}, "wrong": (2 * p["wrong"]).at[8, 3].add(1.0)}

    found = jaxcheck.check_grad(squares, wide, grad, where=False)
    first = found.samples[0]
    assert first.path == "wrong" and len(first.components) <= 64 and 123 in first.components
    assert [len(s.components) <= 16 for s in found.samples[1:]] == [True] * 4  # 32 of 6 leaves, 8 at least
    grid = found.grids[0]
    assert (grid.rows, grid.columns, grid.shape) == (8, 8, (20, 15)) and max(grid.values) == pytest.approx(1.0)
    assert np.reshape(grid.values, (8, 8))[3, 2] == pytest.approx(1.0)  # rows 7 to 9, columns 3 and 4
    assert 0 < len(found.curves) <= 4 and {c.path for c in found.curves} == {"wrong"}
    assert found.curves[0].name == "wrong[8,3]"


def test_a_complex_leaf_a_rule_and_a_batch_keep_theirs():
    z = np.array([[1 + 2j, -0.5j]])
    of_complex = jaxcheck.check_grad(lambda z: jnp.sum(jnp.abs(z) ** 2), z, lambda z: 2 * z, where=False)
    assert of_complex.samples[0].components == (0, 1, 2, 3)
    assert any("(imaginary)" in c.name for c in of_complex.curves)
    assert of_complex.grids[0].shape == (1, 2)

    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x) * 1.5,))
    of_rule = jaxcheck.check_rule(f, np.array([0.3, 0.9]), level="quick", where=False)
    assert of_rule.curves[0].manual == pytest.approx(1.5 * of_rule.curves[0].autodiff)


def test_it_survives_json_and_pickle_and_is_not_compared(report):
    again = decode(json.loads(json.dumps(encode(report), allow_nan=False)))
    assert whole(again) == whole(report) and again == report
    assert isinstance(again.curves[0].steps, Numbers)
    assert whole(pickle.loads(pickle.dumps(report))) == whole(report)
    assert dataclasses.replace(report, made=Made(), curves=(), samples=(), grids=()) == report


@pytest.mark.parametrize("said", ["1 2 x", 3, ["1"]])
def test_numbers_that_are_none_are_refused(report, said):
    data = encode(report)
    data["curves"][0]["steps"] = said
    with pytest.raises(ValueError, match=r"report\.curves\[0\]\.steps"):
        decode(data)


class Wrapped:
    def __call__(self, p):
        return loss(p)


def here(p):
    return p


@pytest.mark.parametrize("wrapped", [here, jax.jit(here), functools.partial(jax.jit(here), 1), jax.custom_vjp(here)])
def test_the_definition_is_found_through_wrappers(wrapped):
    assert place(wrapped) == (__file__, here.__code__.co_firstlineno)


def test_the_definition_of_what_has_none():
    assert place(Wrapped()) == (__file__, Wrapped.__call__.__code__.co_firstlineno)
    assert place(np.sin) == place(None) == ("", 0)


def test_when_where_and_by_what(report):
    assert report.made.file == __file__ and report.made.line == doubled.__code__.co_firstlineno
    assert dict(report.made.versions)["jax"] == jax.__version__
    assert report.made.device.startswith(jax.devices()[0].platform)
    assert report.made.date.endswith("Z") and failing().made == Made()
    assert made().file == ""
