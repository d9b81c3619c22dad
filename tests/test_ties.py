"""Ties across leaves: each component alone may lie between its one-sided slopes and the gradient be wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict

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
    "three": (largest, THREE, [(1, 0, 0), (0.2, 0.2, 0.6), (1 / 3, 1 / 3, 1 / 3)],
              [(1, 1, 0), (0.3, 0.3, 0.3), (0, 0, 0), (1, 1, 1)]),
    "scaled": (scaled, {"a": 2 * AT, "b": AT}, [(1, 0), (0, 2), (0.5, 1)], [(1, 2), (0.5, 0.5), (0, 0)]),
    "two pairs of one value": (two_pairs, dict.fromkeys("abcd", AT), [(1, 0, 0, 1), (0.5, 0.5, 0.5, 0.5)],
                               [(1, 1, 0, 0), (0.5, 0.5, 1, 1)]),
    # The slopes along (1, 1) agree on both sides, but because two kinks cancel, not because there is none.
    "no tie": (cancelling, {"a": np.float64(0), "b": np.float64(0)}, [(0, 0), (1, 0), (1, -1), (1, 1)], [(1.5, 0)]),
}
RUNS = [(name, m, right) for name, (_, _, good, bad) in CASES.items()
        for right, ms in ((True, good), (False, bad)) for m in ms]


@pytest.mark.parametrize("form", ["function", "numbers"])
@pytest.mark.parametrize(("name", "m", "right"), RUNS)
def test_subgradients_at_a_tie(name, m, right, form):
    loss, point, *_ = CASES[name]
    numbers = dict(zip(sorted(point), map(np.float64, m), strict=True))
    with jax.enable_x64(True):
        grad = numbers if form == "numbers" else lambda p: jax.tree.map(jnp.asarray, numbers)
        report = jc.check_grad(loss, jax.tree.map(jnp.asarray, point), grad)
    assert (report.verdict, report.reason) == (
        (Verdict.PASS, Reason.KINK) if right else (Verdict.FAIL, Reason.MANUAL_WRONG)), str(report)


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
        return {"u": (2 * p["u"] * p["v"][0]).at[0].add(one * slope),
                "v": jnp.stack([jnp.sum(p["u"] ** 2), other * slope])}

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


def test_a_tie_under_another_kink_is_seen_beside_the_point():
    """|a| hides the tie of a and b at zero; beside it, the tie kept, it does not."""
    def loss(p):
        return jnp.maximum(p["a"], p["b"]) + jnp.abs(p["a"]) * p["c"]

    def grad(p, share):
        a, b, c = p["a"], p["b"], p["c"]
        return {"a": jnp.where(a > b, 1.0, jnp.where(a == b, share, 0.0)) + jnp.sign(a) * c,
                "b": jnp.where(b > a, 1.0, jnp.where(a == b, share, 0.0)), "c": jnp.abs(a)}

    p = {"a": jnp.asarray(0.0), "b": jnp.asarray(0.0), "c": jnp.asarray(0.4)}
    for share in (0.5, 0.7):
        report = jc.check_grad(loss, p, lambda p: grad(p, share))  # noqa: B023
        assert report.verdict is (Verdict.PASS if share == 0.5 else Verdict.FAIL), str(report)


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
