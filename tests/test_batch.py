"""Many points in one program: the verdict of the batch is that of each point alone, and failing points are named."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck
import jaxcheck as jc
from jaxcheck import Reason, Verdict

X = jnp.asarray(np.random.default_rng(2).normal(size=(8, 4)), jnp.float32)


def loss(p):
    return jnp.mean(jnp.tanh(X @ p["W"] + p["b"]) ** 2)


def grad(p):
    h = jnp.tanh(X @ p["W"] + p["b"])
    d = 2 * h * (1 - h * h) / h.size
    return {"W": X.T @ d, "b": d.sum(0)}


def wrong(p):
    return {**grad(p), "b": 2 * grad(p)["b"]}


def init(key):
    return {"W": jax.random.normal(key, (4, 3)), "b": jnp.zeros(3)}


def numpy_init(key):
    rng = np.random.default_rng(int(jax.random.randint(key, (), 0, 1000)))
    return {"W": rng.normal(size=(4, 3)), "b": np.zeros(3)}


POINTS = jax.vmap(init)(jax.random.split(jax.random.key(0), 20))


def point(i):
    return jax.tree.map(lambda x: x[i], POINTS)


def wrong_at_7(p):
    here = jnp.abs(p["W"][0, 0] - POINTS["W"][7, 0, 0]) < 1e-6
    return {**grad(p), "b": jnp.where(here, 2, 1) * grad(p)["b"]}


WAYS = {
    "stacked": dict(points=POINTS),
    "list": dict(points=[point(i) for i in range(5)]),
    "init": dict(init=init, n=20),
    "numpy init": dict(init=numpy_init, n=5),
    "training": dict(points=point(0), train_step=lambda p: jax.tree.map(lambda a, g: a - g, p, grad(p)), steps=[0, 20]),
    "init and training": dict(init=init, train_step=lambda p: jax.tree.map(lambda a, g: a - g, p, grad(p)), steps=[3]),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_name_points(way):
    right = jc.check_batch(loss, grad=grad, **WAYS[way]).assert_ok()
    assert right.kind == "check_batch" and not right.points and right.difference < 1e-6
    bad = jc.check_batch(loss, grad=wrong, **WAYS[way])
    assert (bad.verdict, bad.reason) == (Verdict.FAIL, Reason.MANUAL_WRONG)
    count = {"stacked": 20, "init": 20, "training": 2, "init and training": 1}.get(way, 5)
    assert len(bad.points) == count and {p.leaf for p in bad.points} == {"b"}
    assert f"{count} points: 0 pass, {count} fail (100.0%)" in bad.notes[0]
    assert bad.leaf("b").hint.startswith("ratio 2.000") and bad.leaf("W").verdict is Verdict.PASS


@pytest.mark.parametrize("way", ["stacked", "init", "numpy init", "training", "list"])
def test_the_line_that_reproduces_a_point_runs(way):
    bad = jc.check_batch(loss, grad=wrong, must_catch=1e-4, **WAYS[way])
    names = {
        "loss": loss,
        "grad": wrong,
        "must_catch": 1e-4,
        "jax": jax,
        "jaxcheck": jaxcheck,
        "functools": functools,
        **WAYS[way],
    }
    for where in bad.points[:2]:
        report = eval(where.reproduce, names)
        assert report.verdict is where.verdict is Verdict.FAIL
        assert report.difference == pytest.approx(where.difference, rel=1e-3)


def test_one_wrong_point_of_twenty():
    report = jc.check_batch(loss, POINTS, wrong_at_7)
    assert report.verdict is Verdict.FAIL
    assert [p.index for p in report.points] == [7] and report.points[0].leaf == "b"
    assert "19 pass, 1 fail (5.0%)" in report.notes[0] and "point 7" in report.notes[1]


@pytest.mark.slow
def test_a_point_has_the_same_verdict_alone_and_in_the_batch():
    """Right and wrong by as little as 1e-6, kinked, on an edge: alone and among others."""
    xs = jnp.asarray([[1.0, -2.0], [0.0, 1.0], [1e-6, 3.0], [0.5, 0.0], [-1.0, -1.0]])
    f = lambda x: jnp.sum(jax.nn.relu(x) ** 2 + jnp.abs(x))  # noqa: E731
    for factor in (1, 1 + 1e-6, 1.1):
        g = lambda x, factor=factor: (2 * jax.nn.relu(x) + jnp.sign(x)) * jnp.where(x[0] > 0.1, factor, 1)  # noqa: E731
        together = jc.check_batch(f, xs, g)
        found = {p.index: p.verdict for p in together.points}
        for i in range(len(xs)):
            assert found.get(i, Verdict.PASS) is jc.check_grad(f, xs[i], g).verdict, (i, factor)
    assert {i for i, v in found.items() if v is Verdict.FAIL} == {0, 3}


def test_nan_points_neither_hide_nor_spoil_the_others():
    holes = {**POINTS, "W": POINTS["W"].at[:12, 0, 0].set(jnp.nan)}
    right = jc.check_batch(loss, holes, grad)
    assert (right.verdict, right.reason) == (Verdict.INCONCLUSIVE, Reason.NONFINITE)
    assert sorted(p.index for p in right.points) == list(range(12))
    # More holes than are examined one by one, before the first wrong point.
    bad = jc.check_batch(loss, holes, wrong)
    assert bad.verdict is Verdict.FAIL and "8 fail" in bad.notes[0]


@pytest.mark.slow
def test_a_numpy_backprop_is_under_test_not_autodiff():
    def by_numpy(p, factor=1.0):
        h = np.tanh(np.asarray(X) @ np.asarray(p["W"]) + np.asarray(p["b"]))
        d = 2 * h * (1 - h * h) / h.size * factor
        return {"W": np.asarray(X).T @ d, "b": d.sum(0)}

    assert jc.check_batch(loss, POINTS, by_numpy).ok
    bad = jc.check_batch(loss, POINTS, lambda p: by_numpy(p, 1.5))
    assert bad.verdict is Verdict.FAIL and len(bad.points) == 20


def test_leaves_that_are_not_differentiable_belong_to_their_point():
    points = {"x": jnp.ones((6, 3)), "k": jnp.arange(1, 7)}
    f = lambda p: jnp.sum(jnp.sin(p["x"])) * p["k"]  # noqa: E731
    assert jc.check_batch(f, points, lambda p: {"x": jnp.cos(p["x"]) * p["k"], "k": None}).ok
    bad = jc.check_batch(f, points, lambda p: {"x": jnp.cos(p["x"]), "k": None})
    assert sorted(p.index for p in bad.points) == [1, 2, 3, 4, 5]


def test_surrogates_and_structures():
    three = lambda p: jax.tree.map(lambda g: 3 * g, grad(p))  # noqa: E731
    report = jc.check_batch(loss, POINTS, three, surrogate=True)
    assert report.reason is Reason.SURROGATE and not report.points
    report = jc.check_batch(loss, POINTS, lambda p: {"W": grad(p)["W"]})
    assert report.reason is Reason.STRUCTURE and any("`b`" in note for note in report.notes)


def test_other_dtypes_and_no_grad():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), POINTS)
    assert jc.check_batch(loss, half, grad).ok
    z = np.random.default_rng(0).normal(size=(6, 3)) * (1 + 2j)
    f = lambda z: jnp.sum(jnp.abs(z) ** 2)  # noqa: E731
    assert jc.check_batch(f, z, lambda z: 2 * jnp.conj(z)).ok
    assert jc.check_batch(f, z, lambda z: 2 * z).verdict is Verdict.FAIL
    assert jc.check_batch(loss, POINTS).ok
    scalars = {"s": jnp.linspace(0.1, 1, 5)}
    assert jc.check_batch(lambda p: jnp.sin(p["s"]), scalars, lambda p: {"s": jnp.cos(p["s"])}).ok
    assert jc.check_batch(lambda x: jnp.sin(x), [0.1, 0.2, 0.3], jnp.cos).ok


BAD = {
    "neither": ({}, TypeError, "points"),
    "both": (dict(points=POINTS, init=init, n=2), TypeError, "not both"),
    "n 0": (dict(init=init, n=0), ValueError, "n=0"),
    "no n": (dict(init=init), ValueError, "n=None"),
    "n of points": (dict(points=POINTS, n=2), TypeError, "n= draws that many points from init="),
    "generator": (dict(points=(point(k) for k in range(2))), TypeError, "give a list of pytrees, list(points)"),
    "empty list": (dict(points=[]), TypeError, "points holds no array"),
    "no point": (dict(points={"W": jnp.zeros((0, 4, 3)), "b": jnp.zeros((0, 3))}), ValueError, "points holds no point"),
    "ragged": (dict(points={"W": jnp.zeros((2, 4, 3)), "b": jnp.zeros((3, 3))}), ValueError, "equal length"),
    "unlike": (dict(points=[point(0), {"W": jnp.zeros((4, 2)), "b": jnp.zeros(2)}]), ValueError, "points[1]"),
    "steps alone": (dict(points=point(0), steps=[1]), TypeError, "train_step"),
    "negative step": (dict(points=point(0), train_step=lambda p: p, steps=[-1]), ValueError, "steps="),
    "exhaustive": (dict(points=POINTS, mode="exhaustive"), ValueError, "Sketch"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    options, kind, text = BAD[name]
    with pytest.raises(kind) as caught:
        jc.check_batch(loss, grad=grad, **options)
    assert text in str(caught.value)


def test_the_seed_decides_the_points():
    first, again, other = (jc.check_batch(loss, init=init, n=6, grad=wrong, seed=s).points[0] for s in (1, 1, 2))
    assert first == again and first.difference != other.difference


def wrong_at(*indices):
    """Wrong by another factor at each of some points."""
    first = POINTS["W"][:, 0, 0]

    def g(p):
        here = jnp.argmin(jnp.abs(first - p["W"][0, 0]))
        factor = sum(jnp.where(here == i, 0.1 * (k + 1), 0.0) for k, i in enumerate(indices))
        return {**grad(p), "b": (1 + factor) * grad(p)["b"]}

    return g


def by_hand(p):
    return float(np.mean(np.tanh(np.asarray(X, float) @ np.asarray(p["W"], float) + np.asarray(p["b"], float)) ** 2))


FAILING = {"none": (), "one": (7,), "six": (1, 4, 7, 9, 12, 19), "most": tuple(range(2, 17))}


@pytest.mark.parametrize("host", [False, True], ids=["one program", "one by one"])
@pytest.mark.parametrize("name", FAILING)
def test_every_number_belongs_to_a_named_point(name, host):
    """The report is that of one point, which is the worst and is named; counts, lists and words agree."""
    bad = FAILING[name]
    the_loss, g = (by_hand if host else loss), wrong_at(*bad)
    report = jc.check_batch(the_loss, POINTS, g)
    shown = int(report.point.removeprefix("point "))
    alone = jc.check_grad(the_loss, point(shown), g)
    for field in ("verdict", "reason", "leaves", "difference", "difference_autodiff", "mode", "value", "witnesses"):
        assert repr(getattr(report, field)) == repr(getattr(alone, field)), field
    assert (report.points_passed, report.points_failed, report.points_inconclusive) == (20 - len(bad), len(bad), 0)
    assert sorted(p.index for p in report.points) == sorted(bad)
    said = str(report)
    assert f"at point {shown}" in said.splitlines()[0] and f"those of point {shown} alone" in report.notes[1]
    share = f" ({100 * len(bad) / 20:.3g} % did not pass)" if bad else ""
    assert f"points: 20 checked: {'20 PASS' if not bad else f'{20 - len(bad)} PASS, {len(bad)} FAIL'}{share}" in said
    if bad:
        assert report.points[0].index == shown and report.points[0].difference == report.difference
        assert len(bad) > 8 or report.difference == max(p.difference for p in report.points)
    again = jc.Report.from_json(report.to_json())
    assert repr(again) == repr(report) and str(again) == said


def test_points_that_are_counted_only_are_blamed_at_their_own_leaf():
    """With a leaf that is empty and has no column, and without autodiff, so that N alone decides."""
    points = {"a": POINTS["b"][:, :0], "b": POINTS["W"][:, 0], "c": POINTS["W"][:, 1]}

    def f(p):
        once = lambda s: (s[0] + 1, jnp.sum(jnp.sin(p["b"]) + p["c"] ** 3))  # noqa: E731
        return jax.lax.while_loop(lambda s: s[0] < 1, once, (0, 0.0))[1] + jnp.sum(p["a"])

    right = lambda p: {"a": p["a"], "b": jnp.cos(p["b"]), "c": 3 * p["c"] ** 2}  # noqa: E731
    report = jc.check_batch(f, points, lambda p: {**right(p), "c": 6 * p["c"] ** 2})
    assert len(report.points) == 20 and {p.leaf for p in report.points} == {"c"}
    assert {p.verdict for p in report.points} == {Verdict.FAIL}
    assert jc.check_batch(f, points, right).ok


def test_a_kink_is_not_told_as_a_difference():
    xs = jnp.asarray([[1.0, -2.0], [0.0, 1.0], [0.5, 1.0]])
    report = jc.check_batch(lambda x: jnp.sum(jnp.abs(x)), xs, jnp.sign)
    assert report.ok and any("left out: 1 on a kink or not finite" in note for note in report.notes)


def step(p):
    return jax.tree.map(lambda a, g: a - 0.5 * g, p, grad(p))


def stepped_in_place(p):
    g = jax.tree.map(np.asarray, grad(p))
    for name in p:
        p[name] -= 0.5 * g[name]
    return p


STEPS = {
    "donating": (jax.jit(step, donate_argnums=0), jnp.asarray),
    "donating NumPy": (jax.jit(step, donate_argnums=0), np.asarray),
    "in place": (stepped_in_place, np.array),
}


@pytest.mark.parametrize("how", STEPS)
def test_a_step_that_consumes_what_it_is_given(how):
    """The caller's arrays live on, and so do the points, each with its own numbers."""
    taken, kind = STEPS[how]
    start = jax.tree.map(kind, point(0))
    before = jax.tree.map(np.array, start)
    options = dict(train_step=taken, steps=[0, 1, 3])
    plain = jc.check_batch(loss, point(0), wrong, train_step=step, steps=[0, 1, 3])
    report = jc.check_batch(loss, start, wrong, **options)
    assert jc.check_batch(loss, start, grad, **options).ok
    jax.tree.map(np.testing.assert_array_equal, start, before)
    assert sorted(p.label for p in report.points) == ["step 0", "step 1", "step 3"]
    theirs = {p.label: p.difference for p in plain.points}
    assert len(set(theirs.values())) == 3  # or the points cannot be told apart
    assert {p.label: p.difference for p in report.points} == pytest.approx(theirs, rel=1e-4)


def test_a_step_that_keeps_its_key():
    start = {**point(0), "key": jax.random.key(3), "n": 2}
    keyed = lambda p: {**p, **step({"W": p["W"], "b": p["b"]})}  # noqa: E731
    g = lambda p: {**grad(p), "key": None, "n": None}  # noqa: E731
    assert jc.check_batch(loss, start, g, train_step=jax.jit(keyed, donate_argnums=0), steps=[0, 2]).ok


def normal_fit(p):
    z = (DATA - p[0]) * jnp.exp(-p[1])
    return jnp.mean(0.5 * z**2 + p[1])


DATA = jnp.asarray(np.random.default_rng(5).normal(size=30), jnp.float32)
MEANS, LOGS = jnp.linspace(-1, 1, 6), jnp.linspace(-0.5, 0.5, 6)


def test_a_tuple_of_stacked_leaves_is_no_list_of_points():
    # The loss takes an array of two as well, so that (means, logs) was read as 2 points of 6 numbers.
    report = jc.check_batch(normal_fit, (MEANS, LOGS))
    assert report.verdict is Verdict.PASS and report.points_passed == 6


def test_a_list_that_could_be_either_is_a_list_and_says_so():
    report = jc.check_batch(normal_fit, [MEANS, LOGS])
    assert report.points_passed == 2
    assert "read as a list of 2 points; where it means 6 points stacked" in str(report).replace("\n", " ")
    assert not any("is read as" in note for note in jc.check_batch(normal_fit, [MEANS[:2], LOGS[:3]][:1]).notes)
