"""Every output and every input has its own scale: a mistake in a small one is not drowned by a large one.

The families are generated: scales of the leaves, which of them is wrong, and how, in both front doors.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.check.laws.algebra import laws
from jaxcheck.test_util import check_grads, check_vjp

X = jnp.linspace(-1.0, 1.0, 9)
FAST = dict(algebra=False, transforms=False)
PARTS = (jnp.exp, jnp.sin, lambda x: x**3 + x)
SLOPES = (jnp.exp, jnp.cos, lambda x: 3 * x**2 + 1)
SCALES = [(1e4, 1e-3), (1e-5, 1e5), (1.0, 1e-5, 1e5)]
MISTAKES = {"sign": -1.0, "nothing": 0.0, "0.1 %": 1.001}


def outputs(scales, wrong=-1, factor=1.0, mode="rev"):
    """x -> one output per scale; the derivative of output `wrong` is multiplied by `factor`."""

    def f(x):
        return tuple(c * part(x) for c, part in zip(scales, PARTS, strict=False))

    def slopes(x):
        return [
            c * (factor if k == wrong else 1.0) * slope(x)
            for k, (c, slope) in enumerate(zip(scales, SLOPES, strict=False))
        ]

    if mode == "fwd":
        rule = jax.custom_jvp(f)
        rule.defjvp(lambda p, t: (f(*p), tuple(s * t[0] for s in slopes(p[0]))))
    else:
        rule = jax.custom_vjp(f)
        rule.defvjp(lambda x: (f(x), x), lambda x, g: (sum(s * c for s, c in zip(slopes(x), g, strict=True)),))
    return rule, (X,)


def inputs(scales, wrong=-1, factor=1.0, mode="rev"):
    """One input per scale -> one output; the derivative by input `wrong` is multiplied by `factor`."""

    def f(*xs):
        return sum(c * part(x) for c, part, x in zip(scales, PARTS, xs, strict=False))

    def slopes(xs):
        return [
            c * (factor if k == wrong else 1.0) * slope(x)
            for k, (c, slope, x) in enumerate(zip(scales, SLOPES, xs, strict=False))
        ]

    if mode == "fwd":
        rule = jax.custom_jvp(f)
        rule.defjvp(lambda p, t: (f(*p), sum(s * v for s, v in zip(slopes(p), t, strict=True))))
    else:
        rule = jax.custom_vjp(f)
        rule.defvjp(lambda *xs: (f(*xs), xs), lambda xs, g: tuple(s * g for s in slopes(xs)))
    return rule, tuple(X + k for k in range(len(scales)))


def mixed(scales, wrong=-1, factor=1.0, mode="rev"):
    """One flat vector of components of very different units, in and out."""
    c = jnp.asarray(np.repeat(scales, 5))

    def f(x):
        return jnp.sin(x / c) * c[::-1]

    def slope(x):
        return jnp.cos(x / c) / c * c[::-1] * jnp.ones(c.size).at[5 * wrong + 2].set(factor if wrong >= 0 else 1.0)

    if mode == "fwd":
        rule = jax.custom_jvp(f)
        rule.defjvp(lambda p, t: (f(*p), slope(p[0]) * t[0]))
    else:
        rule = jax.custom_vjp(f)
        rule.defvjp(lambda x: (f(x), x), lambda x, g: (slope(x) * g,))
    return rule, (c * jnp.linspace(0.3, 1.1, c.size),)


FAMILY = list(itertools.product((outputs, inputs, mixed), SCALES, ("rev", "fwd")))
NAMES = [f"{make.__name__}-{'-'.join(f'{s:g}' for s in scales)}-{mode}" for make, scales, mode in FAMILY]


@pytest.mark.filterwarnings("error::jaxcheck.GradientCheckWarning")
@pytest.mark.parametrize(("make", "scales", "mode"), FAMILY, ids=NAMES)
def test_right_whatever_the_scales(make, scales, mode):
    rule, args = make(scales, mode=mode)
    check_grads(rule, args, 1, [mode])
    report = jc.check_rule(rule, *args, **FAST)
    assert report.ok and not any(r.status == "WRONG" for r in report.rows), str(report)


def test_a_jump_beside_a_tiny_input_is_told():
    def f(x):
        return jnp.floor(x[0] / 1e5) + jnp.arange(2.0) * jnp.sin(x[1] / 1e-5), jnp.sin(x[1] / 1e-5)

    with pytest.warns(jc.GradientCheckWarning, match="2 of 3 outputs jump at this point"):
        check_grads(f, (np.array([1e5, 1e-5]),), 1, ["fwd"])


@pytest.mark.parametrize(
    ("make", "scales", "mode"),
    [
        pytest.param(*one, id=name, marks=[] if (i // 2) % 3 == (i // 6 + i) % 3 else pytest.mark.slow)
        for i, (one, name) in enumerate(zip(FAMILY, NAMES, strict=True))
    ],
)
def test_no_law_is_broken_whatever_the_scales(make, scales, mode):
    rule, args = make(scales, mode=mode)
    assert not [r for r in laws(rule, args, argnums=range(len(args))) if r.status == "WRONG"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "scales", "mode", "mistake"),
    [
        pytest.param(*one, mistake, id=f"{name}-{mistake}", marks=[] if k == (i + i // 6) % 3 else pytest.mark.slow)
        for i, (one, name) in enumerate(zip(FAMILY, NAMES, strict=True))
        for k, mistake in enumerate(MISTAKES)
    ],
)
def test_wrong_in_one_leaf(make, scales, mode, mistake):
    for wrong in range(len(scales)):
        rule, args = make(scales, wrong, MISTAKES[mistake], mode)
        with pytest.raises(jc.GradientMismatch):
            check_grads(rule, args, 1, [mode])


@pytest.mark.parametrize("mode", ["rev", "fwd"])
@pytest.mark.slow
def test_wrong_by_less_than_the_rounding_of_the_outputs(mode):
    """Outputs of 1e8 are not known to 1e-9, by which this is wrong; derivatives are known to their own rounding."""
    for wrong in (1, -1):
        rule, args = inputs((1.0, 1e-6, 1e6), wrong, MISTAKES["0.1 %"], mode)
        args = tuple(x + 5 for x in args)
        if wrong < 0:
            check_grads(rule, args, 1, [mode])
            continue
        with pytest.raises(jc.GradientMismatch):
            check_grads(rule, args, 1, [mode])


@pytest.mark.parametrize("make", [outputs, inputs, mixed])
@pytest.mark.parametrize("mode", ["rev", "fwd"])
def test_wrong_in_the_smallest_leaf_of_a_rule(make, mode):
    rule, args = make((1e4, 1e-3), 1, -1.0, mode)
    report = jc.check_rule(rule, *args, **FAST)
    assert report.verdict is jc.Verdict.FAIL, str(report)
    if mode == "fwd":
        assert [r.name for r in report.rows if r.status == "WRONG"] == ["JVP"]
    if make is outputs:  # the number printed is that of the cotangent which shows it
        assert report.difference > 0.5 and report.difference_autodiff > 0.5


def test_the_result_is_named():
    rule, args = outputs((1e4, 1e-3), 1, -1.0)
    with pytest.raises(jc.GradientMismatch, match="result 1"):
        check_grads(rule, args, 1, ["rev"])
    with pytest.raises(jc.GradientMismatch, match="result 1"):
        check_vjp(rule, lambda x: jax.vjp(rule, x), args)
    row = next(r for r in laws(rule, args) if r.name == "adjointness")
    assert row.status == "WRONG" and "result 1 alone" in row.detail


def branching(branch):
    """(exp x, sin x) by a rule that looks at its cotangents."""
    f = jax.custom_vjp(lambda x: (1e3 * jnp.exp(x), 1e-3 * jnp.sin(x)))

    def bwd(x, g):
        a, b = branch(*g)
        return (a * 1e3 * jnp.exp(x) + b * 1e-3 * jnp.cos(x),)

    f.defvjp(lambda x: (f(x), x), bwd)
    return f


BRANCHES = {
    "other is zero": lambda a, b: (a, jnp.where((a == 0).all(), 2 * b, b)),
    "other is not": lambda a, b: (a, jnp.where((a != 0).all(), 2 * b, b)),
    "its own is zero": lambda a, b: (jnp.where((b == 0).all(), -a, a), b),
    "some entries are zero": lambda a, b: (a, jnp.where((b == 0).any() & (b != 0).any(), 1.01 * b, b)),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_on_zero_cotangents(name):
    report = jc.check_rule(branching(BRANCHES[name]), X, transforms=False)
    wrong = {r.name for r in report.rows if r.status == "WRONG"}
    assert report.verdict is jc.Verdict.FAIL and "additive in the cotangent" in wrong, str(report)


def test_a_branch_on_zero_tangents():
    f = jax.custom_jvp(lambda x, y: jnp.sin(x) * y)
    f.defjvp(lambda p, t: (f(*p), jnp.cos(p[0]) * p[1] * t[0] * jnp.where((t[1] == 0).all(), 1.0, 2.0)
                           + jnp.sin(p[0]) * t[1]))  # fmt: skip
    rows = {r.name: r for r in laws(f, (X, X + 2), argnums=(0, 1))}
    assert rows["additive in the tangent"].status == "WRONG"


@pytest.mark.slow
def test_more_leaves_than_groups():
    """Twenty outputs, the last and smallest wrong."""
    scales = np.logspace(6, -6, 20)

    def rule(wrong):
        f = jax.custom_vjp(lambda x: [c * jnp.sin(x + k) for k, c in enumerate(scales)])
        f.defvjp(lambda x: (f(x), x), lambda x, g: (sum(c * (-1 if k == wrong else 1) * jnp.cos(x + k) * g[k]
                                                        for k, c in enumerate(scales)),))  # fmt: skip
        return f

    assert jc.check_rule(rule(-1), X[:3], transforms=False).ok
    assert jc.check_rule(rule(19), X[:3], transforms=False).verdict is jc.Verdict.FAIL
