"""Where arrays are too large to be searched, the same programs are searched at small ones, and said of the large."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.check import where
from jaxcheck.program.objective import trace
from jaxcheck.program.where import of_rules, problem, smaller
from jaxcheck.program.where.nonsense import Late
from jaxcheck.program.where.projections import Projections
from tests.where import build

pytestmark = pytest.mark.where


def check(right: str, wrong: str):
    source = (build.NETS / "wide.py").read_text(encoding="utf-8")
    assert source.count(right) == 1
    found = build.module("wide", source.replace(right, wrong))
    params, args = build.point(found, np.float32)
    return jc.check_grad(found.loss, params, found.grad, args=args)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "edit"),
    [
        ("dx = dh * (1 - h**2)", "dx = dh * (1 - h)", "dx = dh * (1 - h**2)"),
        ("dq = (q - y) / n", "dq = q - y", "dq = (q - y) / x.shape[0]"),
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
    assert "The line was looked for in the same programs at small sizes: axes of 20 as 7, 48 as 11, 600 as 13." in str(
        report
    ).replace("\n", " ")


def test_numbers_written_for_an_axis_go_with_it():
    w = np.ones((600, 48))

    def f(x):
        return jnp.sum(jnp.reshape(w * x, (600 * 48,)) / 600) / jnp.sqrt(48.0) + jnp.sum(x[1:]) / 599

    closed = jax.make_jaxpr(f)(np.ones((600, 48)))
    (sizes,) = smaller.cuts((closed,), 1)
    assert sizes == {48: 7, 600: 11}
    tape = problem.record(smaller.resized(closed, sizes), [np.ones((11, 7))])
    assert tape.values[tape.outputs[0]] == pytest.approx(7 / 7**0.5 + 7)


@pytest.mark.slow
def test_data_that_is_closed_over_and_long_loops_are_cut():
    rng = np.random.default_rng(0)
    xs, y = rng.normal(size=(900, 3)), rng.normal(size=4)

    def run(p):
        def step(h, x):
            new = jnp.tanh(0.5 * p["W"] @ h + p["U"] @ x)
            return new, (h, new)

        return jax.lax.scan(step, jnp.zeros(4), xs)

    def loss(p):
        return 0.5 * jnp.sum((run(p)[0] - y) ** 2)

    def grad(p):
        h, kept = run(p)

        def back(carry, now):
            dh, dW, dU = carry
            before, after, x = now
            dz = dh * (1 - after**2)
            dW = dW + 0.5 * jnp.outer(dz, before)
            dU = dU + jnp.outer(dh, x)
            return (0.5 * p["W"].T @ dz, dW, dU), None

        start = (h - y, jnp.zeros_like(p["W"]), jnp.zeros_like(p["U"]))
        (_, dW, dU), _ = jax.lax.scan(back, start, (*kept, xs), reverse=True)
        return {"W": dW, "U": dU}

    report = jc.check_grad(loss, {"W": rng.normal(size=(4, 4)), "U": rng.normal(size=(4, 3))}, grad)
    assert [(c.kind, c.source) for c in report.culprits] == [("line", "dU = dU + jnp.outer(dh, x)")]


@pytest.mark.parametrize(
    ("c", "large"),
    [(1 / 7, 1 / 600), (2 / (7 * 11), 2 / (600 * 48)), (11**0.5, 48**0.5), (-0.5, -0.5), (0.1, 0.1), (7.0, 600.0)],
)
def test_constants_are_those_of_the_large_program(c, large):
    assert smaller.as_written(c, {600: 7, 48: 11}) == pytest.approx(large, rel=1e-12)


def test_axes_are_cut_alike_and_indices_stay_inside():
    sizes = {40: 7, 50: 11}
    assert [smaller.cut(np.zeros(shape), sizes).shape for shape in ((50, 40), (40, 40), (4,))] == [
        (11, 7),
        (7, 7),
        (4,),
    ]
    assert smaller.cut(np.array([0, 49, 13]), sizes).max() < 7


RULE = """import jax
import jax.numpy as jnp


@jax.custom_vjp
def f(x, W, b):
    return jnp.tanh(x @ W + b) ** 2


def fwd(x, W, b):
    h = jnp.tanh(x @ W + b)
    return h**2, (x, W, h)


def bwd(kept, g):
    x, W, h = kept
    dz = 2 * g * h * (1 - h)
    return dz @ W.T, x.T @ dz, dz.sum(0)


f.defvjp(fwd, bwd)
"""


def test_a_rule_is_cut_as_well():
    found, rng = build.module("large_rule", RULE), np.random.default_rng(0)
    args = [rng.normal(size=shape).astype(np.float32) / 7 for shape in ((900, 48), (48, 40), (40,))]
    traced = trace(lambda leaves, _: [found.f(*leaves)], args, [], "native")
    (one,) = of_rules.problems(traced, args, time.perf_counter() + 60)
    assert one.constants.cut == {40: 7, 48: 11, 900: 13}
    assert max(np.size(x) for x in one.tape.values) < 500
    named = where.culprits(one, ("x", "W", "b"))
    assert [(c.kind, c.source) for c in named] == [("line", "dz = 2 * g * h * (1 - h)")]


@pytest.mark.slow
def test_a_large_rule_is_run_in_its_own_mode():
    """Its programs are of float64: in the other mode JAX warns of every number that it rounds."""
    f = jax.custom_vjp(lambda x: jnp.max(x * x, axis=1))
    f.defvjp(
        lambda x: (jnp.max(x * x, axis=1), x),
        lambda x, g: (0.9 * jax.vjp(lambda x: jnp.max(x * x, axis=1), x)[1](g)[0],),
    )
    x = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    report = jc.check_rule(f, x, level="quick", algebra=False, mode="sketch")  # a warning fails the test
    assert report.verdict is jc.Verdict.FAIL


@pytest.mark.slow
def test_a_search_whose_time_is_over_does_not_begin(monkeypatch):
    met, whole = [], where.Search

    def search(one, *asked):
        met.append(one)
        return whole(one, *asked)

    monkeypatch.setattr(where, "Search", search)
    check("dx = dh * (1 - h**2)", "dx = dh * (1 - h)")
    met[0].deadline = 0.0
    with pytest.raises(Late):
        Projections(met[0])
