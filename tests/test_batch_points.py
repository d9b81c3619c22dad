"""Points of a batch that differ in more than the numbers of their leaves; and what is no list of points."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Net:
    w: Any
    power: int = dataclasses.field(metadata={"static": True}, default=2)


OTHERS = {
    "another static field": lambda x: (
        [Net(v, 3 if k == 2 else 2) for k, v in enumerate(x)],
        lambda p: jnp.sum(p.w**p.power),
        lambda p: Net(p.power * p.w ** (p.power - 1), p.power),
        lambda p: Net(2 * p.w, p.power),
    ),
    "one more leaf that is carried": lambda x: (
        [{"w": v, "scale": 3} if k == 2 else {"w": v} for k, v in enumerate(x)],
        lambda p: p.get("scale", 1) * jnp.sum(p["w"] ** 2),
        lambda p: {"w": 2 * p.get("scale", 1) * p["w"]},
        lambda p: {"w": 2 * p["w"]},
    ),
    "a list among tuples": lambda x: (
        [[v] if k == 2 else (v,) for k, v in enumerate(x)],
        lambda p: jnp.sum(p[0] ** (2 if isinstance(p, tuple) else 3)),
        lambda p: (2 * p[0] if isinstance(p, tuple) else 3 * p[0] ** 2,),
        lambda p: (2 * p[0],),
    ),
    "another dtype": lambda x: (
        [v.astype(np.float16 if k == 2 else np.float32) for k, v in enumerate(x)],
        lambda p: jnp.sum(p**2),
        lambda p: 2 * p,
        lambda p: (3 if p.dtype == jnp.float16 else 2) * p,
    ),
    "NumPy's among JAX's": lambda x: (
        [v if k == 2 else jnp.asarray(v) for k, v in enumerate(x)],
        lambda p: jnp.sum(jnp.asarray(p) ** 2),
        lambda p: 2 * p,
        lambda p: (3 if isinstance(p, np.ndarray) else 2) * p,
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_point_that_differs_in_more_than_its_numbers_is_checked_as_it_is(name):
    points, loss, right, wrong = OTHERS[name](np.random.default_rng(0).normal(size=(5, 3)) + 2)
    assert jc.check_batch(loss, points, grad=right)
    report = jc.check_batch(loss, points, grad=wrong)
    assert report.verdict is jc.Verdict.FAIL
    assert report.point == "point 2"


REFUSED = {
    "args is an array": (lambda x: {"points": x, "args": x}, TypeError, r"write args=\(x,\)"),
    "complex among real": (lambda x: {"points": [x[0], x[1] * 1j]}, ValueError, r"points\[1\].*complex128\[3\], there"),
    "whole numbers": (lambda x: {"points": [0.5, 1]}, ValueError, r"not differentiated \(Python int\)"),
    "another shape": (lambda x: {"points": [x[0], x[1][:2]]}, ValueError, r"float64\[2\], there float64\[3\]"),
    "another leaf": (lambda x: {"points": [{"w": x[0]}, {"v": x[0]}]}, ValueError, r"leaf `v`, points\[0\] has none"),
    "steps is a number": (lambda x: {"points": x[0], "train_step": abs, "steps": 3}, ValueError, "steps=3: a list"),
    "n is a bool": (lambda x: {"init": abs, "n": True}, ValueError, "n=True"),
    "an array of objects": (lambda x: {"points": np.array([{"w": 1.0}] * 2)}, TypeError, r"list\(points\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_points_that_are_none_are_refused_by_name(name):
    make, error, said = REFUSED[name]
    with pytest.raises(error, match=said):
        jc.check_batch(lambda p, *_: sum(jnp.sum(jnp.abs(x) ** 2) for x in jax.tree.leaves(p)), **make(np.ones((2, 3))))


def test_what_is_carried_may_be_none_at_one_point():
    x = np.ones(3)
    for points in ([{"w": x, "f": None}, {"w": x, "f": np.arange(3)}], [{"w": x, "f": 1}, {"w": x, "f": None}]):
        assert jc.check_batch(lambda p: jnp.sum(p["w"] ** 2), points, grad=lambda p: {"w": 2 * p["w"], "f": None})


def test_counts_may_be_numpys():
    def draw(key):
        return jax.random.normal(key, (3,))

    assert len(jc.check_batch(lambda p: jnp.sum(p**2), init=draw, n=np.int64(3), grad=lambda p: 3 * p).points) == 3
    assert jc.check_batch(lambda p: jnp.sum(p**2), np.ones(3), train_step=lambda p: p / 2, steps=np.array([0, 2]))


def test_points_in_numpys_float64_are_what_the_callers_program_sees():
    """In JAX's default mode 1 + 1e-9 is 1, and 1e-50 nothing."""
    w = np.abs(np.random.default_rng(0).normal(size=(20, 4))) + 0.5
    for value, loss, grad, wanted in (
        (1 + 1e-9, lambda p: jnp.sum(p**2.5), lambda p: jnp.where(p == 1, 2.0, 2.5 * p**1.5), "FAIL"),
        (1e-50, lambda p: jnp.sum(jnp.log(p)), lambda p: 1 / p, "INCONCLUSIVE"),
    ):
        points = w.copy()
        points[7, 0] = value
        for given in (points, [points[k] for k in range(len(points))]):
            report = jc.check_batch(loss, given, grad=grad)
            assert (report.verdict.value, report.point) == (wanted, "point 7")
        assert jc.check_grad(loss, points[7], grad, where=False).verdict.value == wanted


@pytest.mark.slow
def test_every_point_on_a_jump_is_counted():
    points = np.random.default_rng(0).normal(size=(20, 4))
    points[:, 0] = np.where(points[:, 0] > 0.8, 0.5, points[:, 0])
    points[[5, 7, 9], 0] = 1.0
    report = jc.check_batch(
        lambda p: jnp.sum(p["w"] ** 2) + jnp.where(p["w"][0] >= 1.0, 3.0, 0.0) + 3 * jax.nn.relu(p["b"]),
        {"w": points, "b": np.zeros(20)},
        grad=lambda p: {"w": 2 * p["w"], "b": jnp.where(p["b"] > 0, 3.0, 0.0)},
    )
    assert (report.points_passed, report.points_failed, report.points_inconclusive) == (17, 0, 3)


def _held_at_one_point(held):
    """(loss, its autodiff written out, points): all on relu's kink in component 0; a product at point 7 is held fixed
    in a gradient that should not."""

    def loss(p):
        t = p[2] * p[3]
        fixed = jax.lax.stop_gradient(t) if held else t
        return 3 * jax.nn.relu(p[0]) + jnp.where(p[1] > 2.0, fixed, t) + 0.01 * jnp.sum(p**2)

    def gradient(p):
        on = jnp.where(p[1] > 2.0, 0.0, 1.0) if held else 1.0
        return jnp.stack([jnp.where(p[0] > 0, 3.0, 0.0), 0 * p[1], on * p[3], on * p[2]]) + 0.02 * p

    points = np.random.default_rng(0).normal(size=(20, 4))
    points[:, 0], points[:, 1] = 0, np.clip(points[:, 1], -1, 1)
    points[7, 1:] = [2.5, 1.2, -0.9]
    return loss, gradient, points


@pytest.mark.parametrize("held", [True, False])
def test_where_every_point_is_on_a_kink_what_else_is_wrong_is_seen_beside_it(held):
    loss, gradient, points = _held_at_one_point(held)
    report = jc.check_batch(loss, points, grad=gradient)
    assert (report.points_passed, report.points_failed) == ((19, 1) if held else (20, 0)), report
    assert [p.index for p in report.points] == ([7] if held else [])


# Each with a derivative, in component 1, that autodiff misses where that is 0, beside the kink of component 0.
MISSED = {
    "a special case": lambda t: jnp.where(t == 0, 1.0, 1.0 + 0.3 * t),
    "a limit filled in": lambda t: jnp.where(t == 0, 1.0, jnp.sin(t) / jnp.where(t == 0, 1.0, t) + t),
    "held back": lambda t: 3 * jnp.where(t == 0, jax.lax.stop_gradient(t), t),
    "two relus": lambda t: jax.nn.relu(t) - jax.nn.relu(-t),
}


@pytest.mark.parametrize("apart", [1, 20])
@pytest.mark.parametrize("name", MISSED)
def test_what_autodiff_misses_beside_a_kink_passes_at_no_point(name, apart):
    def loss(p):
        return 9 * jax.nn.relu(p[0]) + MISSED[name](p[1]) + jnp.sum(p[2:] ** 2)

    points = np.random.default_rng(0).normal(size=(20, 6))
    points[:, 0], points[-apart:, 1] = 0.0, 0.0
    report = jc.check_batch(loss, points, grad=jax.grad(loss))
    assert (report.points_passed, report.points_failed, report.points_inconclusive) == (20 - apart, 0, apart)


def test_layers_on_kinks_behind_each_other_pass():
    rng, sizes = np.random.default_rng(0), (4, 16, 16, 2)
    x = rng.normal(size=(8, sizes[0])) * (np.arange(8) % 2)[:, None]

    def loss(net):
        h = x
        for w, b in net[:-1]:
            h = jax.nn.relu(h @ w + b)
        return jnp.mean((h @ net[-1][0] + net[-1][1]) ** 2)

    net = [(rng.normal(size=(20, a, b)), np.zeros((20, b))) for a, b in itertools.pairwise(sizes)]
    report = jc.check_batch(loss, net, grad=jax.grad(loss))
    assert report.points_passed == 20
