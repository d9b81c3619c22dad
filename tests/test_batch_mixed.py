"""Batches of which some points are right and others wrong, by a little or by much: each has the verdict that it has
alone, also where most are judged by the batch's numbers; and a batch that is wrong throughout costs no more for being
wrong by little."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Tolerance, Verdict
from jaxcheck.evidence import roundoff
from jaxcheck.problem.of_loss import prepare
from jaxcheck.there import there

N = 24
RNG = np.random.default_rng(4)
X, Y = (RNG.normal(size=(6, k)).astype(np.float32) for k in (4, 3))
POINTS = {"W": RNG.normal(size=(N, 4, 3)), "b": RNG.normal(size=(N, 3))}
KINKED = (3, 10, 17)
POINTS["b"][list(KINKED), 0] = 0.0


def at(points, i):
    return jax.tree.map(lambda x: x[i], points)


def loss(p):
    return jnp.mean((jnp.tanh(X @ p["W"] + p["b"]) - Y) ** 2) + jnp.abs(p["b"][0])


def grad(p):
    h = jnp.tanh(X @ p["W"] + p["b"])
    d = 2 * (h - Y) / Y.size * (1 - h**2)
    return {"W": X.T @ d, "b": d.sum(0).at[0].add(jnp.sign(p["b"][0]))}


def off_by_its_own(p):
    """The gradient with leaf W off by 10^-k at a point whose leaf `k` is not 0; by the half of it where k is 9."""
    right, k = grad(p), p["k"]
    error = jnp.where(k > 0, jnp.where(k == 9, 0.5, 10.0**-k), 0.0)
    return {**right, "W": right["W"] * (1 + error), "k": None}


def verdicts(report, n):
    found = {p.index: p.verdict for p in report.points}
    count = [report.points_passed, report.points_failed, report.points_inconclusive]
    every = [found.get(i, Verdict.PASS) for i in range(n)]
    assert count == [every.count(v) for v in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)]
    return every


CYCLE = np.array([0, 3, 4, 5, 6])
MIXTURES = {
    "few wrong": np.where(np.arange(N) % 9 == 4, 5, 0),
    "few right": np.where(np.arange(N) % 9 == 4, 0, 5),
    "all sizes": CYCLE[np.arange(N) % 5],
    "all sizes, none right": CYCLE[1 + np.arange(N) % 4],
    "all by 1e-6": np.full(N, 6),
    "by half, and by little": np.where(np.arange(N) < 8, 9, 6) * (np.arange(N) % 6 > 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXTURES)
def test_a_point_has_the_verdict_that_it_has_alone(name):
    points = {**POINTS, "k": MIXTURES[name]}
    report = jc.check_batch(loss, points, off_by_its_own)
    assert verdicts(report, N) == [jc.check_grad(loss, at(points, i), off_by_its_own).verdict for i in range(N)]
    assert {p.index for p in report.points} == set(np.flatnonzero(MIXTURES[name]).tolist())
    assert {p.leaf for p in report.points} == {"W"} and report.difference == report.points[0].difference


MANY = 60
MORE = {"W": RNG.normal(size=(MANY, 4, 3)), "b": RNG.normal(size=(MANY, 3))}


def evaluations(g):
    report = jc.check_batch(loss, MORE, g)
    assert report.points_failed == MANY
    return report.evaluations


@pytest.mark.slow
def test_what_is_wrong_by_little_takes_no_more_evaluations():
    scaled = lambda e: lambda p: {**grad(p), "W": grad(p)["W"] * (1 + e)}  # noqa: E731
    gross = evaluations(scaled(1e-2))
    for error in (1e-4, 1e-5, 1e-6):
        # Those that are examined alone are looked at more closely.
        assert evaluations(scaled(error)) <= 2 * gross, error


def small_ones_and_a_large_one():
    """Points at which the gradient is small, and one at which it is not."""
    x = np.full((16, 4), 0.01) * (1 + np.arange(16)[:, None] / 40)
    x[-1] = 1.0
    return x


@pytest.mark.slow
def test_what_the_caller_grants_is_granted_at_every_point():
    x = small_ones_and_a_large_one()
    f, g = (lambda x: jnp.sum(x**2)), lambda x: 3 * x
    report = jc.check_batch(f, x, g, tolerance=Tolerance(atol=0.05))
    alone = [jc.check_grad(f, one, g, tolerance=Tolerance(atol=0.05)).verdict for one in x]
    assert verdicts(report, 16) == alone and alone.count(Verdict.FAIL) == 1
    # Of large numbers that move the function as much as the others do, a gradient that is small beside theirs.
    both = np.stack([np.full(16, 1e4), np.linspace(1, 2, 16)], axis=1)
    h = lambda x: 1e-4 * x[0] + x[1] ** 2  # noqa: E731
    wrong = lambda x: jnp.stack([2e-4, 2 * x[1] * jnp.where(x[1] > 1.6, 2.0, 1.0)])  # noqa: E731
    report = jc.check_batch(h, both, wrong, tolerance=1e-2)
    assert verdicts(report, 16) == [jc.check_grad(h, x, wrong, tolerance=1e-2).verdict for x in both]


@pytest.mark.slow
def test_where_loops_stop_early_a_point_that_is_right_at_the_limit_is_not_counted_as_wrong():
    def root(a):
        def turn(s):
            x, _ = s
            new = x - 0.3 * (x**2 - a)
            return new, jnp.abs(new - x)

        return jax.lax.while_loop(lambda s: s[1] > 1e-2, turn, (jnp.ones_like(a), jnp.ones_like(a)))[0]

    stopped = jax.custom_jvp(root)
    stopped.defjvp(lambda p, t: (root(*p), t[0] / (2 * root(*p))))
    f = lambda p: jnp.sum(stopped(p[0]) + p[1] ** 2)  # noqa: E731
    a = np.stack([np.linspace(1.5, 2.5, 24), np.linspace(0.5, 1.0, 24)], axis=1)
    factor = lambda p: jnp.where(p[0] > 2.2, 1.5, 1.0)  # noqa: E731
    g = lambda p: jnp.stack([0.5 * p[0] ** -0.5 * factor(p), 2 * p[1]])  # noqa: E731
    report = jc.check_batch(f, a, g)
    assert verdicts(report, 24) == [jc.check_grad(f, x, g).verdict for x in a]


@pytest.mark.parametrize("looped", [False, True], ids=["by NumPy", "compiled"])
def test_the_round_off_of_many_points_is_that_of_each(looped):
    def f(x):
        return jax.lax.scan(lambda c, a: (jnp.sin(c * a), None), x[0], x)[0] if looped else jnp.sum(jnp.sin(x) ** 3)

    points = RNG.normal(size=(5, 3))
    problem, _ = prepare(f, points[0], jax.grad(f), (), False, "float64")
    m, a, _ = roundoff.at_each(problem, points)
    assert m.shape == a.shape == (5, 3) and (m > 0).all()
    for i, x in enumerate(points):
        alone, _ = roundoff.measure(problem, x)
        np.testing.assert_allclose(m[i], there(alone.m)[0], rtol=0.5)
        np.testing.assert_allclose(a[i], there(alone.a)[0], rtol=0.5)
