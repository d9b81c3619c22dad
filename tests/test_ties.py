"""Ties across leaves: each component alone may lie between its one-sided slopes and the gradient be wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict
from jaxcheck.check import batch

AT = np.float64(1.3)


def largest(p):
    return jnp.max(jnp.stack([p[k] for k in sorted(p)]))


def largest_on_host(p):
    return float(max(p.values()))


def scaled(p):
    return jnp.maximum(p["a"], 2 * p["b"])


def two_pairs(p):
    return jnp.maximum(p["a"], p["b"]) + jnp.maximum(p["c"], p["d"])


def cancelling(p):
    return jnp.abs(p["a"]) - jnp.abs(p["b"])


def inner(p):
    return jnp.sin(jnp.maximum(p["u"][0], p["v"][1])) + jnp.sum(p["u"] ** 2) * p["v"][0]


TWO, THREE = {"a": AT, "b": AT}, {"a": AT, "b": AT, "c": AT}
# (loss, point, gradients that are right, gradients that are wrong)
CASES = {
    "two": (largest, TWO, [(1, 0), (0, 1), (0.5, 0.5), (0.25, 0.75)], [(1, 1), (0.3, 0.3), (0, 0), (0.5, 0.501)]),
    "three": (
        largest,
        THREE,
        [(1, 0, 0), (0.2, 0.2, 0.6), (1 / 3, 1 / 3, 1 / 3)],
        [(1, 1, 0), (0.3, 0.3, 0.3), (0, 0, 0), (1, 1, 1)],
    ),
    "scaled": (scaled, {"a": 2 * AT, "b": AT}, [(1, 0), (0, 2), (0.5, 1)], [(1, 2), (0.5, 0.5), (0, 0)]),
    "two pairs of one value": (
        two_pairs,
        dict.fromkeys("abcd", AT),
        [(1, 0, 0, 1), (0.5, 0.5, 0.5, 0.5)],
        [(1, 1, 0, 0), (0.5, 0.5, 1, 1)],
    ),
    # The slopes along (1, 1) agree on both sides, but because two kinks cancel, not because there is none.
    "no tie": (cancelling, {"a": np.float64(0), "b": np.float64(0)}, [(0, 0), (1, 0), (1, -1), (1, 1)], [(1.5, 0)]),
}
RUNS = [
    (name, m, right)
    for name, (_, _, good, bad) in CASES.items()
    for right, ms in ((True, good), (False, bad))
    for m in ms
]


@pytest.mark.parametrize("form", ["function", "numbers"])
@pytest.mark.parametrize(("name", "m", "right"), RUNS)
def test_subgradients_at_a_tie(name, m, right, form):
    loss, point, *_ = CASES[name]
    numbers = dict(zip(sorted(point), map(np.float64, m), strict=True))
    with jax.enable_x64(True):
        grad = numbers if form == "numbers" else lambda p: jax.tree.map(jnp.asarray, numbers)
        report = jc.check_grad(loss, jax.tree.map(jnp.asarray, point), grad)
    assert (report.verdict, report.reason) == (
        (Verdict.PASS, Reason.KINK) if right else (Verdict.FAIL, Reason.MANUAL_WRONG)
    ), str(report)


@pytest.mark.parametrize("mode", [None, "sketch"])
@pytest.mark.parametrize(("m", "right"), [((1, 0), True), ((0.5, 0.5), True), ((1, 1), False), ((0.3, 0.3), False)])
def test_without_autodiff(m, right, mode):
    report = jc.check_grad(largest_on_host, TWO, dict(zip("ab", m, strict=True)), mode=mode)
    assert report.verdict is (Verdict.PASS if right else Verdict.FAIL), str(report)


@pytest.mark.parametrize(("m", "right"), [((1, 0), True), ((0.4, 0.6), True), ((1, 1), False), ((0, 0), False)])
def test_single_components_of_larger_leaves(m, right):
    p = {"u": jnp.asarray([0.7, -0.2]), "v": jnp.asarray([0.1, 0.7])}

    def grad(p):
        a, b = p["u"][0], p["v"][1]
        one, other = jnp.where(a == b, m[0], a > b), jnp.where(a == b, m[1], b > a)
        slope = jnp.cos(jnp.maximum(a, b))
        return {
            "u": (2 * p["u"] * p["v"][0]).at[0].add(one * slope),
            "v": jnp.stack([jnp.sum(p["u"] ** 2), other * slope]),
        }

    report = jc.check_grad(inner, p, grad)
    assert report.verdict is (Verdict.PASS if right else Verdict.FAIL), str(report)
    if not right:
        assert report.leaf("u").worst[0].index == (0,) and report.leaf("v").worst[0].index == (1,)


def test_the_sentence_says_what_was_seen():
    report = jc.check_grad(largest_on_host, TWO, {"a": 1.0, "b": 1.0})
    assert "along the kink with `b` the function has slope 1, the gradient 2" in report.leaf("a").note


def test_only_the_leaf_that_departs_from_autodiff_is_blamed():
    """JAX shares a tie half and half; one leaf says so, the other does not."""
    report = jc.check_grad(largest, TWO, lambda p: {"a": 1.0, "b": 0.5})
    assert [x.path for x in report.leaves if x.verdict is Verdict.FAIL] == ["a"]


@pytest.mark.slow
def test_a_tie_under_another_kink_is_seen_beside_the_point():
    """|a| hides the tie of a and b at zero; beside it, the tie kept, it does not."""

    def loss(p):
        return jnp.maximum(p["a"], p["b"]) + jnp.abs(p["a"]) * p["c"]

    def grad(p, share):
        a, b, c = p["a"], p["b"], p["c"]
        return {
            "a": jnp.where(a > b, 1.0, jnp.where(a == b, share, 0.0)) + jnp.sign(a) * c,
            "b": jnp.where(b > a, 1.0, jnp.where(a == b, share, 0.0)),
            "c": jnp.abs(a),
        }

    p = {"a": jnp.asarray(0.0), "b": jnp.asarray(0.0), "c": jnp.asarray(0.4)}
    for share in (0.5, 0.7):
        report = jc.check_grad(loss, p, lambda p: grad(p, share))  # noqa: B023
        assert report.verdict is (Verdict.PASS if share == 0.5 else Verdict.FAIL), str(report)


@pytest.mark.slow
def test_a_rule_with_several_outputs():
    def rule(share):
        @jax.custom_vjp
        def f(a, b):
            return jnp.maximum(a, b), a * b

        def back(saved, g):
            a, b = saved
            tie = jnp.where(a == b, share, a > b)
            other = jnp.where(a == b, share, b > a)
            return g[0] * tie + g[1] * b, g[0] * other + g[1] * a

        f.defvjp(lambda a, b: (f(a, b), (a, b)), back)
        return f

    for share in (0.5, 0.8):
        report = jc.check_rule(rule(share), 1.5, 1.5, algebra=False, transforms=False)
        leaves = {x.verdict for x in report.leaves}
        assert leaves == ({Verdict.PASS} if share == 0.5 else {Verdict.FAIL}), str(report)


def norm(m):
    """|x| with a gradient of m at zero."""
    f = jax.custom_vjp(lambda x: jnp.sqrt(jnp.sum(x * x)))
    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * jnp.asarray(m, x.dtype),))
    return f


@pytest.mark.parametrize(
    ("m", "right"),
    [
        ((0, 0, 0), True),
        ((0.5, 0.5, 0.5), True),
        ((1, 0, 0), True),
        ((1, 1, 1), False),
        ((0.9, 0.9, 0), False),
        ((2, 0, 0), False),
    ],
)
def test_the_tip_of_a_cone(m, right):
    report = jc.check_rule(norm(m), np.zeros(3, np.float32), algebra=False, transforms=False)
    assert (report.verdict, report.reason) == (
        (Verdict.PASS, Reason.KINK) if right else (Verdict.FAIL, Reason.MANUAL_WRONG)
    ), str(report)
    assert report.leaves[0].kinks == 3
    if m == (1, 1, 1):
        assert "has slopes -1.73205 to 1.73205, the gradient 3" in report.leaves[0].note


@pytest.mark.parametrize("x", [(0, 0), (0, 0, -1), (0, 0, 1, 0)])
@pytest.mark.parametrize(("at_zero", "right"), [(0, True), (1, True), (0.3, True), (-0.1, False), (1.1, False)])
def test_independent_kinks_that_cancel(x, at_zero, right):
    """relu(a) - relu(b) has slope 1 along (1, -1), and so on; each still decides for itself."""
    signs = np.array([1.0, -1.0, 1.0, 1.0][: len(x)])

    def grad(x):
        return signs * np.where(x == 0, at_zero, x > 0)

    point = np.array(x, np.float64)
    for loss in (lambda x: jnp.sum(signs * jnp.maximum(x, 0)), lambda x: float(np.sum(signs * np.maximum(x, 0)))):
        report = jc.check_grad(loss, point, grad)
        assert report.verdict is (Verdict.PASS if right else Verdict.FAIL), str(report)
        assert "stop_gradient" not in str(report)


@pytest.mark.parametrize(
    ("m", "right"),
    [
        ((1, 0, 0), True),
        ((0, 0, 1), True),
        ((0.2, 0.3, 0.5), True),
        ((1, 1, 1), False),
        ((0, 0, 0), False),
        ((0, 0, 2), False),
    ],
)
@pytest.mark.parametrize("given", [None, np.float32, np.float64, jnp.float32])
def test_the_median_of_equal_numbers(m, right, given):
    """No component moves it alone; all of them together do. As a function, and as numbers."""
    grad = (lambda p: jnp.array([*m, 0.0, 0.0])) if given is None else np.array([*m, 0, 0], given)
    grad = jnp.asarray(grad) if given is jnp.float32 else grad
    report = jc.check_grad(jnp.median, np.array([1.0, 1, 1, 3, 0]), grad)
    assert report.verdict is (Verdict.PASS if right else Verdict.FAIL), str(report)


def test_autodiff_of_a_median_of_equal_numbers():
    report = jc.check_grad(jnp.median, np.array([1.0, 1, 1, 3, 0]))
    assert (report.verdict, report.reason) == (Verdict.PASS, Reason.KINK), str(report)


@pytest.mark.parametrize("factor", [1, 3])
def test_a_clamp_of_scalars_whose_upper_bound_alone_moves(factor):
    """JAX's own rule for a batch of them fails."""

    def loss(p):
        return jax.lax.clamp(0.0, 3.0, p["high"]) * p["a"]

    report = jc.check_grad(loss, {"high": 1.5, "a": 2.0}, lambda p: {"high": factor * p["a"], "a": p["high"]})
    assert report.verdict is (Verdict.PASS if factor == 1 else Verdict.FAIL), str(report)


POINTS = np.random.default_rng(0).standard_normal((200, 3)) * 1.5
WHOLE, FIRST = np.round(POINTS), np.concatenate([np.round(POINTS[:, :1]), POINTS[:, 1:]], axis=1)
WEIGHTS = np.array([1.0, -2.0, 0.5])


def beside(p):
    return 10 * jnp.abs(p[0]) + jnp.sin(p[1]) + p[2] ** 2


def beside_grad(factor):
    return lambda p: jnp.stack([10 * jnp.sign(p[0]), jnp.cos(p[1]) * jnp.where(p[0] == 0, factor, 1), 2 * p[2]])


def absolute(p):
    return jnp.sum(jnp.abs(p))


# (loss, gradient, points, those at which it is wrong)
BATCHES = {
    "sign": (absolute, jnp.sign, WHOLE, None),
    "-1 at 0": (absolute, lambda p: jnp.where(p > 0, 1.0, -1.0), WHOLE, None),
    "convex and concave": (
        lambda p: jnp.sum(WEIGHTS * jnp.abs(p)),
        lambda p: WEIGHTS * jnp.where(p > 0, 1.0, -1.0),
        WHOLE,
        None,
    ),
    "wrong where 2": (absolute, lambda p: jnp.sign(p) * jnp.where(p == 2, 1.01, 1), WHOLE, (WHOLE == 2).any(axis=1)),
    "outside of the slopes": (
        absolute,
        lambda p: jnp.where(p == 0, 1.5, jnp.sign(p)),
        WHOLE[:40],
        (WHOLE[:40] == 0).any(axis=1),
    ),
    "beside a kink": (beside, beside_grad(1), FIRST, None),
    "wrong beside a kink": (beside, beside_grad(1.001), FIRST, FIRST[:, 0] == 0),
    "a tie counted twice": (
        jnp.max,
        lambda p: (p == p.max()) * 1.0,
        WHOLE,
        (WHOLE == WHOLE.max(axis=1, keepdims=True)).sum(axis=1) > 1,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHES)
def test_many_points_on_kinks(name, monkeypatch):
    loss, grad, points, wrong = BATCHES[name]
    alone = []
    examine = batch.examine
    monkeypatch.setattr(batch, "examine", lambda *a, **k: alone.append(1) or examine(*a, **k))
    with jax.enable_x64(True):
        report = jc.check_batch(loss, points, grad)
    bad = np.zeros(len(points), bool) if wrong is None else wrong
    assert {p.index for p in report.points if p.verdict is Verdict.FAIL} == set(np.flatnonzero(bad)), str(report)
    # Right ones need no check of their own.
    assert len(alone) <= bad.sum() + 2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["relu", "lasso"])
def test_a_leaf_of_many_thousands_of_kinks(what):
    """Its floor is found on a sample of its components, and so are the ranges of those on a kink."""
    p = np.random.default_rng(5).normal(size=(150, 120)).astype(np.float32)
    p[::3] = 0
    loss, grad = {
        "relu": (lambda p: jnp.sum(jnp.maximum(p, 0) * 1.5), lambda p: 1.5 * (p > 0)),
        "lasso": (lambda p: 0.01 * jnp.sum(jnp.abs(p)) + jnp.mean(p**2), lambda p: 0.01 * jnp.sign(p) + 2 * p / p.size),
    }[what]
    report = jc.check_grad(loss, p, grad)
    assert (report.verdict, report.reason) == (jc.Verdict.PASS, jc.Reason.KINK)


@pytest.mark.parametrize(
    ("factor", "right"),
    [(np.ones(6), True), (np.full(6, 0.3), True), (np.arange(6) > 0, False), (np.array([0.95, 1, 1, 1, 1, 1]), False)],
    ids=["one", "a third", "one is missing", "one is off"],
)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("given", ["numbers", "function"])
def test_a_row_of_zeros_before_a_relu_has_one_choice(factor, right, seed, given):
    """Its components stand on one decision, whose normal is a row of data: no direction along it is exact."""
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=6), rng.normal(size=(3, 6))
    w[0], w[1] = x, 0

    def loss(w):
        return jnp.sum(jax.nn.relu(w @ x)) ** 2

    def grad(w):
        h = w @ x
        slope = jnp.where((h == 0)[:, None], factor, (h > 0)[:, None])
        return 2 * jnp.sum(jax.nn.relu(h)) * slope * x

    with jax.enable_x64(True):
        report = jc.check_grad(loss, w, np.asarray(grad(w)) if given == "numbers" else grad, where=False)
    assert report.verdict is (jc.Verdict.PASS if right else jc.Verdict.FAIL), report
    assert report.reason is (jc.Reason.KINK if right else jc.Reason.MANUAL_WRONG)
    if right:
        own = "not on the kinks of `params`, where a range is right" in str(report)
        assert own if np.array_equal(np.asarray(grad(w)), jax.grad(loss)(w)) else np.isnan(report.floor)


@pytest.mark.parametrize("given", ["numbers", "function"])
@pytest.mark.parametrize("kind", ["relu", "abs"])
@pytest.mark.parametrize("seed", range(6))
def test_kinks_that_meet_may_each_have_another_choice(seed, kind, given):
    """A choice of each decision's own, as far as it is that of a piece that is there: fewer decisions than numbers."""
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=(3, 5)), rng.normal(size=3)
    bend, low = {"relu": (jax.nn.relu, 0.0), "abs": (jnp.abs, -1.0)}[kind]
    own = (weight * rng.uniform(low, 1.0, 3)) @ x if seed else (weight * low) @ x

    def loss(w):
        return jnp.sum(weight * bend(x @ w))

    def grad(w):
        return jnp.where(jnp.all(w == 0), own, jax.grad(loss)(w))

    report = jc.check_grad(loss, np.zeros(5), own if given == "numbers" else grad, where=False)
    assert report.reason is jc.Reason.KINK and report.ok, report


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("on", [np.greater, np.greater_equal], ids=[">", ">="])
@pytest.mark.parametrize("tree", [False, True], ids=["one leaf", "leaves"])
@pytest.mark.parametrize("bent", [False, True], ids=["piecewise linear", "curved"])
def test_a_unit_of_zeros_hides_nothing_of_a_gradient_that_is_wrong_where_it_is_on(factor, on, tree, bent):
    """At the point a range is right, or autodiff's own choice is met; to one side of it nothing is wrong."""
    x = jnp.array([1.0, 2.0, 3.0])

    def loss(p):
        a, b, c = p.values() if tree else p
        return jnp.sum(jax.nn.relu(x * a + b)) + (jnp.sin(c) if bent else c)

    def grad(p):
        a, b, c = p.values() if tree else p
        mask = on(x * a + b, 0) * 1.0
        found = jnp.sum(x * mask), factor * jnp.sum(mask), jnp.cos(c) if bent else jnp.ones(())
        return dict(zip("abc", found, strict=True)) if tree else jnp.stack(found)

    at = {"a": jnp.float32(0), "b": jnp.float32(0), "c": jnp.float32(1)} if tree else jnp.array([0.0, 0.0, 1.0])
    report = jc.check_grad(loss, at, grad, where=False)
    assert report.verdict is (jc.Verdict.PASS if factor == 1 else jc.Verdict.FAIL), report


def test_one_order_of_a_sort_with_ties_is_right_and_no_other_weight_is():
    """By the stable order the middle of five that are tied gets a weight between which its own slopes need not lie."""
    rng = np.random.default_rng(3)
    weight = jnp.asarray(rng.normal(size=9))

    def loss(x):
        return jnp.sum(weight * jnp.sort(x))

    def by_order(x, off=0.0):
        at = jnp.argsort(x, stable=True)
        return jnp.zeros(9).at[at].set(weight).at[at[4]].add(off)

    for k in range(12):
        x = np.round(rng.normal(size=9))
        assert jc.check_grad(loss, x), k
        assert jc.check_grad(loss, x, by_order), k
        wrong = jc.check_grad(loss, x, lambda x: by_order(x, 0.3), where=False)
        assert not wrong, (k, wrong)
